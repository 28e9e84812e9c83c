"""Times of the clock at which something is due, and spans of every day.

A time is `02:00`, `Mon..Fri 13:30`, or a cron expression. A local time that a time zone skips is due when the
skipped hour is over, and one that comes twice is due the first time. An expression with `*` in its hours
follows the time that passes (cronsim, as Debian's cron).
"""

import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = "|".join(_DAYS)
_TIME = re.compile(rf"(?:((?:{_DAY})(?:\.\.(?:{_DAY}))?) )?([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_LOCAL_ZONE = Path("/etc/localtime")
_MINUTE = timedelta(minutes=1)
SHORTEST_WINDOW = timedelta(minutes=30)
_WHOLE_DAY = timedelta(days=1)
_DAILY_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


def cron_of(text: str) -> str:
    """Return the cron expression of a time such as `Mon..Fri 13:30`. Raises ValueError for any other text."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("expected a time such as '02:00' or 'Mon..Fri 13:30'")
    days, hour, minute = match.groups()
    return f"{int(minute)} {int(hour)} * * {days.upper().replace('..', '-') if days else '*'}"


def check_cron(expression: str) -> str:
    """Return the expression. Raises ValueError when it is none, or is due more often than every minute."""
    from cronsim import CronSim, CronSimError

    if len(expression.split()) != 5:
        raise ValueError("expected five fields: minute, hour, day, month, weekday")
    try:
        next(CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        raise ValueError(str(error) or "never due") from error
    return expression


def zone(name: str) -> tzinfo:
    """Return the time zone of this name; that of the device for "". Raises ValueError for an unknown one."""
    if name:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("not in the device's time zone database (package tzdata)") from error
    if (from_environment := os.environ.get("TZ", "").removeprefix(":")) and "/" in from_environment:
        return zone(from_environment)
    try:
        with _LOCAL_ZONE.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC


@dataclass(frozen=True)
class ClockTimes:
    """The moments of several cron expressions in a time zone, each put off by `offset`."""

    expressions: tuple[str, ...]
    zone: tzinfo
    offset: timedelta = field(default=timedelta(0))

    def after(self, when: datetime) -> datetime | None:
        """Return the first moment after `when`, in UTC; None when there is no further one."""
        found = [moment for each in self.expressions if (moment := self._next(each, when, reverse=False))]
        return min(found, default=None)

    def until(self, when: datetime) -> datetime | None:
        """Return the last moment at or before `when`, in UTC; None when there was none."""
        # Moments are whole minutes, and the library looks for one before a time.
        minute = (when - self.offset).replace(second=0, microsecond=0)
        later = minute + _MINUTE + self.offset
        found = [moment for each in self.expressions if (moment := self._next(each, later, reverse=True))]
        return max(found, default=None)

    def _next(self, expression: str, when: datetime, *, reverse: bool) -> datetime | None:
        from cronsim import CronSim

        local = (when - self.offset).astimezone(self.zone)
        moment = next(CronSim(expression, local, reverse), None)
        return moment and moment.astimezone(UTC) + self.offset


@dataclass(frozen=True, slots=True)
class DailyWindow:
    """A window that opens and closes at these times after midnight; it may span midnight."""

    opens: timedelta
    closes: timedelta

    def covers(self, when: datetime) -> bool:
        now = when.astimezone(UTC)
        since_midnight = now - now.replace(hour=0, minute=0, second=0, microsecond=0)
        return (since_midnight - self.opens) % _WHOLE_DAY < self.length

    @property
    def length(self) -> timedelta:
        return (self.closes - self.opens) % _WHOLE_DAY

    def __str__(self) -> str:
        return f"{_clock(self.opens)}-{_clock(self.closes)}"


def parse_daily_window(text: str) -> DailyWindow:
    """Return the window in a text such as `02:00-04:00`. Raises ValueError, also for a short window."""
    found = _DAILY_WINDOW.fullmatch(text)
    if not found:
        raise ValueError("not a window")
    hours = [timedelta(hours=int(found[at]), minutes=int(found[at + 1])) for at in (1, 3)]
    window = DailyWindow(*hours)
    if window.length < SHORTEST_WINDOW:
        raise ValueError("too short")
    return window


def _clock(after_midnight: timedelta) -> str:
    minutes = after_midnight // timedelta(minutes=1)
    return f"{minutes // 60:02}:{minutes % 60:02}"
