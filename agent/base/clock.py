"""Time that no clock jump moves: seconds since boot, and which boot it was.

Devices without a clock start in 1970 and hear the time later, so nothing that has to last across a
restart of the agent is measured with the wall clock.
"""

import math
import time
from pathlib import Path


class BootClock:
    """Moments are pairs of boot id and seconds since that boot, sleep included."""

    def __init__(self) -> None:
        self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()

    def now(self) -> tuple[str, float]:
        return self._boot_id, time.clock_gettime(time.CLOCK_BOOTTIME)

    def age_s(self, boot_id: str, boot_s: float) -> float:
        """Seconds since that moment; infinite when it was before the last boot, which nobody can tell."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - boot_s if boot_id == self._boot_id else math.inf
