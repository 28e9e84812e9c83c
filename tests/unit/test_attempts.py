"""The backup of a tick is tried again until it succeeds or the next tick is due."""

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.job import Job, Kind
from agent.jobs.attempts import BACK_OFF, Attempt, Step, next_step, wake_at
from agent.jobs.events import Events, JobEnded
from agent.jobs.frame import Frame
from agent.jobs.schedule_record import ScheduleRecord, Standing
from agent.journal import Journal
from tests.support.fakes import Device
from tests.support.settings_files import private_file
from tests.support.stalling import stalling

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOURLY = Frame(True, NOON, None, HOUR, timedelta(0), NOON)


def tries(frame: Frame, until: datetime, works_from: datetime | None = None) -> tuple[list[datetime], int]:
    """When backups begin, and how many ticks are missed; each fails at once until `works_from`."""
    now, settled, attempt = frame.activated, None, None
    begun, missed = list[datetime](), 0
    while now < until:
        decision = frame.decide(settled, now)
        settled = decision.settled
        step = next_step(decision, attempt, now, is_over=frame.has_ended(now))
        attempt, missed = step.attempt, missed + step.missed
        if step.begin and attempt:
            begun.append(now)
            attempt = None if works_from and now >= works_from else attempt.failed_at(now)
        wake = wake_at(decision, attempt, now)
        if wake is None:
            break
        assert wake > now, "it would turn in a circle"
        now = wake
    return begun, missed


