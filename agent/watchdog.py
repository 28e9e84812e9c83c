"""The watchdog: an agent that is stuck notices it, logs where it is stuck, and ends, to be started again.

Every half period the main thread looks at the workers that were told to end, and at the MQTT thread. It feeds
systemd's watchdog only when both are healthy. Systemd and the guard process (`agent.guard`) watch the main
thread from outside.
"""

import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import structlog

from agent import notify
from agent.mailbox import Mailbox

log = structlog.get_logger(__name__)

PERIOD_S = 60.0
"""The period where no service manager sets one."""
WORKER_PERIODS = 5
"""Periods that a worker may take to end after it was told to."""
EXIT_STUCK = 1


class Watchdog:
    """Belongs to the main thread."""

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        feed: Callable[[], None],
        link_alive: Callable[[], bool],
        stuck_workers: Callable[[float], list[str]],
    ) -> None:
        """`feed` tells the guard that the mailbox moves.

        `stuck_workers` takes seconds and returns the threads that were told to end longer ago, and still run.
        """
        self._mailbox, self._link_alive, self._stuck_workers = mailbox, link_alive, stuck_workers
        self._feed, self._interval_s = feed, interval_s()
        self._looked_s = 0.0

    def begin(self) -> None:
        faulthandler.enable()  # systemd sends SIGABRT to an agent that does not feed it
        self._look()

    def _look(self) -> None:
        now_s, before_s = time.monotonic(), self._looked_s
        self._looked_s = now_s
        # After a pause of the whole process the clock is far ahead, and no thread had time to end.
        if now_s - before_s < 2 * self._interval_s:
            self._end_when_stuck()
        notify.watchdog()
        self._feed()
        self._mailbox.call_later(self._interval_s, self._look)

    def _end_when_stuck(self) -> None:
        reasons = [
            f"thread {name} does not end"
            for name in self._stuck_workers(WORKER_PERIODS * 2 * self._interval_s)
        ]
        if not self._link_alive():
            reasons.append("the MQTT thread is dead or stuck")
        if reasons:
            _end(", ".join(reasons))


def interval_s() -> float:
    """Return the time between two looks: half of systemd's watchdog period, or of `PERIOD_S`."""
    return notify.watchdog_interval_s() or PERIOD_S / 2


def mailbox_limit_s() -> float:
    """Return how long the mailbox may stand still."""
    return 1.8 * interval_s()


def _end(reason: str) -> None:
    log.critical("agent stuck, exiting", reason=reason)
    for name, stack in stacks():
        log.critical("thread stack", thread=name, calls=stack)
    # Without waiting for threads, which would not end. All that has to last is in the journal.
    os._exit(EXIT_STUCK)


def stacks() -> list[tuple[str, str]]:
    """Return name and calls of every thread, the innermost last: files, lines and functions, no values."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return [
        (names.get(ident, str(ident)), " > ".join(_call(call) for call in traceback.extract_stack(frame)))
        for ident, frame in sys._current_frames().items()  # noqa: SLF001 (documented, despite its name)
    ]


def _call(call: traceback.FrameSummary) -> str:
    return f"{'/'.join(Path(call.filename).parts[-2:])}:{call.lineno} {call.name}"
