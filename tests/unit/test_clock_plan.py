"""Schedules by the clock: each moment once, whatever time zones and clocks do."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.clock_times import ClockTimes, check_cron, cron_of, zone
from agent.jobs.attempts import Attempt
from agent.jobs.schedules import MOST_COUNTED, ClockPlan
from agent.settings import Settings
from agent.settings.schedules import schedule_problems

BERLIN = ZoneInfo("Europe/Berlin")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def plan(*times: str, window: timedelta | None = None) -> ClockPlan:
    return ClockPlan(ClockTimes(tuple(map(cron_of, times)), BERLIN), window)


def moments(times: ClockTimes, first: datetime, last: datetime) -> list[datetime]:
    found, moment = list[datetime](), times.after(first)
    while moment and moment <= last:
        found.append(moment)
        moment = times.after(moment)
    return found


@pytest.mark.parametrize(
    ("text", "cron"),
    [("02:00", "0 2 * * *"), ("Mon..Fri 13:30", "30 13 * * MON-FRI"), ("Sun 23:59", "59 23 * * SUN")],
)
def test_a_time_is_a_cron_expression(text: str, cron: str) -> None:
    assert cron_of(text) == check_cron(cron) == cron


@pytest.mark.parametrize(
    "text", ["", "2:00", "24:00", "02:60", "Mo 02:00", "mon 02:00", "Mon-Fri 02:00", "02:00 "]
)
def test_anything_else_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="expected a time such as '02:00'"):
        cron_of(text)


@pytest.mark.parametrize("text", ["", "* * * *", "* * * * * *", "61 * * * *", "0 0 31 2 *", "@daily"])
def test_anything_else_is_no_cron_expression(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are those of the library
        check_cron(text)


@pytest.mark.parametrize(
    "night", [datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)]
)
def test_a_local_time_that_does_not_exist_or_exists_twice_comes_once(night: datetime) -> None:
    """Between 02:00 and 03:00, where most backups are made."""
    found = moments(plan("02:30").times, night, night + 2 * DAY)
    assert len(found) == 2
    assert len({moment.astimezone(BERLIN).date() for moment in found}) == 2


@given(
    minutes=st.integers(0, 3_000_000),
    hours=st.lists(st.integers(0, 23), min_size=1, max_size=3, unique=True),
    look_every=st.timedeltas(timedelta(minutes=1), timedelta(days=3)),
)
def test_each_moment_is_run_or_missed_once(minutes: int, hours: list[int], look_every: timedelta) -> None:
    """However rarely somebody looks."""
    schedule = plan(*(f"{hour:02}:17" for hour in hours))
    start = NOON + timedelta(minutes=minutes)
    now, settled, dealt_with = start, None, 0
    for _ in range(20):
        decision = schedule.decide(settled, now)
        dealt_with += (decision.tick is not None) + decision.missed
        assert decision.next_due
        assert decision.next_due > now
        assert schedule.decide(decision.settled, now).tick is None, "it would run twice"
        settled, now = decision.settled, now + look_every
    assert settled is not None
    assert dealt_with == len(moments(schedule.times, start, settled))


def test_a_new_schedule_waits_for_its_first_moment() -> None:
    decision = plan("02:00").decide(None, NOON)
    assert (decision.tick, decision.missed) == (None, 0)
    assert decision.next_due == datetime(2026, 6, 2, 0, 0, tzinfo=UTC)


def test_after_days_without_power_the_newest_moment_runs_once() -> None:
    decision = plan("02:00").decide(NOON, NOON + 5 * DAY)
    assert (decision.tick, decision.missed) == (datetime(2026, 6, 6, 0, 0, tzinfo=UTC), 4)


def test_years_without_power_cost_no_more_than_a_count() -> None:
    every_minute = ClockPlan(ClockTimes(("* * * * *",), UTC))
    assert every_minute.decide(NOON, NOON + 1000 * DAY).missed == MOST_COUNTED


def test_a_clock_that_was_never_set_says_nothing() -> None:
    """A device without a battery boots in 1970, and then learns the time: the night is made up for."""
    nightly = plan("02:00")
    boot = nightly.decide(NOON, datetime(1970, 1, 1, tzinfo=UTC))
    assert (boot.settled, boot.tick, boot.next_due) == (NOON, None, None)
    assert nightly.decide(boot.settled, NOON + DAY).tick


def test_a_clock_that_goes_back_runs_nothing_twice() -> None:
    nightly = plan("02:00")
    settled = datetime(2026, 6, 2, 0, 0, tzinfo=UTC)
    for minutes in range(0, 23 * 60, 7):
        decision = nightly.decide(settled, settled - timedelta(minutes=minutes))
        assert decision.tick is None
        assert decision.next_due == settled + DAY


def test_a_time_that_never_was_is_forgotten() -> None:
    decision = plan("02:00").decide(NOON + 3650 * DAY, NOON)
    assert decision.clock_went_back
    assert decision.settled == NOON


def test_a_backup_is_tried_again_within_its_window() -> None:
    attempt = Attempt(NOON - DAY, since=NOON)
    windowed = plan("02:00", window=HOUR)
    assert not attempt.has_passed(windowed.window, NOON + HOUR - timedelta(seconds=1))
    assert attempt.has_passed(windowed.window, NOON + HOUR)
    assert not attempt.has_passed(plan("02:00").window, NOON + DAY)
    assert not windowed.has_ended(NOON + DAY)


def test_devices_of_a_fleet_are_spread() -> None:
    early, late = (ClockTimes(("0 2 * * *",), BERLIN, offset) for offset in (0 * HOUR, HOUR))
    first = early.after(NOON)
    assert first
    assert late.after(NOON) == first + HOUR
    assert late.until(first + HOUR) == first + HOUR


@given(before_us=st.integers(1, 2_000_000), jitter_s=st.integers(0, 7200))
def test_nothing_begins_too_early(before_us: int, jitter_s: int) -> None:
    times = ClockTimes(("0 2 * * *",), BERLIN, timedelta(seconds=jitter_s))
    moment = times.after(NOON)
    assert moment
    assert times.until(moment) == moment
    assert times.until(moment - timedelta(microseconds=before_us)) == moment - DAY


def test_moments_are_in_order_forwards_and_backwards() -> None:
    times = plan("02:30", "Mon..Fri 13:30").times
    found = moments(times, NOON, NOON + 400 * DAY)
    assert all(first < second for first, second in pairwise(found))
    assert all(times.until(moment) == moment for moment in found)


@pytest.mark.parametrize("name", ["Europe/Berlin", "UTC", ""])
def test_a_time_zone_is_found(name: str) -> None:
    assert datetime(2026, 1, 1, tzinfo=zone(name)).utcoffset() is not None


@pytest.mark.parametrize("name", ["Europe/Nowhere", "../../etc/passwd", "/etc/localtime", "\0"])
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="tzdata"):
        zone(name)


@pytest.mark.parametrize(
    ("name", "schedule", "problem"),
    [
        ("nightly", {}, "schedules.nightly: expected either 'times' or 'cron'"),
        ("nightly", {"times": "02:00", "cron": "0 2 * * *"}, "expected either 'times' or 'cron'"),
        ("kanto", {"times": "02:00"}, "choose another name"),
        ("nightly", {"times": "02:00", "dir": "/a", "data_sets": "app"}, "either 'dir' or 'dataSets'"),
        ("nightly", {"times": "02:00", "data_sets": "app"}, "'app' is none of the data sets (none is"),
    ],
)
def test_a_schedule_that_cannot_be_is_a_problem(name: str, schedule: dict[str, Any], problem: str) -> None:
    settings = Settings.model_validate({"schedules": {name: schedule}})
    assert any(problem in each for each in schedule_problems(settings))


@pytest.mark.parametrize(
    ("time", "name", "since", "expected"),
    [
        # croner #132: the day whose midnight does not exist was left out.
        ("Sun 00:00", "America/Santiago", "2025-09-01T12:00Z", "2025-09-07T01:00-03:00"),
        # Samoa had no 30th of December 2011.
        ("Fri 12:00", "Pacific/Apia", "2011-12-29T12:00Z", "2011-12-31T00:00+14:00"),
        # cronie #124: with another zone than the device's an hour was lost in autumn.
        ("01:30", "UTC", "2022-10-29T12:00Z", "2022-10-30T01:30Z"),
        # Half an hour: the second 01:45 of the night is none.
        ("01:45", "Australia/Lord_Howe", "2025-04-05T14:45Z", "2025-04-07T01:45+10:30"),
    ],
)
def test_a_day_on_which_the_clocks_change_at_midnight_is_not_left_out(
    time: str, name: str, since: str, expected: str
) -> None:
    times = ClockTimes((cron_of(time),), zone(name))
    assert times.after(datetime.fromisoformat(since)) == datetime.fromisoformat(expected)
