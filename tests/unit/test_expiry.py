"""Commands that come too late: `expiresAt` by the wall clock, `timeout` from the receipt."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent import RELEASED
from agent.base.refusals import Reason, Refused
from agent.base.text import Number
from agent.faces.ditto.expiry import check_not_expired, timeout_s
from agent.mqtt.envelope import Envelope

NOW = datetime(2026, 12, 24, 18, 0, tzinfo=UTC)


def check(now: datetime = NOW, waited_s: float = 0, **headers: Any) -> None:
    check_not_expired(Envelope("t", "p", headers), waited_s, now)


def refusal(now: datetime = NOW, waited_s: float = 0, **headers: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        check(now, waited_s, **headers)
    return caught.value


def test_a_command_without_these_headers_never_expires() -> None:
    check(waited_s=1e9)


@pytest.mark.parametrize(
    "moment", ["2026-12-24T18:00:00Z", "2026-12-24T18:59:59.5+01:00", "1970-01-01T00:00:00Z"]
)
def test_from_its_moment_on_a_command_has_expired(moment: str) -> None:
    error = refusal(expiresat=moment)
    assert error.reason is Reason.EXPIRED
    assert "2026-12-24T18:00:00Z" in error.message, "both times are named, so a wrong clock is seen"


def test_before_its_moment_a_command_is_good() -> None:
    check(expiresat="2026-12-24T18:00:00.000001Z")


def test_a_clock_that_was_never_set_expires_nothing() -> None:
    """A device without a battery wakes in 1970, or in the year of its image."""
    early = RELEASED - timedelta(days=1)
    check(early, expiresat="1969-12-31T23:59:59Z")
    assert refusal(early, waited_s=11, timeout="10").reason is Reason.EXPIRED, (
        "the receipt is counted all the same"
    )


@pytest.mark.parametrize("value", ["", "soon", "2026-12-24", Number("1766600000"), True, {}, []])
def test_an_expiry_that_is_no_time_is_refused(value: object) -> None:
    """Whoever sends it relies on it: guessing would run what must not run."""
    error = refusal(expiresat=value)
    assert error.reason is Reason.INVALID


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (Number("10"), 10), ("10", 10), ("10s", 10), ("500ms", 0.5), ("2m", 120), (Number("0"), 0),
        ("0ms", 0), (None, None), ("", None), ("1h", None), (Number("1.5"), None), (Number("-1"), None),
        (" 10", None), ("9" * 50, None), ([], None), (True, None),
    ],
)  # fmt: skip
def test_a_timeout_is_read_as_ditto_has_it(value: object, seconds: float | None) -> None:
    """Anything else counts as absent: Kanto's agent never looked at it."""
    assert timeout_s(Envelope("t", "p", {"timeout": value})) == seconds


def test_a_timeout_counts_from_the_receipt() -> None:
    check(waited_s=9.9, timeout="10")
    error = refusal(waited_s=10.1, timeout="10")
    assert error.reason is Reason.EXPIRED


def test_a_timeout_of_0_never_expires() -> None:
    """It means that nobody waits for the answer, not that nobody wants the work."""
    check(waited_s=1e9, timeout=Number("0"))
