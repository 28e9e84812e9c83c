"""Nobody can walk to the device: an agent that is stuck notices, says where, and ends. Then it is restarted.

Three things are looked at. Workers that were told to end and have not, and the MQTT thread, in the mailbox,
every half period; systemd's watchdog is fed only when both are healthy. The mailbox itself is watched from
outside: by systemd, and by a timer of `faulthandler`, which is C and needs no interpreter, so that it fires
under a provider that never lets go of it, too. It is set again with every look, and when it has not been
set for most of a period it writes the stacks of all threads to stderr and ends the process.
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
"""Where no service manager says how long the mailbox may take."""
WORKER_PERIODS = 5
"""How long a worker may take to come to its end."""
EXIT_STUCK = 1
"""Also that of `faulthandler`, which knows no other."""


class Watchdog:
    """Belongs to the main thread."""

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        link_alive: Callable[[], bool],
        stuck_workers: Callable[[float], list[str]],
    ) -> None:
        """`stuck_workers` is given seconds, and returns who was told to end longer ago, and has not."""
        self._mailbox, self._link_alive, self._stuck_workers = mailbox, link_alive, stuck_workers
        self._interval_s = notify.watchdog_interval_s() or PERIOD_S / 2
        self._looked_s = 0.0
        self._stderr = _stderr()

    def begin(self) -> None:
        # For whoever ends the agent with SIGABRT, as systemd does when it is not fed, and for crashes.
        faulthandler.enable(self._stderr)
        self._look()

    def _look(self) -> None:
        now_s, before_s = time.monotonic(), self._looked_s
        self._looked_s = now_s
        # A process that was stopped for a while finds its clock far ahead, and its threads as it left them.
        if now_s - before_s < 2 * self._interval_s:
            self._end_when_stuck()
        notify.watchdog()
        faulthandler.dump_traceback_later(1.8 * self._interval_s, exit=True, file=self._stderr)
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


def _stderr() -> int:
    """A descriptor of stderr that waits for nobody: its reader may be what the agent is stuck on."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open("/proc/self/fd/2", flags)
    except OSError:  # a socket, as that of systemd's journal, or none at all
        return 2


def _end(reason: str) -> None:
    log.critical("the agent is stuck and ends, to be started again", reason=reason)
    for name, stack in stacks():
        log.critical("stack", thread=name, calls=stack)
    # Without a goodbye to threads that would not hear it. All that has to last is in the journal.
    os._exit(EXIT_STUCK)


def stacks() -> list[tuple[str, str]]:
    """Name and calls of every thread, the innermost call last: files, lines and functions, no values."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return [
        (names.get(ident, str(ident)), " > ".join(_call(call) for call in traceback.extract_stack(frame)))
        for ident, frame in sys._current_frames().items()  # noqa: SLF001 (documented, despite its name)
    ]


def _call(call: traceback.FrameSummary) -> str:
    return f"{'/'.join(Path(call.filename).parts[-2:])}:{call.lineno} {call.name}"
