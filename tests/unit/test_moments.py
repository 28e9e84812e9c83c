"""How others write points in time: what `activate`, `expiresAt` and a retention date may say."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.times import parse_moment, parse_rfc3339

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2026-06-01T12:00:00Z",
        "2026-06-01t12:00:00z",
        "2026-06-01T12:00:00.000000000Z",
        "2026-06-01T14:00:00+02:00",
        "2026-05-31T23:30:00-12:30",
        1780315200,
        1780315200.0,
        "1780315200",
        "1780315200.000",
    ],
)
def test_a_time_may_be_written_in_these_ways(value: object) -> None:
    moment = parse_moment(value)
    assert moment == NOON
    assert moment is not None
    assert moment.tzinfo is UTC


@pytest.mark.parametrize("value", [None, ""])
def test_what_is_empty_is_absent(value: object) -> None:
    assert parse_moment(value) is None


@pytest.mark.parametrize(
    "value",
    [
        *("tomorrow", "2026-06-01", "2026-06-01T12:00:00", "2026-06-01 12:00:00Z", "20260601T120000Z"),
        *(
            "2026-02-30T12:00:00Z",
            "2026-06-01T25:00:00Z",
            "2026-06-01T12:00:00+99:00",
            "2026-W23-1T12:00:00Z",
        ),
        *("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"),
        *("-1", "1e9", "0x10", " 1780315200", "1780315200Z", "\u0661", "9" * 5000, "1780315200000"),
        *(-1, 1780315200000, 10**30, float("nan"), float("inf"), float("-inf"), True, False),
        *([], {}, [1780315200], b"1780315200"),
    ],
)
def test_what_is_no_time_is_refused_with_what_was_expected(value: object) -> None:
    with pytest.raises(ValueError, match="expected an RFC 3339 time such as"):
        parse_moment(value)


@given(st.datetimes(timezones=st.timezones()))
def test_every_time_in_rfc_3339_is_read_as_it_was_written(when: datetime) -> None:
    try:
        expected = when.astimezone(UTC)
        text = when.astimezone(timezone(timedelta(minutes=when.minute))).isoformat()
    except OverflowError:  # the calendar ends before that time in UTC
        return
    assert parse_rfc3339(text) == parse_moment(text) == expected


@given(st.integers(0, 253402300798), st.integers(0, 999999))
def test_every_second_since_1970_is_read_exactly_from_text(second: int, microsecond: int) -> None:
    expected = datetime(1970, 1, 1, microsecond=microsecond, tzinfo=UTC) + timedelta(seconds=second)
    assert parse_moment(f"{second}.{microsecond:06}") == expected
    assert parse_moment(second) == expected.replace(microsecond=0)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists)
    | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.+-]{0,16}Z?", fullmatch=True)
)
def test_anything_in_a_message_is_a_time_or_a_value_error(value: object) -> None:
    try:
        moment = parse_moment(value)
    except ValueError:
        return
    assert moment is None or moment.utcoffset() == timedelta(0)
