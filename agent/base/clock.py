"""A clock that never jumps: seconds since boot, together with the id of that boot.

Devices without a battery for their clock start in 1970 and learn the time later. The agent therefore never
uses the wall clock for times that outlast its restart.
"""

import math
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

CLOCK_SET = datetime(2020, 1, 1, tzinfo=UTC)
"""A wall clock that shows an earlier time was never set: no release of this agent is older."""
_NOTES = 20
_LEAST_S = 5.0


class BootClock:
    """Moments are pairs of boot id and seconds since that boot, sleep included."""

    def __init__(self) -> None:
        self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()

    def now(self) -> tuple[str, float]:
        return self._boot_id, time.clock_gettime(time.CLOCK_BOOTTIME)

    def age_s(self, boot_id: str, boot_s: float) -> float:
        """Return the seconds since that moment; infinite when it was before this boot."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - boot_s if boot_id == self._boot_id else math.inf


class Countdown(NamedTuple):
    """The time that is left of a limit, as of a moment of the boot clock; JSON can keep it as a list.

    The time in which the device is off does not count. Of an earlier boot only what was noted is known, so
    the time left is noted now and then; in this boot it is always known.
    """

    left_s: float
    boot_id: str
    boot_s: float

    @classmethod
    def of(cls, seconds: float, clock: BootClock) -> "Countdown":
        return cls(seconds, *clock.now())

    def noted(self, clock: BootClock) -> "Countdown":
        """Return the countdown as of now, never below zero; after a boot, less the time since the boot."""
        boot_id, boot_s = clock.now()
        passed_s = boot_s - self.boot_s if boot_id == self.boot_id else boot_s
        return Countdown(max(0.0, self.left_s - passed_s), boot_id, boot_s)


def note_interval_s(total_s: float) -> float:
    """Return the time between notes: a boot loses at most a twentieth, and the flash is written rarely."""
    return max(_LEAST_S, total_s / _NOTES)
