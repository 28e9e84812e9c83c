"""A rate limit for warnings that a flood of foreign messages causes: the flash is written rarely."""

import time
from typing import Any

BURST = 20
INTERVAL_S = 60


class SparingLog:
    """Logs at most `BURST` lines of each event in `INTERVAL_S`; the next line has the number suppressed."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._seen: dict[str, tuple[float, int]] = {}

    def warning(self, event: str, **facts: object) -> None:
        begun_s, count = self._seen.get(event, (0.0, 0))
        now_s = time.monotonic()
        if now_s - begun_s >= INTERVAL_S:
            suppressed = max(0, count - BURST)
            begun_s, count = now_s, 0
            facts |= {"suppressed": suppressed} if suppressed else {}
        self._seen[event] = (begun_s, count + 1)
        if count < BURST:
            self._log.warning(event, **facts)
