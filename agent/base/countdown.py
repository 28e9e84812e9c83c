"""Time that is left, counted over restarts of the agent and of the device.

While the device is off nobody counts. What had passed in an earlier boot is known as of the last note of it,
so notes are made now and then; what passed in this boot is known whenever it is asked for.
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
        """The same as of now, never below zero. After a boot all of the time since then has passed."""
        boot_id, boot_s = clock.now()
        passed_s = boot_s - self.boot_s if boot_id == self.boot_id else boot_s
        return Countdown(max(0.0, self.left_s - passed_s), boot_id, boot_s)


def note_interval_s(total_s: float) -> float:
    """How often to note it: a boot may forget one twentieth of it, and flash is spared."""
    return max(_LEAST_S, total_s / _NOTES)
