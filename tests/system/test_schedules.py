"""Schedules by the clock, as an operator sets them: two that are due at one time, and missed nights."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.backend import Backend
from tests.support.clocked import Clock, Clocked
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import wait_until

NIGHT = datetime(2026, 6, 1, 1, 59, 58, tzinfo=UTC)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def device(tmp_path: Path, broker: Mosquitto, clock: Clock) -> Iterator[AgentProcess]:
    stick = tmp_path / "stick"
    agent = Clocked(
        tmp_path / "device",
        broker.port,
        targets={"stick": {"path": str(stick)}},
        stores={"stick": {"provider": "local", "options": {"local.target": "stick"}}},
        dataSets={"app": {"paths": str(tmp_path / "device" / "data" / "config")}},
        schedules={
            "nightly": {"times": ["02:00"], "timezone": "UTC", "store": "stick", "name": "night"},
            "settings": {"cron": "0 2 * * *", "timezone": "UTC", "store": "stick", "dataSets": ["app"]},
        },
    )
    stick.mkdir()
    agent.environment |= clock.environment
    try:
        yield agent
    finally:
        agent.end()


def next_due(device: AgentProcess) -> dict[str, str]:
    """When each schedule is due next, as the command line tells."""
    config = str(device.work / "config.json")
    command = [sys.executable, "-m", "agent", "status", "--json", "--config", config]
    told = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    return {name: each["next"] for name, each in json.loads(told)["schedules"].items()}


def test_two_schedules_at_one_time_both_make_their_backup(
    device: AgentProcess, clock: Clock, broker: Mosquitto, tmp_path: Path
) -> None:
    clock.set(NIGHT)
    device.start()
    with Backend(broker.port) as backend:
        backend.announced()
        wait_until(lambda: device.count_log("backup finished") == 2, what="both backups")
        for schedule in ("nightly", "settings"):
            assert device.count_log("periodic backups missed", schedule=schedule) == 0
        names = sorted(path.name for path in (tmp_path / "stick").iterdir())
        assert len(names) == 2
        assert sum(name.startswith("night-") for name in names) == 1
        assert next_due(device) == dict.fromkeys(("nightly", "settings"), "2026-06-02T02:00:00.000000Z")

        # Off for two nights: each makes up for the newest one.
        device.stop()
        clock.set(NIGHT + timedelta(days=3))
        device.start()
        wait_until(lambda: device.count_log("backup finished") == 4, what="both to be made up for")
        device.wait_for_log("periodic backups missed", schedule="nightly", count=1)
