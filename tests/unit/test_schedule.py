"""When a periodic backup is due: the grid, missed ticks, and clocks that jump."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.faces.ditto.twin_messages import auto_upload
from agent.jobs.frame import (
    Decision,
    Frame,
    device_offset,
)

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
WITHOUT_A_CLOCK = datetime(1970, 1, 1, 0, 0, 20, tzinfo=UTC)
EVERY_TEN_HOURS = Frame(True, NOON, None, 10 * HOUR, timedelta(0), NOON)
OPEN = replace(EVERY_TEN_HOURS, start=None)
"""Activated at noon, without `from` and `to`."""


# The grid


def test_the_first_tick_is_the_start() -> None:
    waiting = EVERY_TEN_HOURS.decide(None, NOON - SECOND)
    assert waiting == Decision(None, next_due=NOON)
    assert EVERY_TEN_HOURS.decide(waiting.settled, NOON) == Decision(
        NOON, tick=NOON, next_due=NOON + 10 * HOUR
    )


def test_a_late_timer_does_not_move_the_grid() -> None:
    late = EVERY_TEN_HOURS.decide(NOON, NOON + 10 * HOUR + 7 * SECOND)
    assert (late.tick, late.next_due) == (NOON + 10 * HOUR, NOON + 20 * HOUR)


def test_a_tick_runs_once() -> None:
    again = EVERY_TEN_HOURS.decide(NOON, NOON + SECOND)
    assert again == Decision(NOON, next_due=NOON + 10 * HOUR)


def test_without_a_start_the_activation_is_the_anchor() -> None:
    """And it is a tick itself, as in Kanto, where `activate` without `from` starts right away."""
    assert OPEN.decide(None, NOON).tick == NOON
    assert OPEN.decide(NOON, NOON + HOUR).next_due == NOON + 10 * HOUR


def test_the_offset_moves_every_tick_and_the_first_is_none_earlier() -> None:
    for frame in (EVERY_TEN_HOURS, OPEN):
        shifted = replace(frame, offset=3 * MINUTE)
        assert shifted.decide(None, NOON) == Decision(None, next_due=NOON + 3 * MINUTE)
        assert shifted.decide(NOON + 3 * MINUTE, NOON + HOUR).next_due == NOON + 10 * HOUR + 3 * MINUTE


def test_activated_after_its_start_a_frame_runs_at_once_and_then_on_its_grid() -> None:
    """As Kanto does. Ticks before the activation were nobody's, so none of them is called missed."""
    late = replace(EVERY_TEN_HOURS, activated=NOON + 25 * HOUR)
    assert late.decide(None, NOON + 25 * HOUR) == Decision(
        NOON + 20 * HOUR, tick=NOON + 20 * HOUR, next_due=NOON + 30 * HOUR
    )


def test_an_inactive_frame_is_never_due() -> None:
    assert replace(EVERY_TEN_HOURS, active=False).decide(NOON, NOON + 99 * HOUR) == Decision(NOON)


# Missed ticks


def test_ticks_missed_while_the_device_was_off_run_once() -> None:
    back = EVERY_TEN_HOURS.decide(NOON, NOON + 35 * HOUR)
    assert back == Decision(NOON + 30 * HOUR, tick=NOON + 30 * HOUR, missed=2, next_due=NOON + 40 * HOUR)
    assert EVERY_TEN_HOURS.decide(back.settled, NOON + 36 * HOUR).tick is None


# The end


def test_the_last_tick_is_before_the_end() -> None:
    frame = replace(EVERY_TEN_HOURS, end=NOON + 10 * HOUR)
    assert frame.decide(NOON, NOON + HOUR).next_due is None, "a tick at the end is none"
    assert frame.decide(NOON, NOON + 10 * HOUR) == Decision(NOON)
    longer = replace(frame, end=NOON + 10 * HOUR + SECOND)
    assert longer.decide(NOON, NOON + HOUR).next_due == NOON + 10 * HOUR


def test_a_tick_missed_before_the_end_does_not_run_after_it() -> None:
    frame = replace(EVERY_TEN_HOURS, end=NOON + 25 * HOUR)
    after = frame.decide(NOON, NOON + 48 * HOUR)
    assert after == Decision(NOON + 20 * HOUR, missed=2)
    assert frame.decide(after.settled, NOON + 49 * HOUR) == Decision(NOON + 20 * HOUR), "said once"


def test_a_frame_has_ended_from_its_end_on() -> None:
    frame = replace(EVERY_TEN_HOURS, end=NOON + HOUR)
    assert not frame.has_ended(NOON + HOUR - SECOND)
    assert frame.has_ended(NOON + HOUR)
    assert not EVERY_TEN_HOURS.has_ended(NOON + 1_000_000 * HOUR)


