"""Brokers go away, processes are killed: the agent is there again, and says what became of its work."""

from pathlib import Path

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.backend import FEATURE, LAST_UPLOAD, Backend
from tests.support.mosquitto import Mosquitto
from tests.support.stalling import stalling
from tests.support.trees import differences
from tests.support.waiting import wait_until

from .conftest import contents


def staging(agent: AgentProcess) -> list[Path]:
    return [path for name in ("backups", "downloads") for path in (agent.storage / name).iterdir()]


def restart(broker: Mosquitto, backend: Backend, agent: AgentProcess) -> None:
    """As after a power cut of the broker; returns when both sides are there again."""
    connects = agent.count_log("connected")
    backend.subscribed.clear()
    broker.stop()
    broker.start()
    assert backend.subscribed.wait(20)
    wait_until(lambda: agent.count_log("connected") > connects, what="the agent to be back")


@pytest.mark.parametrize("persistent", [True, False], ids=["with sessions", "without sessions"])
def test_the_agent_answers_after_a_broker_restart_between_jobs(
    agent: AgentProcess, backend: Backend, broker: Mosquitto, persistent: bool
) -> None:
    """Kanto's agent is deaf for ever after this."""
    broker.persistent = persistent
    for name in ("first", "second"):
        restart(broker, backend, agent)
        assert backend.run("backup", name, {"storage.provider": "local"})["state"] == "BACKUP_FINISHED"


def test_a_job_goes_on_through_a_broker_restart_and_its_end_is_told(
    agent: AgentProcess, backend: Backend, broker: Mosquitto
) -> None:
    """What happened while nobody could be told is told afterwards, once, and the twin keeps its values."""
    with stalling() as destination:
        backend.ask("backup", {"correlationID": "long", "options": {"https.url": destination.url}})
        assert destination.reached.wait(20)
        broker.stop()
        destination.release.set()
        agent.wait_for_log("backup finished")
        broker.start()
        assert backend.ended("long")["state"] == "BACKUP_FINISHED"
    announcements = [message["value"] for _, message in backend.messages if message["path"] == FEATURE]
    assert len(announcements) == 2
    known = announcements[-1]["properties"].get("lastOperation", {"state": "BACKUP_STARTED"})
    assert known["state"] == "BACKUP_STARTED", "the announcement is never ahead of the order of events"
    assert [value["state"] for value in backend.values()] == ["BACKUP_STARTED", "BACKUP_FINISHED"]
    assert backend.run("backup", "next", {"storage.provider": "local"})["state"] == "BACKUP_FINISHED"


def test_kill_in_mid_backup_is_reported_as_interrupted_and_leaves_no_file(
    agent: AgentProcess, backend: Backend
) -> None:
    """Once, on the next connect; partial files are gone, and the next command works."""
    with stalling() as destination:
        backend.ask("backup", {"correlationID": "long", "options": {"https.url": destination.url}})
        assert destination.reached.wait(20)
        assert staging(agent)
        agent.kill()
    agent.start()
    ended = backend.ended("long")
    assert (ended["state"], ended["statusCode"]) == ("BACKUP_FAILED", "interrupted")
    assert staging(agent) == []
    assert backend.run("backup", "next", {"storage.provider": "local"})["state"] == "BACKUP_FINISHED"
    states = [value["state"] for value in backend.values() if value["correlationId"] == "long"]
    assert states == ["BACKUP_STARTED", "BACKUP_FAILED"]


def test_kill_in_mid_restore_leaves_the_old_data_and_is_reported(
    agent: AgentProcess, backend: Backend
) -> None:
    before = contents(agent.data)
    with stalling() as destination:
        backend.ask("restore", {"correlationID": "long", "options": {"https.url": destination.url}})
        assert destination.reached.wait(20)
        agent.kill()
    agent.start()
    ended = backend.ended("long")
    assert (ended["state"], ended["statusCode"]) == ("RESTORE_FAILED", "interrupted")
    assert differences(before, contents(agent.data)) == []
    assert staging(agent) == []


def test_a_staged_archive_survives_a_kill_with_its_id(agent: AgentProcess, backend: Backend) -> None:
    """Kanto answers 404 here, and the archive is an orphan."""
    backend.run("backup", "X", {})
    backend.wait(lambda m: m[1]["path"] == f"{FEATURE}/outbox/messages/request")
    agent.kill()
    backend.messages.clear()
    agent.start()
    backend.announced()
    value = {"correlationID": "X#1", "options": {"storage.provider": "local"}}
    assert backend.ask("start", value)["status"] == 204
    assert backend.ended("X", LAST_UPLOAD)["state"] == "SUCCESS"


def test_kill_in_mid_upload_is_reported_and_the_archive_waits_on(
    agent: AgentProcess, backend: Backend
) -> None:
    backend.run("backup", "X", {})
    with stalling() as destination:
        backend.ask("start", {"correlationID": "X#1", "options": {"https.url": destination.url}})
        assert destination.reached.wait(20)
        agent.kill()
    agent.start()
    failed = backend.ended("X", LAST_UPLOAD)
    assert (failed["state"], failed["statusCode"]) == ("FAILED", "interrupted")
    backend.messages.clear()
    value = {"correlationID": "X#1", "options": {"storage.provider": "local"}}
    assert backend.ask("start", value)["status"] == 204
    assert backend.ended("X", LAST_UPLOAD)["state"] == "SUCCESS"


def test_a_command_that_came_before_a_kill_is_not_run_again_after_it(
    agent: AgentProcess, backend: Backend
) -> None:
    """The journal knows it; the answer is repeated."""
    value = {"correlationID": "X", "options": {"storage.provider": "local"}}
    header = backend.ask("backup", value, request_id="r1")["headers"]["correlation-id"]
    backend.ended("X")
    agent.kill()
    agent.start()
    wait_until(lambda: agent.count_log("connected") == 2, what="the agent to be back")
    backend.send("backup", value, request_id="r1", correlation_id=header)
    backend.ask("nothing-of-the-kind")
    answers = [message for topic, message in backend.messages if topic.endswith("/res/r1/204")]
    assert len(answers) == 2
    assert answers[0] == answers[1]
    assert [value["state"] for value in backend.values()] == ["BACKUP_STARTED", "BACKUP_FINISHED"]


def test_a_corrupt_journal_is_set_aside_and_the_agent_works(agent: AgentProcess, backend: Backend) -> None:
    agent.stop()
    journal = agent.storage / "journal.db"
    journal.write_bytes(b"this is no database" * 1000)
    backend.messages.clear()
    agent.start()
    backend.announced()
    agent.wait_for_log("journal is corrupt, a fresh one is started")
    assert backend.run("backup", "X", {"storage.provider": "local"})["state"] == "BACKUP_FINISHED"
    assert list(agent.storage.glob("journal.db.corrupt-*"))
