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
from tests.support.settings_files import private_file
from tests.support.stalling import stalling
from tests.support.waiting import wait_until

NIGHT = datetime(2026, 6, 1, 1, 59, 58, tzinfo=UTC)
BEFORE = NIGHT - timedelta(minutes=10)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def device(tmp_path: Path, broker: Mosquitto, clock: Clock) -> Iterator[AgentProcess]:
    stick = tmp_path / "stick"
    agent = Clocked(
        tmp_path / "device",
        broker.port,
        deviceId="edge:device",
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
    done = subprocess.run(command, check=False, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return {name: each["next"] for name, each in json.loads(done.stdout)["schedules"].items()}


def get_known(device: AgentProcess, clock: Clock) -> None:
    """Let the device run for the first time, as new schedules wait for their next moment."""
    clock.set(BEFORE)
    device.start()
    device.wait_for_log("connected")
    due = "2026-06-01T02:00:00.000000Z"
    wait_until(lambda: set(next_due(device).values()) == {due}, what="the schedules")
    device.stop()


def test_two_schedules_at_one_time_both_make_their_backup(
    device: AgentProcess, clock: Clock, broker: Mosquitto, tmp_path: Path
) -> None:
    get_known(device, clock)
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
        clock.set(BEFORE + timedelta(days=3))
        device.start()
        wait_until(lambda: device.count_log("backup finished") == 4, what="both to be made up for")
        device.wait_for_log("periodic backups missed", schedule="nightly", count=1)


def test_a_kill_between_two_stores_neither_makes_the_archive_again_nor_sends_it_twice(
    tmp_path: Path, broker: Mosquitto, clock: Clock
) -> None:
    """Whichever store comes first: after the start the other one, or both, get the archive that is there."""
    stick, credentials = tmp_path / "stick", tmp_path / "web.json"
    stick.mkdir()
    with stalling() as web:
        private_file(credentials, json.dumps({"https.url": web.url}))
        device = Clocked(
            tmp_path / "device",
            broker.port,
            deviceId="edge:device",
            targets={"stick": {"path": str(stick)}},
            stores={
                "stick": {"provider": "local", "options": {"local.target": "stick"}},
                "web": {"provider": "generic", "credentials": str(credentials)},
            },
            schedules={"nightly": {"times": "02:00", "timezone": "UTC", "store": ["stick", "web"]}},
        )
        device.environment |= clock.environment
        try:
            get_known(device, clock)
            clock.set(NIGHT)
            device.start()
            assert web.reached.wait(60)
            device.kill()
            web.release.set()
            clock.set(NIGHT + timedelta(minutes=10))
            device.start()
            device.wait_for_log("unfinished job ended")
            wait_until(lambda: device.count_log("backup finished"), what="the store that was not cut off")
            device.stop()
            clock.set(NIGHT + timedelta(minutes=30))  # the wait after a failure is over
            device.start()
            wait_until(lambda: device.count_log("backup finished") == 2, what="both stores")
            (archive,) = stick.iterdir()
            assert device.count_log("backup finished", archive=archive.name) == 2
            assert device.count_log("phase entered", phase="archiving") == 1
        finally:
            device.end()