def test_an_end_before_the_start_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'2026-06-01T11:00:00.000000Z' is before the start '2026-06-01T12"):
        replace(EVERY_TEN_HOURS, end=NOON - HOUR)
    assert replace(EVERY_TEN_HOURS, end=NOON).decide(None, NOON).next_due is None, "equal is empty"


@pytest.mark.parametrize("period", [timedelta(0), timedelta(seconds=-1)])
def test_a_period_that_is_not_above_zero_is_refused(period: timedelta) -> None:
    with pytest.raises(ValueError, match="period"):
        replace(EVERY_TEN_HOURS, period=period)


# Clocks that jump


def test_a_device_without_a_clock_waits_for_a_start_that_is_far_away() -> None:
    frame = replace(EVERY_TEN_HOURS, activated=WITHOUT_A_CLOCK)
    assert frame.decide(None, WITHOUT_A_CLOCK) == Decision(None, next_due=NOON)


def test_a_device_that_hears_the_time_runs_once() -> None:
    """Activated in 1970, with a tick every minute: 29 million ticks have passed, one runs."""
    frame = replace(OPEN, period=MINUTE, activated=WITHOUT_A_CLOCK)
    first = frame.decide(None, WITHOUT_A_CLOCK)
    heard = frame.decide(first.settled, NOON)
    assert (first.tick, heard.tick) == (WITHOUT_A_CLOCK, NOON - 40 * SECOND)
    assert heard.missed == 0, "the years between never were"
    assert frame.decide(heard.settled, NOON + SECOND).tick is None


def test_a_device_that_reboots_in_1970_does_not_wait_for_its_old_time() -> None:
    """Its last tick is 56 years ahead: the plan begins anew, within a period, and nothing runs at once."""
    reboot = OPEN.decide(NOON, WITHOUT_A_CLOCK)
    assert (reboot.settled, reboot.tick, reboot.clock_went_back) == (WITHOUT_A_CLOCK, None, True)
    assert reboot.next_due
    assert WITHOUT_A_CLOCK < reboot.next_due <= WITHOUT_A_CLOCK + 10 * HOUR
    assert OPEN.decide(reboot.settled, reboot.next_due).tick == reboot.next_due, "no stall"
    assert OPEN.decide(reboot.settled, NOON + 10 * HOUR).tick == NOON + 10 * HOUR, "back on the old grid"


def test_activated_under_a_clock_that_was_years_ahead_a_frame_does_not_wait_for_it() -> None:
    ahead = replace(OPEN, activated=NOON.replace(year=2099))
    corrected = ahead.decide(None, NOON)
    assert corrected.clock_went_back
    assert corrected.next_due
    assert NOON < corrected.next_due <= NOON + 10 * HOUR


def test_a_clock_put_back_by_a_moment_does_not_run_the_tick_again() -> None:
    corrected = EVERY_TEN_HOURS.decide(NOON + 10 * HOUR, NOON + 10 * HOUR - 3 * SECOND)
    assert corrected == Decision(NOON + 10 * HOUR, next_due=NOON + 20 * HOUR)
    assert EVERY_TEN_HOURS.decide(corrected.settled, NOON + 10 * HOUR).tick is None


def test_a_frame_that_seemed_to_have_ended_goes_on_when_the_clock_is_put_back() -> None:
    frame = replace(EVERY_TEN_HOURS, end=NOON + 100 * HOUR)
    ended = frame.decide(NOON, NOON.replace(year=2099))
    assert (ended.tick, ended.next_due) == (None, None)
    corrected = frame.decide(ended.settled, NOON + HOUR)
    assert corrected.next_due == NOON + 10 * HOUR


FRAMES = st.builds(
    lambda start, length, period, offset: Frame(
        True, start, None if length is None else (start or NOON) + length, period, offset, NOON
    ),
    st.none() | st.integers(-(10**6), 10**6).map(lambda seconds: NOON + seconds * SECOND),
    st.none() | st.timedeltas(timedelta(0), timedelta(days=30)),
    st.timedeltas(timedelta(milliseconds=1), timedelta(days=3)),
    st.timedeltas(timedelta(0), timedelta(hours=5)),
)
CLOCKS = st.lists(
    st.timedeltas(timedelta(days=-60), timedelta(days=60))
    | st.timedeltas(timedelta(seconds=-90), timedelta(minutes=90)),
    min_size=1,
    max_size=30,
)


