"""Brokers go away, processes are killed: the agent is there again, and says what became of its work."""

from pathlib import Path
from typing import Any

import pytest

from providers.testing.faultproxy import FaultProxy
from tests.support.agent_process import AgentProcess
from tests.support.backend import DEVICE, FEATURE, LAST_UPLOAD, Backend
from tests.support.mosquitto import Mosquitto
from tests.support.stalling import stalling
from tests.support.trees import contents, differences
from tests.support.waiting import wait_until

LOCAL = {"storage.provider": "local"}


def staging(agent: AgentProcess) -> list[Path]:
    return [path for name in ("backups", "downloads") for path in (agent.storage / name).iterdir()]


def restart(broker: Mosquitto, backend: Backend, agent: AgentProcess) -> None:
    """As after a power cut of the broker; returns when both sides are there again."""
    connects = agent.count_log("connected")
    backend.subscribed.clear()
    broker.stop()
    broker.start()
    assert backend.subscribed.wait(60)
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
    """Events of a time without a connection are told afterwards, once, and the twin keeps its values."""
    with stalling() as destination:
        backend.ask("backup", {"correlationID": "long", "options": {"https.url": destination.url}})
        assert destination.reached.wait(60)
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
        assert destination.reached.wait(60)
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
        assert destination.reached.wait(60)
        agent.kill()
    agent.start()
    ended = backend.ended("long")
    assert (ended["state"], ended["statusCode"]) == ("RESTORE_FAILED", "interrupted")
    assert differences(before, contents(agent.data)) == []
    assert staging(agent) == []


def test_kill_in_mid_upload_is_reported_and_the_archive_waits_on(
    agent: AgentProcess, backend: Backend
) -> None:
    backend.run("backup", "X", {})
    with stalling() as destination:
        backend.ask("start", {"correlationID": "X#1", "options": {"https.url": destination.url}})
        assert destination.reached.wait(60)
        agent.kill()
    agent.start()
    failed = backend.ended("X", LAST_UPLOAD)
    assert (failed["state"], failed["statusCode"]) == ("FAILED", "interrupted")
    backend.messages.clear()
    value = {"correlationID": "X#1", "options": {"storage.provider": "local"}}
    assert backend.ask("start", value)["status"] == 204
    assert backend.ended("X", LAST_UPLOAD)["state"] == "SUCCESS"


def test_a_corrupt_journal_is_set_aside_and_the_agent_works(agent: AgentProcess, backend: Backend) -> None:
    agent.stop()
    journal = agent.storage / "journal.db"
    journal.write_bytes(b"this is no database" * 1000)
    backend.messages.clear()
    agent.start()
    backend.announced()
    agent.wait_for_log("journal corrupt, new one started")
    assert backend.run("backup", "X", {"storage.provider": "local"})["state"] == "BACKUP_FINISHED"
    assert list(agent.storage.glob("journal.db.corrupt-*"))


def test_a_connection_that_breaks_with_the_answer_costs_nothing(
    device: AgentProcess, broker: Mosquitto, backend: Backend
) -> None:
    """The command runs once; answer, STARTED and FINISHED arrive in their order, over a new connection."""
    with FaultProxy(("127.0.0.1", broker.port)) as proxy:
        host, port = proxy.address
        device.settings["broker"] = f"tcp://{host}:{port}"
        device.start()
        backend.announced()
        assert backend.ask("nothing")["status"] == 400
        proxy.reset_after = {"up": proxy.passed["up"] + 2}  # not even the acknowledgement gets through
        header = backend.send("backup", {"correlationID": "X", "options": LOCAL}, request_id="r")
        wait_until(lambda: device.count_log("disconnected"), what="the connection to break")
        proxy.reset_after = {}
        assert backend.answer(header)["status"] == 204
        assert backend.ended("X")["state"] == "BACKUP_FINISHED"
    assert [value["state"] for value in backend.values()] == ["BACKUP_STARTED", "BACKUP_FINISHED"]
    topics = [topic for topic, message in backend.messages if message["path"].count("/") > 2]
    assert topics.index(f"command//{DEVICE}/res/r/204") < topics.index("e")


def test_a_frame_set_by_a_command_survives_crashes_restarts_and_reconnects(
    agent: AgentProcess, backend: Backend, broker: Mosquitto
) -> None:
    """Kanto's agent forgets it."""
    start, end = "2100-01-01T00:00:00.000000Z", "2100-01-02T00:00:00.000000Z"

    def announced(number: int) -> dict[str, Any]:
        """Return the frame in the announcement with this number."""

        def announcements() -> list[dict[str, Any]]:
            return [m[1]["value"]["properties"] for m in list(backend.messages) if m[1]["path"] == FEATURE]

        backend.wait(lambda _: len(announcements()) > number, f"announcement {number}")
        return dict(announcements()[number]["autoUpload"])

    backend.ask("activate", {"from": start, "to": end})
    agent.kill()
    agent.start()
    assert announced(1) == {"active": True, "startTime": start, "endTime": end}
    backend.ask("deactivate")
    assert agent.stop() == 0
    agent.start()
    assert announced(2)["active"] is False
    backend.ask("activate", {"from": start})
    broker.stop()
    broker.start()
    assert announced(3) == {"active": True, "startTime": start, "endTime": None}
