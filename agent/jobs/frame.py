"""Decides when a periodic backup is due. Pure: no clock, no threads, no I/O; times are arguments.

Ticks lie on a grid, `start + offset + n * period`, and are never counted from the end of a run, so they
do not drift. The grid goes on in both directions; without a start it is anchored at the activation.

The one thing to remember between two decisions is `settled`: every tick up to that time was run, or was
said to be missed. It moves forward with the ticks, and survives in the journal.

- Device off, or clock put forward: the newest tick that has passed runs, once; the others are missed.
- Clock put back by up to a period: the ticks that have run are not run again.
- Clock put back further: `settled` was a time that never was. The plan begins anew at the present time.
- Clock set for the first time, by a device that booted in 1970: the plan begins anew, a backup is due now.
  No tick is missed in the years between.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from agent.base.clock import CLOCK_SET
from agent.base.durations import format_duration
from agent.base.times import EPOCH, format_time

_END_OF_TIME = datetime.max.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of `Frame.decide`."""

    settled: datetime | None
    """For the next decision, to be kept before the run begins: a run that crashes is not repeated."""
    tick: datetime | None = None
    """The tick to run now."""
    missed: int = 0
    """Ticks that have passed and will not be run."""
    clock_went_back: bool = False
    """True when it went back by more than a period: the plan begins anew, and ticks may come again."""
    clock_was_set: bool = False
    """True when it was set for the first time: the plan begins anew."""
    next_due: datetime | None = None
    """The next tick after now; None when none will come unless the clock or the frame changes."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The time in which periodic backups are made, from `start` until just before `end`."""

    active: bool
    start: datetime | None
    end: datetime | None
    period: timedelta
    offset: timedelta
    """The device's own share of the jitter, see `device_offset`."""
    activated: datetime
    """The time at which this frame was set: the anchor of the grid where there is no start."""
    window: timedelta | None = None
    """How long a backup is tried again; None until the next tick."""

    def __post_init__(self) -> None:
        """Raises ValueError when the end is before the start or the period is not above 0."""
        if self.start and self.end and self.end < self.start:
            start, end = format_time(self.start), format_time(self.end)
            raise ValueError(f"the end '{end}' is before the start '{start}'")
        if self.period <= timedelta(0):
            raise ValueError("the period is not above 0")

    @property
    def rule(self) -> str:
        """Return the period, the only rule to compare: for any other change the plan is kept as a new one."""
        return format_duration(self.period)

    def has_ended(self, now: datetime) -> bool:
        return self.end is not None and now >= self.end

    def limit(self, success: datetime | None, now: datetime) -> datetime | None:
        """Return until when the last good backup is new enough, for two periods; None while none is made."""
        if not self.active or self.has_ended(now):
            return None
        # Before its beginning the schedule could not have made one.
        begun = max(self.start or self.activated, self.activated)
        try:
            return max(success or begun, begun) + 2 * self.period
        except OverflowError:
            return None

    def decide(self, settled: datetime | None, now: datetime) -> Decision:
        """Return what is due at `now`, when everything up to `settled` has been dealt with.

        `settled` is what the decision before said; None for a frame that has just been activated, of which
        the tick at or before the activation is still due: Kanto starts right away when `from` has passed.
        To be asked when the frame was set, at every start, when `next_due` has come, and once a minute
        while the frame is active, even if it seems to have ended: a clock that is put back is found out then.
        """
        if not self.active:
            return Decision(settled)
        grid = _Grid.of(self)
        before = settled or self.activated
        went_back, was_set = before - now > self.period, before < CLOCK_SET <= now
        if went_back:
            settled = now
        first = grid.first_open(settled)
        last = grid.last_until(now)
        ended = self.has_ended(now)
        passed = max(0, last - first + 1)
        tick = grid.time(last) if passed else None
        return Decision(
            settled=now if was_set else tick or settled,
            tick=None if ended else tick,
            missed=_missed(passed, ran=not ended) if not was_set else 0,
            clock_went_back=went_back,
            clock_was_set=was_set,
            next_due=None if ended else grid.due(max(first, last + 1)),
        )


def _missed(passed: int, *, ran: bool) -> int:
    return max(0, passed - 1) if ran else passed


@dataclass(frozen=True, slots=True)
class _Grid:
    """Ticks by number, in whole microseconds since 1970: exact, and without the calendar's limits."""

    origin_us: int
    period_us: int
    end_us: int
    activated_us: int
    lowest: int | None
    """No tick is before the start; without a start there is no first one."""

    @classmethod
    def of(cls, frame: Frame) -> "_Grid":
        return cls(
            origin_us=_microseconds(frame.start or frame.activated) + frame.offset // _MICROSECOND,
            period_us=frame.period // _MICROSECOND,
            end_us=min(_microseconds(frame.end or _END_OF_TIME), _microseconds(_END_OF_TIME)),
            activated_us=_microseconds(frame.activated),
            lowest=0 if frame.start else None,
        )

    def first_open(self, settled: datetime | None) -> int:
        """Return the first tick that has not been dealt with."""
        if settled is None:
            return max(0, (self.activated_us - self.origin_us) // self.period_us)
        number = (_microseconds(settled) - self.origin_us) // self.period_us + 1
        return number if self.lowest is None else max(self.lowest, number)

    def last_until(self, now: datetime) -> int:
        """Return the last tick at or before `now`, and before the end."""
        until_us = min(_microseconds(now), self.end_us - 1)
        return (until_us - self.origin_us) // self.period_us

    def time(self, number: int) -> datetime:
        return EPOCH + (self.origin_us + number * self.period_us) * _MICROSECOND

    def due(self, number: int) -> datetime | None:
        """Return the time of a tick that is to come; None from the end on."""
        return self.time(number) if self.origin_us + number * self.period_us < self.end_us else None


def _microseconds(when: datetime) -> int:
    return (when - EPOCH) // _MICROSECOND


def device_offset(device_id: str, jitter: timedelta) -> timedelta:
    """Return a time in [0, `jitter`): one for each device, spread evenly over a fleet."""
    digest = hashlib.sha256(device_id.encode("utf-8", "surrogatepass")).digest()
    jitter_us = jitter // _MICROSECOND
    return int.from_bytes(digest[:8]) % jitter_us * _MICROSECOND if jitter_us > 0 else timedelta(0)
