"""Go's duration grammar, with the cases that Go's own documentation and tests consider odd."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.durations import format_duration, parse_duration

LONGEST_GO_KNOWS = timedelta(microseconds=(1 << 63) // 1000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", timedelta(0)),
        ("-0", timedelta(0)),
        ("30s", timedelta(seconds=30)),
        ("300ms", timedelta(milliseconds=300)),
        ("1.5h", timedelta(minutes=90)),
        ("10m30s", timedelta(minutes=10, seconds=30)),
        ("-5m", timedelta(minutes=-5)),
        ("+5m", timedelta(minutes=5)),
        (".5s", timedelta(milliseconds=500)),
        ("5.s", timedelta(seconds=5)),
        ("12us", timedelta(microseconds=12)),
        ("12\u00b5s", timedelta(microseconds=12)),
        ("12\u03bcs", timedelta(microseconds=12)),
        ("2500ns", timedelta(microseconds=2)),
        ("25ns", timedelta(0)),
        ("0.100000000000000000000h", timedelta(minutes=6)),
        ("1s1s", timedelta(seconds=2)),
        ("0000000000000000000000001s", timedelta(seconds=1)),
        ("2562047h47m16.854775807s", LONGEST_GO_KNOWS),
        ("-9223372036854775808ns", -LONGEST_GO_KNOWS),
    ],
)
def test_what_go_accepts_is_accepted(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", "+", "3", "s", ".s", "-.s", ".", "1d", "1 h", " 1h", "1h ", "1H", "--1s", "+-1s", "1s-1s"),
        *(
            "1e3s",
            "1_0s",
            "\u0661s",
            "9223372036854775808ns",
            "9" * 5000 + "s",
            "1h nonsense",
            "1,5h",
            "0x1s",
        ),
    ],
)
def test_what_go_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as '90s'|292 years"):
        parse_duration(text)


@given(st.timedeltas(min_value=-LONGEST_GO_KNOWS, max_value=LONGEST_GO_KNOWS))
def test_every_duration_survives_being_written_and_read(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@given(st.text(alphabet="0123456789.+-hmsnuµμ dx", max_size=20) | st.text(max_size=20))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        duration = parse_duration(text)
    except ValueError:
        return
    assert abs(duration) <= LONGEST_GO_KNOWS


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(hours=10), "10h"),
        (timedelta(minutes=90), "1h30m"),
        (timedelta(microseconds=1500), "1ms500us"),
        (timedelta(seconds=-2), "-2s"),
    ],
)
def test_a_duration_is_written_as_people_write_it(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text
