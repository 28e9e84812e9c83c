"""A few days of a device without a clock of its own, as one story of the installed program.

It boots in 1970, hears the time and its name an hour later, is off for two nights, is frozen, has its log
rotated, loses its stick and its feature. All of that is in its log, which a stranger has to understand.
"""

import json
import os
import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.backend import DEVICE, FEATURE, THING, Backend
from tests.support.clocked import Clock, Clocked
from tests.support.mosquitto import Mosquitto
from tests.support.stalling import stalling
from tests.support.waiting import wait_until

BOOT = datetime(1970, 1, 1, 0, 0, 20, tzinfo=UTC)
NIGHT = datetime(2026, 6, 1, 2, tzinfo=UTC)
STATUS = f"{FEATURE}Status"


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def device(tmp_path: Path, broker: Mosquitto, clock: Clock) -> Iterator[AgentProcess]:
    agent = Clocked(
        tmp_path / "device",
        broker.port,
        active=True,
        period="24h",
        logLevel="INFO",
        **{
            "schedules.kanto.store": "stick",
            "metrics.textfile": str(tmp_path / "edge.prom"),
            "targets": {"stick": {"path": str(tmp_path / "stick")}},
            "stores": {"stick": {"provider": "local", "options": {"local.target": "stick"}}},
        },
    )
    (tmp_path / "stick").mkdir()
    (agent.data / "file").write_text("content")
    agent.environment |= clock.environment
    try:
        yield agent
    finally:
        agent.end()


def health(backend: Backend) -> dict[str, Any]:
    """The newest value of the property."""
    values = [each["value"] for _, each in list(backend.messages) if each["path"] == STATUS]
    return dict(values[-1]["properties"]["health"]) if values else {}


def test_a_few_days_of_a_device(
    device: AgentProcess, clock: Clock, broker: Mosquitto, tmp_path: Path
) -> None:
    # Boot without a clock and without a network.
    broker.stop()
    clock.set(BOOT)
    device.start()
    device.wait_for_log("broker cannot be reached, trying again")

    # An hour later both are there.
    clock.set(NIGHT)
    broker.start()
    with Backend(broker.port) as backend:
        backend.announced()
        device.wait_for_log("backup finished")

        # Off for two nights, and on in the third.
        assert device.stop() == 0
        clock.set(NIGHT + timedelta(days=3, minutes=1))
        device.start()
        device.wait_for_log("periodic backups missed", count=2)
        wait_until(lambda: device.count_log("backup finished") == 2, what="the newest one to run")

        # The container is frozen, and thawed two hours later.
        os.kill(device.pid, signal.SIGSTOP)
        clock.set(NIGHT + timedelta(days=3, hours=2))
        os.kill(device.pid, signal.SIGCONT)
        assert backend.ask("status", {})["status"] == 200

        # The clock is set back by a year in the middle of a job.
        with stalling() as destination:
            backend.ask("backup", {"correlationID": "X", "options": {"https.url": destination.url}})
            assert destination.reached.wait(60)
            clock.set(NIGHT - timedelta(days=365))
            destination.release.set()
            assert backend.ended("X")["state"] == "BACKUP_FINISHED"
        assert 0 < device.wait_for_log("backup finished", correlation_id="X")["seconds"] < 60
        wait_until(lambda: 0 < last_duration_s(tmp_path / "edge.prom") < 60, what="the metrics to say so")
        clock.set(NIGHT + timedelta(days=3, hours=3))

        # Its log is rotated by another program.
        old = tmp_path / "device" / "agent.log.old"
        device.log.rename(old)
        backend.run("backup", "Y", {"storage.provider": "local", "local.target": "stick"})
        device.wait_for_log("backup finished", correlation_id="Y")

        # The stick is not there at night.
        (tmp_path / "stick").rename(tmp_path / "drawer")
        assert device.stop() == 0
        clock.set(NIGHT + timedelta(days=4, minutes=1))
        device.start()
        device.wait_for_log("periodic backup delayed", failures=1)
        backend.wait(lambda _: bool(health(backend).get("lastError")), "the twin to know")
        (tmp_path / "drawer").rename(tmp_path / "stick")
        assert device.stop() == 0
        clock.set(NIGHT + timedelta(days=4, minutes=3))
        device.start()
        wait_until(lambda: device.count_log("backup finished") == 2, what="the next try")

        # Somebody deletes the feature in the twin.
        before = announcements(backend)
        event = {"topic": f"{THING}/things/twin/events/deleted", "headers": {}, "path": FEATURE}
        backend.publish(f"command//{DEVICE}/req//deleted", json.dumps(event))
        backend.wait(lambda _: announcements(backend) > before, "the feature to be there again")

        # All is well in the end, and a restart begins nothing.
        backend.wait(lambda _: health(backend)["lastSuccess"].startswith("2026-06-05"), "the last word")
        assert health(backend)["lastError"] == ""
        assert (health(backend)["missed"], health(backend)["rpoViolated"]) == (0, False)
        assert device.stop() == 0
        device.start()
        wait_until(lambda: device.count_log("connected") == 3, what="the last start")
        assert backend.ask("status", {})["value"]["job"] is None
        assert device.stop() == 0
    told = [story_line(line) for line in [*lines(old), *device.log_lines()]]
    assert [line for line in told if line] == STORY
    assert any(line.get("clock_set_by_s", 0) < -360 * 86_400 for line in lines(old))


