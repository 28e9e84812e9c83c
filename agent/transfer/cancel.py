"""Asking a worker to stop, from any thread."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agent.base.errors import Cancelled, Interrupted


class CancelToken:
    """Asks a worker to stop. Set once, from any thread; the worker looks at it, or is woken by it."""

    def __init__(self, *, resumable: bool = False) -> None:
        """`resumable` work can be continued later, when it was the agent that stopped it."""
        self.event = threading.Event()
        self.in_foreign_hands = False
        """True while a provider works: the one place where a cancel may go unnoticed."""
        self.code = Cancelled.code
        self.message = ""
        self.interrupted = False
        """True when nobody asked for it: the agent is stopped, or time is up."""
        self._resumable, self._finishing = resumable, False
        self._late: tuple[float, Exception] | None = None
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], None]] = []

    def cancel(self, message: str, code: str = Cancelled.code) -> None:
        """Somebody wants it to stop, with this status code and message; a second call changes nothing."""
        self._set(message, code, interrupted=False)

    def interrupt(self, message: str, code: str) -> None:
        """The agent has to stop it; what is resumable is left as it is."""
        self._set(message, code, interrupted=True)

    def time_out(self, message: str, code: str) -> None:
        """Time is up: the same, but what only has to be finished is left alone."""
        self._set(message, code, interrupted=True, unless_finishing=True)

    def finish(self) -> None:
        """From now on it takes longer to go back than to go on. Raises `Cancelled` when it is too late."""
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
        """Raise `Cancelled` once the token is set. The one cancel point."""
        if self.event.is_set():
            raise (Interrupted if self.interrupted and self._resumable else Cancelled)(self.message)
        if self._late and time.monotonic() > self._late[0]:
            raise self._late[1]

    @contextmanager
    def within(self, limit_s: float, late: Exception) -> Iterator[None]:
        """While inside, `check` raises `late` when it is called later than this. For the worker's thread."""
        self._late = time.monotonic() + limit_s, late
        try:
            yield
        finally:
            self._late = None

    @contextmanager
    def lent(self) -> Iterator[None]:
        """While inside, a provider works."""
        self.in_foreign_hands = True
        try:
            yield
        finally:
            self.in_foreign_hands = False

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """While inside, `cancel` also calls `wake`: it kills a process, closes a socket."""
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
