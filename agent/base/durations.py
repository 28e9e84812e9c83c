"""Durations as Go writes them (`300ms`, `1.5h`, `10m30s`), because Kanto's configuration files do.

The grammar is that of Go's `time.ParseDuration`: a sign, then decimal numbers, each with an optional
fraction and a unit, without spaces; `0` needs no unit. There are no days. Go counts whole nanoseconds in
64 bits; a `timedelta` counts microseconds, so what is below one microsecond is cut off.
"""

import re
from datetime import timedelta

_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, the micro sign
    "μs": 1_000,  # U+03BC, the Greek letter; Go takes both
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3600 * 1_000_000_000,
}
# The longer names first, or "ms" would be read as "m".
_UNIT = "|".join(sorted(_NANOSECONDS, key=len, reverse=True))
_PART = re.compile(rf"([0-9]*)(?:\.([0-9]*))?({_UNIT})")
_SHORTEST, _LONGEST = -(1 << 63), (1 << 63) - 1
_MICROSECONDS = {"h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000, "us": 1}


def parse_duration(text: str) -> timedelta:
    """Return the duration in `text`. Raises ValueError where Go's `time.ParseDuration` reports an error."""
    negative = text.startswith("-")
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return timedelta(0)
    if not rest:
        raise _not_a_duration()
    total_ns = 0
    position = 0
    while position < len(rest):
        part = _PART.match(rest, position)
        if part is None:
            raise _not_a_duration()
        total_ns += _part_ns(part)
        position = part.end()
    if not _SHORTEST <= (-total_ns if negative else total_ns) <= _LONGEST:
        raise ValueError("longer than about 292 years")
    duration = timedelta(microseconds=total_ns // 1000)
    return -duration if negative else duration


def _part_ns(part: re.Match[str]) -> int:
    whole, fraction, unit = part[1], part[2] or "", part[3]
    if not whole and not fraction:
        raise _not_a_duration()
    if len(whole.lstrip("0")) > 19:
        raise ValueError("longer than about 292 years")
    # An hour has 13 digits of nanoseconds: digits after the eighteenth change nothing.
    fraction = fraction[:18]
    scale: int = 10 ** len(fraction)
    return (int(whole or "0") * scale + int(fraction or "0")) * _NANOSECONDS[unit] // scale


def _not_a_duration() -> ValueError:
    return ValueError("expected numbers with units h, m, s, ms, us or ns, such as '90s' or '1h30m'")


def format_duration(duration: timedelta) -> str:
    """Write `duration` in Go's grammar, without fractions and zero parts: `1h30m`, `250ms`, `0s`."""
    rest_us = abs(duration) // timedelta(microseconds=1)
    text = "-" if duration < timedelta(0) else ""
    for unit, size_us in _MICROSECONDS.items():
        count, rest_us = divmod(rest_us, size_us)
        if count:
            text += f"{count}{unit}"
    return text or "0s"
