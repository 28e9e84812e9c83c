"""Status and twin say when a schedule is due, how its last backup ended, and why one is late."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.base.job import Kind
from agent.base.times import NEVER_IN_ORDER, format_time
from agent.cli.status import _schedule_lines
from agent.jobs.engine import Engine
from agent.jobs.schedule_record import ScheduleRecord, Standing
from agent.jobs.staging import Staging
from agent.journal import Journal
from agent.mailbox import Mailbox
from agent.settings.load import load
from tests.support.fakes import Device

STATUS = "/features/BackupAndRestoreStatus"


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[Callable[..., Device]]:
    made: list[Device] = []

    def build(**settings: str) -> Device:
        made.append(device := Device(tmp_path, settings))
        return device

    yield build
    for device in made:
        device.close()


def twin(device: Device) -> dict[str, Any]:
    """The properties of the status feature, as they are told now."""
    device.service.status.tell()
    device.acknowledge()
    return dict(device.values(STATUS)[-1]["properties"])


def test_a_device_without_schedules_tells_none(devices: Callable[..., Device]) -> None:
    device = devices()
    assert "schedule" not in twin(device)
    assert "schedules" not in device.command("status")[0][1]["value"]


def test_the_twin_says_when_the_schedule_is_due_and_how_the_last_backup_ended(
    devices: Callable[..., Device],
) -> None:
    device = devices(active="true", period="24h")
    device.finish()
    (name,), (told,) = twin(device)["schedule"].keys(), twin(device)["schedule"].values()
    (record,) = device.journal.jobs.ended_before(None)
    assert name == "kanto"
    assert datetime.fromisoformat(told.pop("next")) > datetime.now(UTC)
    assert told == {"last": record.ended, "missed": 0, "lastError": "", "late": False}
    answer = device.command("status")[0][1]["value"]["schedules"]["kanto"]
    assert answer["last"] == {"endTime": record.ended, "state": "FINISHED", "statusCode": ""}


def test_after_its_window_a_backup_that_could_not_begin_is_missed_and_the_reason_stays(
    devices: Callable[..., Device], tmp_path: Path
) -> None:
    device = devices(
        **{
            "active": "true",
            "period": "24h",
            "targets.usb.path": str(tmp_path / "usb"),
            "stores.usb.provider": "local",
            "stores.usb.options": json.dumps({"local.target": "usb"}),
            "schedules.kanto.store": "usb",
            "schedules.kanto.window": "1h",
        }
    )
    late = twin(device)["schedule"]["kanto"]
    assert (late["late"], late["lastError"], late["missed"], late["last"]) == (
        True,
        "cannot",
        0,
        NEVER_IN_ORDER,
    )
    record = ScheduleRecord(device.journal)
    standing = record.read()
    assert standing.attempt
    assert standing.attempt.since
    begun = standing.attempt.since - timedelta(hours=1)
    record.keep(replace(standing, attempt=replace(standing.attempt, since=begun)))
    device.restart()
    over = twin(device)["schedule"]["kanto"]
    assert (over["late"], over["lastError"], over["missed"]) == (False, "cannot", 1)


def test_schedules_that_do_not_fit_into_the_message_are_counted(devices: Callable[..., Device]) -> None:
    device = devices(**{f"schedules.number-{number}.times": "02:00" for number in range(9)})
    told = twin(device)
    assert 0 < len(told["schedule"]) < 9
    assert len(told["schedule"]) + told["scheduleMore"] == 9
    payload = device.wire.raw[-1][1]
    assert len(payload) < 2048


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"schedules.a.cron": "*/5 * * * *"}, "a"), ({"active": "true", "period": "1m"}, "")],
)
def test_an_edited_schedule_has_missed_nothing_of_what_it_was_not(
    devices: Callable[..., Device], settings: dict[str, str], name: str
) -> None:
    """vorta #1184: it makes up for the newest of its new times. The others never were due."""
    device = devices(**settings)

    def missed_since_five_hours_ago(rule: str | None) -> int:
        record = ScheduleRecord(device.journal, name)
        device.journal.notes.keep(record.note("settled"), format_time(datetime.now(UTC) - timedelta(hours=5)))
        if rule:
            device.journal.notes.keep(record.note("rule"), rule)
        record.keep(Standing())
        device.restart()
        return ScheduleRecord(device.journal, name).read().missed

    assert missed_since_five_hours_ago("0 3 1 * *") == 0
    assert missed_since_five_hours_ago(None) > 50, "what the schedule has been since, it has missed"
    device.finish()
    (made, *_) = device.journal.jobs.ended_of(Kind.BACKUP)
    assert made.facts["schedule"] == (name or "kanto")


def test_the_command_line_says_how_each_store_stands() -> None:
    last = {"endTime": "2026-06-01T02:00:09.000000Z", "state": "FAILED", "statusCode": "no-space"}
    well = {"missed": 0, "lastError": "", "late": False, "last": None}
    usb = {"missed": 2, "lastError": "no-space", "late": True, "last": last}
    schedule = {"next": None, **usb, "stores": {"usb": usb, "cloud": well}}
    first, *stores = _schedule_lines("nightly", schedule)
    assert first.startswith("schedule nightly: none is due, last failed 2026-06-01")
    assert first.endswith(", 2 missed, one is late (no-space)")
    assert [line.split(",")[0] for line in stores] == ["  store usb", "  store cloud"]


def test_a_backup_that_could_not_begin_is_told_without_any_event(tmp_path: Path) -> None:
    """No job began, so no event tells of it: the twin would show the old health for up to an hour."""
    settings = load({"storage": str(tmp_path / "storage"), "active": "true"}, None, {}).settings
    staging, told = Staging(settings.storage), list[bool]()
    journal = Journal(staging.journal)
    engine = Engine(
        settings,
        Mailbox(),
        staging=staging,
        journal=journal,
        subscribers=(),
        changed=lambda: told.append(True),
    )
    engine.identified("edge:device")
    assert ScheduleRecord(journal).read().refused
    assert told
    journal.close()
    staging.close()
