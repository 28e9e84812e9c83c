"""Scheduled backups are not one shot: what stands in the way of one delays it, and the health says so."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.agent_process import AgentProcess, with_constants
from tests.support.backend import FEATURE, Backend
from tests.support.http_server import HttpServer, Received, Say
from tests.support.ports import free_port
from tests.support.settings_files import private_file
from tests.support.stalling import stalling

SOON = with_constants(
    "agent.jobs.attempts.BACK_OFF = tuple(each / 100 for each in agent.jobs.attempts.BACK_OFF)",
    "agent.faces.ditto.twin_updates.INTERVAL_S = 0.1",
)
"""Tries again after seconds where it else waits for minutes."""


def told(backend: Backend, wanted: Callable[[dict[str, Any]], object]) -> None:
    """Wait until the twin's health is as wanted."""

    def is_so(_: object) -> bool:
        envelopes = [each for _, each in list(backend.messages) if each["path"] == f"{FEATURE}Status"]
        return bool(envelopes) and bool(wanted(envelopes[-1]["value"]["properties"]["health"]))

    backend.wait(is_so, "the health")


def is_well(health: dict[str, Any]) -> bool:
    return (health["rpoViolated"], health["missed"], health["lastError"]) == (False, 0, "")


def started(device: AgentProcess, backend: Backend, **settings: Any) -> AgentProcess:
    device.settings |= {"period": "24h", "transfer": {"attempts": 1}} | settings
    device.start(*SOON)
    backend.announced()
    return device


def test_a_backup_that_is_due_while_a_job_runs_is_made_after_it(
    device: AgentProcess, backend: Backend
) -> None:
    """It was dropped until the next period."""
    agent = started(device, backend)
    with stalling() as destination:
        backend.ask("backup", {"correlationID": "long", "options": {"https.url": destination.url}})
        assert destination.reached.wait(60)
        assert backend.ask("activate", {})["status"] == 204
        agent.wait_for_log("periodic backup delayed", failures=1)
        told(backend, lambda health: health["lastError"] == "busy")
        destination.release.set()
        assert backend.ended("long")["state"] == "BACKUP_FINISHED"
    agent.wait_for_log("periodic backup begins", failures=1)
    backend.wait(lambda message: message[1]["path"].endswith("/messages/request"), "an archive to upload")
    told(backend, is_well)


def test_a_backup_whose_stick_is_not_there_is_made_when_it_is(device: AgentProcess, backend: Backend) -> None:
    """The newest backup becomes too old meanwhile: by default after two periods."""
    stick = device.work / "stick"
    agent = started(
        device,
        backend,
        active=True,
        period="2s",
        schedule={"store": "stick"},
        targets={"stick": {"path": str(stick)}},
        stores={"stick": {"provider": "local", "options": {"local.target": "stick"}}},
    )
    told(backend, lambda health: health["rpoViolated"] and health["missed"] and health["lastError"])
    stick.mkdir()
    agent.wait_for_log("backup finished")
    assert [path.suffix for path in stick.iterdir()][:1] == [".zip"]
    told(
        backend,
        lambda health: (health["rpoViolated"], health["missed"], health["lastError"]) == (False, 0, ""),
    )


def test_a_backup_whose_server_is_down_is_made_when_it_is_up(device: AgentProcess, backend: Backend) -> None:
    """Five attempts in seven seconds, then nothing for a day."""
    up = False

    def answer(_request: Received) -> Say:
        return Say(201 if up else 503)

    credentials = device.work / "web.json"
    with HttpServer(answer) as server:
        private_file(credentials, f'{{"https.url": "{server.url}/a.zip"}}')
        stores = {"web": {"provider": "generic", "credentials": str(credentials)}}
        agent = started(device, backend, active=True, schedule={"store": "web"}, stores=stores)
        agent.wait_for_log("periodic backup delayed", failures=2)
        told(backend, lambda health: health["lastError"])
        up = True
        agent.wait_for_log("backup finished")
        told(backend, is_well)
    assert agent.count_log("backup finished") == 1


def test_a_tiny_period_of_a_kanto_file_is_a_second(device: AgentProcess, backend: Backend) -> None:
    """10ms was taken: 87 lines of log a second."""
    kanto = ("broker", "dir", "mode", "storage", "logFile", "logLevel")
    device.settings = {key: device.settings[key] for key in kanto} | {"period": "10ms"}
    device.start()
    backend.announced()
    (notice,) = [line for line in device.log_lines() if "'10ms'" in line["event"]]
    assert (notice["level"], "counts as 1s" in notice["event"]) == ("warning", True)
    assert backend.ask("activate", {})["status"] == 204
    backend.wait(lambda _: device.count_log("periodic backup begins") >= 3, "three backups")
    due = [line["due"] for line in device.log_lines() if line["event"] == "periodic backup begins"]
    assert len({each[:19] for each in due}) == len(due), "one for each second"


@pytest.mark.parametrize("period", ["10ms", "0s"])
def test_a_tiny_period_of_ours_is_refused(device: AgentProcess, period: str) -> None:
    device.settings |= {"broker": f"tcp://127.0.0.1:{free_port()}", "period": period}
    device.start()
    assert device.process
    assert device.process.wait(60) == 2
    assert "period: expected a duration of at least 1s" in device.stderr.read_text()
