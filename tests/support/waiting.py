"""Waiting for conditions, never for time."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], *, what: str, timeout_s: float = 60) -> None:
    """Return when `condition()` is true; fail, saying what was waited for, after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.005)