def last_duration_s(metrics: Path) -> float:
    """The duration of the last backup, for Prometheus; 0 while the file does not tell one."""
    text = metrics.read_text() if metrics.exists() else ""
    found = re.search(r'_last_job_duration_seconds{kind="backup"} (\S+)', text)
    return float(found[1]) if found else 0


def announcements(backend: Backend) -> int:
    return sum(message["path"] == FEATURE for _, message in list(backend.messages))


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def story_line(line: dict[str, Any]) -> str:
    """A line as a reader skims it, without what differs from run to run; nothing for what chance brings."""
    if line["event"] in ("broker cannot be reached, trying again", "transfer failed, trying again"):
        return ""
    facts: dict[str, Any] = {key: line[key] for key in ("count", "failures") if key in line}
    if line["event"] == "periodic backup refused":
        facts["reason"] = line["reason"]
    if "clock_set_by_s" in line and line["event"] != "backup finished":  # or a line of the transfer has it
        facts["clock_set_by_days"] = f"{line['clock_set_by_s'] / 86_400:+.1f}"
    told = " ".join(f"{key}={value}" for key, value in facts.items())
    return f"{line['level']}: {line['event']} {told}".rstrip()


STORY = """
info: agent started
info: connected clock_set_by_days=+20605.1
info: identity received
info: clock set for the first time: periodic backups rescheduled
info: periodic backup begins failures=0
info: backup started
info: backup finished
info: agent stopping
info: agent stopped
info: agent started
info: connected
info: identity received
warning: periodic backups missed count=2
info: periodic backup begins failures=0
info: backup started
info: backup finished
info: backup started clock_set_by_days=+0.1
info: backup finished
info: backup started clock_set_by_days=+368.1
info: backup finished
info: agent stopping
info: agent stopped
info: agent started
info: connected
info: identity received
info: periodic backup begins failures=0
warning: periodic backup refused reason=target 'stick' is not there: plug it in or create it
warning: periodic backup delayed failures=1
info: agent stopping
info: agent stopped
info: agent started
info: connected
info: identity received
info: periodic backup begins failures=1
info: backup started
info: backup finished
warning: feature deleted in the twin, announcing it again
info: agent stopping
info: agent stopped
info: agent started
info: connected
info: identity received
info: agent stopping
info: agent stopped
""".strip().splitlines()
"""The log of the three starts before the rotation, and of those after it."""