def _ticks_between(frame: Frame, after: datetime, until: datetime) -> int:
    """How many ticks of an endless grid lie in (after, until]."""
    origin = (frame.start or frame.activated) + frame.offset
    return max(0, (until - origin) // frame.period - (after - origin) // frame.period)


@given(FRAMES, CLOCKS)
def test_whatever_the_clock_does_ticks_lie_on_the_grid_and_never_run_twice(
    frame: Frame, jumps: list[timedelta]
) -> None:
    """One run a decision at the most, inside the frame, in rising order unless the clock went far back."""
    now, settled, last_run = NOON, None, None
    for jump in jumps:
        decision = frame.decide(settled, now)
        if decision.clock_went_back:
            last_run = None
        if decision.tick:
            assert (decision.tick - (frame.start or NOON) - frame.offset) % frame.period == timedelta(0)
            assert decision.tick <= now
            assert last_run is None or decision.tick > last_run
            assert frame.start is None or decision.tick >= frame.start
            assert frame.end is None or decision.tick < frame.end
            last_run = decision.tick
        assert frame.decide(decision.settled, now).tick is None, "asked twice, run once"
        settled, now = decision.settled, now + jump


@given(FRAMES, CLOCKS)
def test_every_tick_that_passes_is_run_or_said_to_be_missed(frame: Frame, jumps: list[timedelta]) -> None:
    endless = replace(frame, start=None, end=None)
    now, settled = NOON, NOON
    for jump in jumps:
        now += jump
        decision = endless.decide(settled, now)
        assert decision.settled
        counted = (decision.tick is not None) + decision.missed
        assert counted == (0 if decision.clock_went_back else _ticks_between(endless, settled, now))
        settled = decision.settled


@given(FRAMES, CLOCKS)
def test_the_next_tick_is_ahead_and_never_more_than_two_periods_away(
    frame: Frame, jumps: list[timedelta]
) -> None:
    """No stall, whatever the clock did: and when that time has come, the tick is due."""
    endless = replace(frame, start=None, end=None, offset=timedelta(0))
    now, settled = NOON, None
    for jump in jumps:
        decision = endless.decide(settled, now)
        assert decision.next_due
        assert now < decision.next_due <= now + 2 * endless.period
        assert endless.decide(decision.settled, decision.next_due).tick == decision.next_due
        settled, now = decision.settled, now + jump


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)), st.datetimes())
def test_no_time_that_can_be_written_ends_in_an_error(
    start: datetime, activated: datetime, now: datetime
) -> None:
    """Also the years 1 and 9999, where the calendar ends."""
    westward = timezone(timedelta(hours=-12))
    for frame_start in (None, start.replace(tzinfo=westward)):
        frame = Frame(True, frame_start, None, timedelta(days=100_000), 9 * HOUR, activated)
        frame.decide(None, now.replace(tzinfo=westward))


# The device's offset


@given(st.text(), st.timedeltas(timedelta(0), timedelta(days=1)))
def test_an_offset_is_below_the_jitter_and_stable(device_id: str, jitter: timedelta) -> None:
    offset = device_offset(device_id, jitter)
    assert offset == device_offset(device_id, jitter)
    assert timedelta(0) <= offset < max(jitter, timedelta(microseconds=1))


def test_a_fleet_is_spread_over_the_jitter() -> None:
    """And stays where it is over releases: the first offset is written down."""
    fleet = [device_offset(f"org:device-{number}", HOUR) for number in range(1000)]
    quarters = [sum(offset // (15 * MINUTE) == quarter for offset in fleet) for quarter in range(4)]
    assert min(quarters) > 200
    assert fleet[0] == timedelta(seconds=84, microseconds=275968)


# The twin


def test_the_value_of_auto_upload_is_exactly_this() -> None:
    frame = replace(EVERY_TEN_HOURS, end=NOON.astimezone(timezone(2 * HOUR)) + HOUR)
    assert json.dumps(auto_upload(frame), separators=(",", ":")) == (
        '{"active":true,"startTime":"2026-06-01T12:00:00.000000Z","endTime":"2026-06-01T13:00:00.000000Z"}'
    )
    assert json.dumps(auto_upload(replace(OPEN, active=False)), separators=(",", ":")) == (
        '{"active":false,"startTime":null,"endTime":null}'
    )


def test_a_clock_that_is_set_for_the_first_time_runs_one_backup_and_misses_none() -> None:
    """A device that had booted in 1970 was said to have missed 20,605 backups."""
    frame = replace(OPEN, activated=WITHOUT_A_CLOCK)
    for settled in (None, WITHOUT_A_CLOCK):
        decision = frame.decide(settled, NOON)
        assert (decision.clock_was_set, decision.missed, decision.settled) == (True, 0, NOON)
        assert decision.tick
        assert NOON - frame.period < decision.tick <= NOON
    anew = replace(frame, activated=NOON)
    assert anew.decide(NOON, NOON + SECOND) == Decision(NOON, next_due=NOON + frame.period)
