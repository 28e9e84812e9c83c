"""A span of every day, in UTC."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

SHORTEST = timedelta(minutes=30)
_DAY = timedelta(days=1)
_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class DailyWindow:
    """A window that opens and closes at these times after midnight; it may span midnight."""

    opens: timedelta
    closes: timedelta

    def covers(self, when: datetime) -> bool:
        now = when.astimezone(UTC)
        since_midnight = now - now.replace(hour=0, minute=0, second=0, microsecond=0)
        return (since_midnight - self.opens) % _DAY < self.length

    @property
    def length(self) -> timedelta:
        return (self.closes - self.opens) % _DAY

    def __str__(self) -> str:
        return f"{_clock(self.opens)}-{_clock(self.closes)}"


def parse_daily_window(text: str) -> DailyWindow:
    """Return the window in a text such as `02:00-04:00`. Raises ValueError, also for a short window."""
    found = _WINDOW.fullmatch(text)
    if not found:
        raise ValueError("not a window")
    hours = [timedelta(hours=int(found[at]), minutes=int(found[at + 1])) for at in (1, 3)]
    window = DailyWindow(*hours)
    if window.length < SHORTEST:
        raise ValueError("too short")
    return window


def _clock(after_midnight: timedelta) -> str:
    minutes = after_midnight // timedelta(minutes=1)
    return f"{minutes // 60:02}:{minutes % 60:02}"
