"""The mailbox: everything that happens is posted here, and the main thread takes one action at a time.

MQTT callbacks, timers, signals and workers only post. The actions run in the main thread, which alone owns
the state, so there are no locks to get wrong.
"""

import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import structlog

log = structlog.get_logger(__name__)

Action = Callable[[], None]
Post = Callable[[Action], None]


@dataclass(order=True, slots=True)
class Timer:
    """An action at a time of the monotonic clock, unless it is cancelled before."""

    due_s: float
    number: int
    action: Action = field(compare=False)
    timers: "list[Timer]" = field(compare=False, repr=False)

    def cancel(self) -> None:
        """Forget it, so that nobody wakes for it; harmless when it is over."""
        if self in self.timers:
            self.timers.remove(self)
            heapq.heapify(self.timers)


class Mailbox:
    """`post` may be called from any thread and from signal handlers; all else belongs to the main thread."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Action] = SimpleQueue()
        self.timers: list[Timer] = []
        self._number = itertools.count()
        self._running = False

    def post(self, action: Action) -> None:
        self._queue.put(action)

    def call_later(self, delay_s: float, action: Action) -> Timer:
        timer = Timer(time.monotonic() + delay_s, next(self._number), action, self.timers)
        heapq.heappush(self.timers, timer)
        return timer

    def stop(self) -> None:
        """Let `run` return after the action that is running."""
        self._running = False

    def run(self) -> None:
        """Take what is posted, and timers when they are due, until `stop` was called.

        An action that raises is a bug: it is logged with its traceback, and the agent goes on.
        """
        self._running = True
        while self._running:
            self.take()

    @property
    def is_empty(self) -> bool:
        """Return True when all that was posted is taken."""
        return self._queue.empty()

    def take(self, within_s: float | None = None) -> None:
        """Do the next thing, if there is one in this time."""
        action = self.next(within_s)
        if action is None:
            return
        try:
            action()
        except Exception:
            log.exception("internal error")

    def next(self, within_s: float | None = None) -> Action | None:
        """Wait for the next thing to do, and return it; None when a timer is due, or the time is over."""
        wait_s = within_s
        if self.timers:
            due_s = self.timers[0].due_s - time.monotonic()
            if due_s <= 0:
                return heapq.heappop(self.timers).action
            wait_s = due_s if within_s is None else min(due_s, within_s)
        try:
            return self._queue.get(timeout=wait_s)
        except Empty:
            return None
