"""A clock that never jumps: seconds since boot, together with the id of that boot.

Devices without a battery for their clock start in 1970 and learn the time later. The agent therefore never
uses the wall clock for times that outlast its restart.
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
        """Return the seconds since that moment; infinite when it was before this boot and nobody knows."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - boot_s if boot_id == self._boot_id else math.inf
