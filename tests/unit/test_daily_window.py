"""The window of a day in which the operator prunes."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.clock_times import SHORTEST_WINDOW, parse_daily_window

DAY = datetime(2026, 3, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "when", "covered"),
    [
        ("02:00-04:00", "01:59", False),
        ("02:00-04:00", "02:00", True),
        ("02:00-04:00", "03:59", True),
        ("02:00-04:00", "04:00", False),
        ("23:00-01:00", "22:59", False),
        ("23:00-01:00", "23:30", True),
        ("23:00-01:00", "00:30", True),
        ("23:00-01:00", "01:00", False),
    ],
)
def test_a_window_holds_its_opening_and_not_its_close(text: str, when: str, covered: bool) -> None:
    hours, minutes = map(int, when.split(":"))
    now = DAY + timedelta(hours=hours, minutes=minutes)
    assert parse_daily_window(text).covers(now) is covered
    assert parse_daily_window(text).covers(now.astimezone(timezone(timedelta(hours=9)))) is covered


@pytest.mark.parametrize(
    "text",
    ["", "02:00", "2:00-4:00", "02:00-24:00", "02:60-04:00", "02:00-02:29", "02:00-02:00"],
)
def test_what_is_no_window_or_a_short_one_is_refused(text: str) -> None:
    """A job that was cut off before a short window would trust packs that were pruned inside it."""
    with pytest.raises(ValueError, match=r"not a window|too short"):
        parse_daily_window(text)


@given(st.integers(0, 1439), st.integers(SHORTEST_WINDOW // timedelta(minutes=1), 1439))
def test_a_window_is_open_as_long_as_it_is(opens: int, length: int) -> None:
    closes = (opens + length) % 1440
    text = f"{opens // 60:02}:{opens % 60:02}-{closes // 60:02}:{closes % 60:02}"
    window = parse_daily_window(text)
    assert str(window) == text
    assert sum(window.covers(DAY + timedelta(minutes=minute)) for minute in range(1440)) == length
