"""The values that a fleet's operator searches for, by a clock that the test moves."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.base.job import Job, Kind
from agent.base.times import NEVER_IN_ORDER, format_time
from agent.jobs.frame import Frame
from agent.jobs.queries.health import Health
from agent.jobs.queries.history import History
from agent.jobs.schedule_record import ScheduleRecord, Standing
from agent.journal import LAST_VERIFIED, Journal
from agent.mailbox import Action, Timer
from tests.support.fakes import Device

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
OFF = Frame(False, None, None, 10 * HOUR, timedelta(0), START)
DAILY = Frame(True, None, None, 24 * HOUR, timedelta(0), START)


class Rig:
    """`pass_time` moves the clock to what was waited for, and then lets it happen."""

    def __init__(self, journal: Journal, rpo: timedelta | None = timedelta(0)) -> None:
        self.journal, self.now = journal, START
        self.waiting: list[tuple[datetime, Action]] = []
        self.told: list[dict[str, Any]] = []
        self.frame, self.record = OFF, ScheduleRecord(journal)
        self.health = Health(
            journal,
            History(journal),
            rpo,
            self._later,
            limit=self._limit,
            records=[[self.record]],
            changed=lambda: self.told.append(dict(self.health.value())),
            now=lambda: self.now,
        )

    def _limit(self, success: datetime | None, now: datetime) -> datetime | None:
        return self.frame.limit(success, now)

    def _later(self, delay_s: float, action: Action) -> Timer:
        self.waiting = [(self.now + timedelta(seconds=delay_s), action)]
        return Timer(0, 0, action, [])

    def pass_time(self) -> None:
        ((self.now, action),) = self.waiting
        action()

    def job(self, number: int, kind: Kind = Kind.BACKUP, code: str = "") -> None:
        job = Job(f"{number:016x}", kind, "c", self.now)
        self.journal.jobs.started(job, Path("/data"), [])
        self.journal.jobs.ended(job.failed(self.now, code, "") if code else job.finished(self.now))
        self.health.look()


@pytest.fixture
def rig(journal: Journal) -> Rig:
    return Rig(journal)


def test_before_the_first_backup_everything_is_never_and_nothing_wakes_up(rig: Rig) -> None:
    rig.health.look()
    assert rig.waiting == []
    assert rig.health.value() == {
        "lastSuccess": NEVER_IN_ORDER,
        "lastVerified": NEVER_IN_ORDER,
        "lastError": "",
        "ageSeconds": None,
        "missed": 0,
        "rpoViolated": False,
    }


def test_never_is_older_than_any_time_for_a_search(rig: Rig) -> None:
    times = [format_time(START), format_time(datetime.min.replace(year=1970, tzinfo=UTC))]
    assert all(text > NEVER_IN_ORDER and len(NEVER_IN_ORDER) == len(text) for text in times)


def test_the_age_grows_by_whole_hours_and_is_told_once_in_each(rig: Rig) -> None:
    rig.job(1)
    for _ in range(3):
        rig.pass_time()
    assert [told["ageSeconds"] for told in rig.told] == [3600, 7200, 10800]
    assert rig.now < START + timedelta(hours=3, seconds=10)


def test_too_old_is_told_at_the_time_without_any_event(journal: Journal) -> None:
    rig = Rig(journal, rpo=timedelta(minutes=90))
    rig.job(1)
    rig.pass_time()
    assert not rig.told[-1]["rpoViolated"]
    rig.pass_time()
    assert rig.told[-1]["rpoViolated"]
    assert rig.now < START + timedelta(minutes=91)
    rig.job(2)
    assert not rig.health.value()["rpoViolated"]
    assert len(rig.waiting) == 1


def test_a_device_that_never_made_a_backup_violates_its_rpo(journal: Journal) -> None:
    assert Rig(journal, rpo=timedelta(days=1)).health.value()["rpoViolated"]


def test_a_failure_stays_until_a_job_of_its_kind_ends_well(rig: Rig) -> None:
    for number, (kind, code, shown) in enumerate(
        [
            (Kind.BACKUP, "no-space", "no-space"),
            (Kind.RESTORE, "", "no-space"),
            (Kind.RESTORE, "not-found", "not-found"),
            (Kind.BACKUP, "", "not-found"),
            (Kind.RESTORE, "", ""),
        ]
    ):
        rig.job(number, kind, code)
        assert rig.health.value()["lastError"] == shown, number


def test_a_failed_backup_and_a_restore_are_no_success(rig: Rig) -> None:
    rig.job(1)
    rig.now += timedelta(minutes=5)
    rig.job(2, code="no-space")
    rig.job(3, Kind.RESTORE)
    assert rig.health.value()["lastSuccess"] == format_time(START)


def test_it_survives_restarts_and_the_job_s_own_record(tmp_path: Path) -> None:
    """Of a device that has only failed since, `journal.maxJobs` would forget when it last worked."""
    journal = Journal(tmp_path / "journal.db", kept_jobs=2)
    rig = Rig(journal)
    rig.job(1)
    journal.notes.keep(LAST_VERIFIED, json.dumps({"time": format_time(START)}))
    for number in range(2, 6):
        rig.job(number, code="no-space")
    journal.close()
    journal = Journal(tmp_path / "journal.db")
    rig = Rig(journal)
    assert rig.health.value() == {
        "lastSuccess": format_time(START),
        "lastVerified": format_time(START),
        "lastError": "no-space",
        "ageSeconds": 0,
        "missed": 0,
        "rpoViolated": False,
    }
    rig.health.look()
    assert len(rig.waiting) == 1
    journal.close()


def test_a_clock_that_was_set_back_makes_nothing_younger_than_new(rig: Rig) -> None:
    rig.job(1)
    rig.now -= timedelta(days=400)
    assert rig.health.value()["ageSeconds"] == 0


def test_without_a_limit_two_periods_of_an_active_schedule_are_one(journal: Journal) -> None:
    """An owner who switches periodic backups on is told when none comes, without a further setting."""
    rig = Rig(journal, rpo=None)
    rig.frame = DAILY
    rig.health.look()
    assert not rig.health.value()["rpoViolated"], "its first two days have begun"
    for number in range(2):
        told_until = START + timedelta(hours=48, minutes=2) + (rig.now - START)
        while not (rig.told and rig.told[-1]["rpoViolated"]):
            rig.pass_time()
        assert told_until - timedelta(minutes=2) < rig.now < told_until
        rig.job(number)
        rig.told.clear()
        assert not rig.health.value()["rpoViolated"]


def test_a_schedule_that_has_not_begun_or_has_ended_or_is_off_violates_nothing(journal: Journal) -> None:
    rig = Rig(journal, rpo=None)
    rig.now += timedelta(days=99)
    for frame in (
        OFF,
        replace(DAILY, end=START + HOUR),
        replace(DAILY, start=rig.now + HOUR),
        replace(DAILY, start=datetime.max.replace(tzinfo=UTC) - HOUR),
    ):
        rig.frame = frame
        rig.health.look()
        assert not rig.health.value()["rpoViolated"]


def test_a_schedule_that_begins_again_does_not_answer_for_the_time_it_was_off(journal: Journal) -> None:
    rig = Rig(journal, rpo=None)
    rig.job(1)
    rig.now += timedelta(days=99)
    rig.frame = replace(DAILY, activated=rig.now)
    assert not rig.health.value()["rpoViolated"]


def test_a_limit_of_zero_allows_any_age_also_with_a_schedule(rig: Rig) -> None:
    rig.frame = DAILY
    rig.now += timedelta(days=99)
    assert not rig.health.value()["rpoViolated"]


def test_a_refused_backup_of_the_schedule_is_the_last_error(rig: Rig) -> None:
    """It became no job, so the history has nothing to say about it."""
    rig.record.keep(Standing(missed=3, refused="busy"))
    assert (rig.health.value()["lastError"], rig.health.value()["missed"]) == ("busy", 3)


def test_a_success_in_the_future_does_not_hide_that_none_came_since(journal: Journal) -> None:
    """Of a device that booted in 2098: its clock was put right, and no backup succeeds any more."""
    rig = Rig(journal, rpo=None)
    rig.now += timedelta(days=26_000)
    rig.job(1)
    rig.now = START + timedelta(hours=49)
    rig.frame = DAILY
    assert rig.health.value()["rpoViolated"]


@pytest.fixture
def nightly(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path, {"schedules.nightly.times": "02:00", "schedules.nightly.timezone": "UTC"})
    device.service.engine.identified("edge:device")
    yield device
    device.close()


def second_night(now: datetime) -> datetime:
    """An hour after the second 02:00 from now on."""
    first = now.replace(hour=2, minute=0, second=0, microsecond=0)
    return first + timedelta(days=1 if now < first else 2, hours=1)


def test_a_schedule_that_never_made_a_backup_is_too_late_after_its_second_night(nightly: Device) -> None:
    """However many nights have passed: each is dealt with when it is missed."""
    schedules, limit = nightly.service.engine.schedules, second_night(datetime.now(UTC))
    assert schedules.limit(None, datetime.now(UTC)) == limit
    weeks_later = datetime.now(UTC) + timedelta(days=21)
    nightly.journal.notes.keep("schedule.nightly.settled", format_time(weeks_later))
    assert schedules.limit(None, datetime.now(UTC)) == limit


def test_a_new_schedule_is_not_late_for_a_backup_of_long_ago(nightly: Device) -> None:
    schedules, now = nightly.service.engine.schedules, datetime.now(UTC)
    assert schedules.limit(now - timedelta(days=300), now) == second_night(now)
    assert schedules.limit(now + timedelta(days=5), now) == second_night(now + timedelta(days=5))
