"""The time that is left of a limit, across restarts of the agent and of the device.

The time in which the device is off does not count. Of an earlier boot only what was noted is known, so the
time left is noted now and then; in this boot it is always known.
"""

from typing import NamedTuple

from agent.base.clock import BootClock

_NOTES = 20
_LEAST_S = 5.0


class Countdown(NamedTuple):
    """Seconds that were left at a moment of the boot clock. A tuple, so that JSON can keep it as a list."""

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