def test_the_waits_grow_to_a_quarter_of_an_hour_and_the_next_tick_ends_them() -> None:
    begun, missed = tries(HOURLY, NOON + HOUR)
    minutes = [(when - NOON) // MINUTE for when in begun]
    assert minutes == [0, 1, 3, 7, 15, 30, 45]
    assert missed == 0, "the first tick is not given up yet"
    begun, missed = tries(HOURLY, NOON + HOUR + SECOND)
    assert (begun[-1], missed) == (NOON + HOUR, 1)


def test_after_a_success_nothing_is_tried_before_the_next_tick() -> None:
    begun, missed = tries(HOURLY, NOON + 3 * HOUR, works_from=NOON + 2 * MINUTE)
    assert [(when - NOON) // MINUTE for when in begun] == [0, 1, 3, 60, 120]
    assert missed == 0


def test_the_end_of_the_frame_ends_the_tries() -> None:
    frame = replace(HOURLY, end=NOON + 5 * MINUTE)
    begun, missed = tries(frame, NOON + 9 * HOUR)
    assert [(when - NOON) // MINUTE for when in begun] == [0, 1, 3]
    assert missed == 1


def test_a_tick_while_the_job_of_the_one_before_runs_does_not_count_that_as_missed() -> None:
    """The job may still succeed."""
    running = Attempt(NOON, "a")
    decision = HOURLY.decide(NOON, NOON + HOUR)
    assert next_step(decision, running, NOON + HOUR) == Step(
        Attempt(NOON + HOUR, since=NOON + HOUR), begin=True
    )
    assert wake_at(decision, running, NOON + HOUR) == NOON + 2 * HOUR


def test_a_clock_put_back_forgets_an_attempt_of_the_future() -> None:
    waiting = Attempt(NOON, "a", 1, NOON)
    decision = HOURLY.decide(NOON, NOON - 5 * HOUR)
    assert decision.clock_went_back
    assert next_step(decision, waiting, NOON - 5 * HOUR) == Step(None)


@given(
    failures=st.integers(1, 100),
    jump=st.timedeltas(-timedelta(days=30_000), timedelta(days=30_000)),
)
def test_no_jump_of_the_clock_makes_a_wait_longer_than_the_longest(failures: int, jump: timedelta) -> None:
    now = NOON + jump
    due = Attempt(NOON, "a", failures, NOON).next_try(now)
    assert due is not None
    assert due - now <= BACK_OFF[-1]


@given(
    period=st.timedeltas(SECOND, timedelta(days=9)),
    hours=st.integers(1, 200),
    works_after=st.none() | st.timedeltas(timedelta(0), timedelta(days=9)),
)
def test_every_tick_succeeds_or_is_missed_and_no_two_tries_are_nearer_than_the_back_off(
    period: timedelta, hours: int, works_after: timedelta | None
) -> None:
    frame = replace(HOURLY, period=period)
    until = min(NOON + hours * HOUR, NOON + 200 * period)
    works_from = None if works_after is None else NOON + works_after
    begun, missed = tries(frame, until, works_from)
    ticks = -(-(until - NOON) // period)
    good = sum(1 for when in begun if works_from and when >= works_from)
    assert missed + good in (ticks, ticks - 1), "the last tick may still be tried"
    for earlier, later in pairwise(begun):
        on_the_grid = (later - NOON) % period == timedelta(0)
        assert on_the_grid or later - earlier >= MINUTE


# The record


@pytest.fixture
def record(journal: Journal) -> ScheduleRecord:
    record = ScheduleRecord(journal)
    record.keep(Standing(Attempt(NOON, "mine"), missed=2, refused="busy"))
    return record


def ended(record: ScheduleRecord, correlation_id: str, code: str = "", *, kept: bool = True) -> Standing:
    job = Job("0" * 16, Kind.BACKUP, correlation_id, NOON)
    end = job.failed(NOON, code, "") if code else job.finished(NOON)
    Events(record.journal, (record,)).emit(JobEnded(end, kept=kept))
    return record.read()


@pytest.mark.parametrize("code", ["no-space", "interrupted", "deadline-exceeded"])
def test_a_failure_of_any_kind_is_tried_again(record: ScheduleRecord, code: str) -> None:
    standing = ended(record, "mine", code)
    assert standing.attempt
    assert (standing.attempt.failures, standing.missed, standing.refused) == (1, 2, "")
    assert standing.attempt.failed


def test_a_success_clears_what_was_missed(record: ScheduleRecord) -> None:
    assert ended(record, "mine") == Standing()


def test_a_cancel_by_a_person_is_final(record: ScheduleRecord) -> None:
    record.cancelling("other")
    record.cancelling("mine")
    assert ended(record, "mine", "any-code-they-like") == Standing(missed=2)


def test_jobs_of_others_and_ends_that_are_not_kept_change_nothing(record: ScheduleRecord) -> None:
    before = record.read()
    assert ended(record, "other", "no-space") == before
    assert ended(record, "mine", "no-space", kept=False) == before


@given(
    st.builds(
        Standing,
        st.none()
        | st.builds(
            Attempt,
            st.timedeltas(timedelta(0), timedelta(days=99_999)).map(lambda ahead: NOON + ahead),
            st.text(max_size=9),
            st.integers(0, 99),
            st.none() | st.just(NOON),
            st.booleans(),
        ),
        st.integers(0, 9),
        st.text(max_size=9),
    )
)
def test_what_is_kept_is_read(standing: Standing) -> None:
    with TemporaryDirectory() as name, closing(Journal(Path(name) / "journal.db")) as journal:
        record = ScheduleRecord(journal)
        record.keep(standing)
        assert record.read() == standing


# In the engine


def daily(tmp_path: Path, **settings: str) -> Device:
    return Device(tmp_path, {"active": "true", "period": "24h", **settings})


def standing(device: Device) -> Standing:
    return ScheduleRecord(device.journal).read()


def wait_is_over(device: Device) -> None:
    """The record as it is when the wait for the next try is over."""
    now = standing(device)
    assert now.attempt
    assert now.attempt.failed
    over = replace(now.attempt, failed=now.attempt.failed - BACK_OFF[-1])
    ScheduleRecord(device.journal).keep(replace(now, attempt=over))


def periodic_ends(device: Device) -> list[str]:
    return [entry.status_code for entry in device.journal.jobs.ended_of(Kind.BACKUP)]


def test_a_backup_whose_store_is_down_is_tried_again_also_by_the_next_run(tmp_path: Path) -> None:
    """It was dropped for a day after five attempts in seven seconds."""
    target = tmp_path / "stick"
    device = daily(
        tmp_path,
        **{
            "schedules.kanto.store": "stick",
            "targets.stick.path": str(target),
            "stores.stick.provider": "local",
            "stores.stick.options": '{"local.target": "stick"}',
        },
    )
    device.finish()
    assert periodic_ends(device) == []
    assert standing(device).refused
    health = device.service.engine.health.value()
    assert health["lastError"] == standing(device).refused
    device.restart()
    assert periodic_ends(device) == [], "the wait goes on over a restart"
    wait_is_over(device)
    target.mkdir()
    device.restart()
    device.finish()
    assert periodic_ends(device) == [""]
    assert standing(device) == Standing()
    device.close()


def test_a_backup_that_is_cut_off_is_tried_again_by_the_next_run(tmp_path: Path) -> None:
    device = daily(tmp_path, beforeRestoreCmd="")
    device.restart()
    assert periodic_ends(device) == ["interrupted"]
    kept = standing(device).attempt
    assert kept
    assert kept.failures == 1
    wait_is_over(device)
    device.restart()
    device.finish()
    assert periodic_ends(device) == ["interrupted", ""]
    device.close()


def to_web(tmp_path: Path, url: str) -> Device:
    """A device that sends its daily backup to a URL."""
    credentials = tmp_path / "web.json"
    private_file(credentials, json.dumps({"https.url": url}))
    return daily(
        tmp_path,
        **{
            "schedules.kanto.store": "web",
            "stores.web.provider": "generic",
            "stores.web.credentials": str(credentials),
        },
    )


def test_a_backup_that_a_person_cancels_is_not_tried_again(tmp_path: Path) -> None:
    with stalling() as destination:
        device = to_web(tmp_path, destination.url)
        assert destination.reached.wait(20)
        running = standing(device).attempt
        assert running
        ((_, answer),) = device.command(
            "cancel", {"correlationID": running.correlation_id, "statusCode": "enough"}
        )
        assert answer["status"] == 204
        device.finish()
        assert periodic_ends(device) == ["enough"]
        assert standing(device) == Standing()
        device.close()
