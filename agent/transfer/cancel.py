"""The token by which any thread asks a worker to stop."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agent.base.errors import Cancelled, Interrupted


class CancelToken:
    """Set once, from any thread; the worker checks it, or is woken by it."""

    def __init__(self, *, resumable: bool = False) -> None:
        """`resumable` work is continued later when the agent has stopped it."""
        self.event = threading.Event()
        self.in_foreign_hands = False
        """True while a provider works: the one place where a cancel may go unnoticed."""
        self.code = Cancelled.code
        self.message = ""
        self.interrupted = False
        """True when nobody cancelled: the agent stops, or time is up."""
        self._resumable, self._finishing = resumable, False
        self._late: tuple[float, Exception] | None = None
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], None]] = []

    def cancel(self, message: str, code: str = Cancelled.code) -> None:
        """Stop the work, with this status code and message; a second call changes nothing."""
        self._set(message, code, interrupted=False)

    def interrupt(self, message: str, code: str) -> None:
        """Stop the work because the agent stops; resumable work is continued later."""
        self._set(message, code, interrupted=True)

    def time_out(self, message: str, code: str) -> None:
        """Stop the work because time is up, unless `finish` was called."""
        self._set(message, code, interrupted=True, unless_finishing=True)

    def finish(self) -> None:
        """Exempt the rest of the work from `time_out`. Raises `Cancelled` when the token is set already."""
        with self._lock:
            self._finishing = True
        self.check()

    def _set(self, message: str, code: str, *, interrupted: bool, unless_finishing: bool = False) -> None:
        with self._lock:
            if self.event.is_set() or (unless_finishing and self._finishing):
                return
            self.code, self.message, self.interrupted = code, message, interrupted
            self.event.set()
            wakers = list(self._wakers)
        for wake in wakers:
            wake()

    def check(self) -> None:
        """Raise `Cancelled` once the token is set. This is the one cancel point."""
        if self.event.is_set():
            raise (Interrupted if self.interrupted and self._resumable else Cancelled)(self.message)
        if self._late and time.monotonic() > self._late[0]:
            raise self._late[1]

    @contextmanager
    def within(self, limit_s: float, late: Exception) -> Iterator[None]:
        """Let `check` raise `late` after this limit, until the end of the block. For the worker's thread."""
        self._late = time.monotonic() + limit_s, late
        try:
            yield
        finally:
            self._late = None

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Mark the block as the work of a provider."""
        self.in_foreign_hands = True
        try:
            yield
        finally:
            self.in_foreign_hands = False

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Let a cancel during the block call `wake`, which kills a process or closes a socket."""
        with self._lock:
            self._wakers.append(wake)
            cancelled = self.event.is_set()
        if cancelled:
            wake()
        try:
            yield
        finally:
            with self._lock:
                self._wakers.remove(wake)
