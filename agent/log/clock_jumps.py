"""Jumps of the device's clock, told by the first line after each: it explains the times of the lines."""

import time

from structlog.typing import EventDict, WrappedLogger

LEAST_S = 60.0
"""A smaller one is not worth a word."""


class ClockJumps:
    """A processor that adds `clock_set_by_s` to the first line after the wall clock was set."""

    def __init__(self) -> None:
        self._offset_s = _offset_s()

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        offset_s = _offset_s()
        jump_s, self._offset_s = offset_s - self._offset_s, offset_s
        if abs(jump_s) >= LEAST_S:
            event["clock_set_by_s"] = round(jump_s)
        return event


def _offset_s() -> float:
    """Return the time when the device would have booted by its wall clock; time asleep counts."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
