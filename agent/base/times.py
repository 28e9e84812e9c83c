"""Times as texts: our own form, and those of messages and settings."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time, which Kanto sends for an end that has not come."""
NEVER_IN_ORDER = "0001-01-01T00:00:00.000000Z"
"""Stands for *never* in the twin: as wide as other times, so a search for times that are too old finds it."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS = re.compile(r"[0-9]{1,15}")
_MICROSECOND = timedelta(microseconds=1)
_LAST_SECOND = (datetime.max.replace(tzinfo=UTC) - EPOCH) // timedelta(seconds=1)
# RFC 3339 section 5.6; `datetime.fromisoformat` alone would take much more.
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)
_SECONDS = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)


def format_time(when: datetime | None) -> str:
    """Write a time in UTC with six decimals, so that text order is time order; Go's zero time for None."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if when else NEVER


def parse_time(text: str) -> datetime:
    """Read a time that `format_time` wrote. Raises ValueError for any other text."""
    if not text.endswith("Z"):
        raise ValueError(f"not a time in UTC: '{text}'")
    return datetime.fromisoformat(text)


def parse_moment(value: object) -> datetime | None:
    """Return the time that `activate` has as `from` or `to`, in UTC; None for null and empty text.

    Takes RFC 3339, and seconds since 1970 as a number or as text. Raises ValueError, with what was
    expected, for anything else, also for milliseconds since 1970, which would be a far future.
    """
    match value:
        case None | "":
            return None
        case str() if _SECONDS.fullmatch(value):
            return _since_1970(Decimal(value))
        case str():
            return parse_rfc3339(value)
        case int() | float() if not isinstance(value, bool):
            return _since_1970(value)
        case _:
            raise _not_a_moment()


def parse_rfc3339(text: str) -> datetime:
    """Return the time in `text`, in UTC. Raises ValueError for any other text."""
    if not _RFC3339.fullmatch(text):
        raise _not_a_moment()
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:  # no such day, or not in the years 1 to 9999 of UTC
        raise _not_a_moment() from error


def time_text(when: datetime) -> str:
    """Return the time for people, to the second and in UTC, as `parse_rfc3339` reads it."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _since_1970(seconds: Decimal | float) -> datetime:
    if not 0 <= seconds <= _LAST_SECOND:  # false for NaN, too
        raise _not_a_moment()
    return EPOCH + round(seconds * 1_000_000) * _MICROSECOND


def _not_a_moment() -> ValueError:
    return ValueError("expected an RFC 3339 time such as '2026-01-31T12:00:00Z', or seconds since 1970")


def parse_milliseconds(text: str) -> datetime | None:
    """Parse milliseconds since 1970; None for any other text, and for a time that no calendar has."""
    if not _MILLISECONDS.fullmatch(text):
        return None
    try:
        return EPOCH + timedelta(milliseconds=int(text))
    except OverflowError:
        return None
