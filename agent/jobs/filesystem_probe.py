"""Work on a file system that may never answer, as when its file server is gone."""

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from agent.base.refusals import Reason, Refused

Result = TypeVar("Result")

PATIENCE_S = 2.0
"""The longest time that a thread waits for a file system."""
MOST_WAITING = 16


class NoAnswer(Exception):
    """A file system does not answer."""


class ThreadedCall(Generic[Result]):
    """An action in a thread of its own. It may never return: the process can end without it."""

    def __init__(self, name: str, action: Callable[[], Result]) -> None:
        self._action = action
        self._result: Result
        self._error: Exception | None = None
        self._done = threading.Event()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        try:
            self._result = self._action()
        except Exception as error:
            self._error = error
        self._done.set()

    def done(self, within_s: float = 0) -> bool:
        """Return True when the action has returned, or returns within this time."""
        return self._done.wait(max(0, within_s))

    def result(self) -> Result:
        """Return the result of the action, when it is done. The first call raises the error of the action."""
        if self._error:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback keeps this object, and with it what the action holds
        return self._result


class Probes:
    """Belongs to one thread at a time."""

    def __init__(self) -> None:
        self._waiting: dict[str, ThreadedCall[Any]] = {}

    def look(self, where: str, action: Callable[[], Result]) -> Result:
        """Return the result of `action`. Raises its error, and `NoAnswer` after `PATIENCE_S`.

        Raises `NoAnswer` at once while an earlier look at `where`, or too many others, have not returned:
        each look would wait, and keep a thread.
        """
        self._waiting = {name: look for name, look in self._waiting.items() if not look.done()}
        if where in self._waiting or len(self._waiting) >= MOST_WAITING:
            raise NoAnswer
        look = ThreadedCall("look", action)
        if not look.done(PATIENCE_S):
            self._waiting[where] = look
            raise NoAnswer
        return look.result()

    def look_or_refuse(self, shown: str, action: Callable[[], Result]) -> Result:
        """Return the result of `action`, as `look`; `shown` names the file system. Raises `Refused`, too."""
        try:
            return self.look(shown, action)
        except NoAnswer as error:
            message = f"{shown} does not answer: is its file server there?"
            raise Refused(Reason.CANNOT, message) from error
