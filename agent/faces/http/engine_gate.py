"""The way of a handler's thread to the engine: it posts into the mailbox and waits, with a limit."""

import threading
from collections.abc import Callable, Mapping
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NoReturn, TypeVar

import structlog

from agent.base.operations import Face
from agent.base.refusals import SEE_LOG, Reason, Refused
from agent.faces.http.message import Problem
from agent.jobs.admission import Admitted
from agent.jobs.operations import Operations
from agent.jobs.requests.raw import Request as EngineRequest
from agent.journal import JournalError
from agent.mailbox import Post

log = structlog.get_logger(__name__)

ROOM_BYTES = 1 << 20
"""No wire limits these answers; a page of the history ends here."""
ANSWER_TIMEOUT_S = 60.0

Result = TypeVar("Result")
Value = Mapping[str, Any]


class EngineGate:
    """Each method may be called from any thread, and raises `Refused`, or `Problem` 504 without an answer."""

    def __init__(
        self,
        post: Post,
        operations: Operations,
        carry_out: Callable[[Admitted, Callable[[], None]], None],
    ) -> None:
        """`carry_out` records what was admitted, calls what it is given, and begins. Raises JournalError."""
        self._post, self._operations, self._carry_out = post, operations, carry_out

    def ask(self, operation: str, value: Value | None, face: Face, room_bytes: int = ROOM_BYTES) -> Value:
        """Return the answer to a question, of at most `room_bytes`."""

        return self._waited(partial(self._operations.ask, operation, value, face, room_bytes))

    def command(self, operation: str, value: Value | None, face: Face) -> str | None:
        """Carry out a command, and return the id of its job, if it has one."""
        return self._carried_out(partial(self._operations.admit, operation, value, face))

    def run(self, request: EngineRequest, face: Face) -> str | None:
        """Carry out a command that was read already, and return the id of its job, if it has one."""
        return self._carried_out(partial(self._operations.admit_request, request, face))

    def call(self, function: Callable[[], Result]) -> Result:
        """Return what a function of the main thread returns."""

        def tell_result(tell: Callable[[Result], None]) -> None:
            tell(function())

        return self._waited(tell_result)

    def check_offered(self, operation: str, face: Face) -> None:
        """Raise `Refused` when the face has no such operation, or the settings do not allow it there."""
        self.call(partial(self._operations.check_offered, operation, face))

    def look(self, operation: str, face: Face, function: Callable[[], Result]) -> Result:
        """Return what a function of the main thread returns; it is a part of this operation."""

        def look() -> Result:
            self._operations.check_offered(operation, face)
            return function()

        return self.call(look)

    def _carried_out(self, admit: Callable[[], Admitted]) -> str | None:
        def carry_out(tell: Callable[[str | None], None]) -> None:
            admitted = admit()
            self._carry_out(admitted, partial(tell, admitted.job_id))

        return self._waited(carry_out)

    def _waited(self, act: Callable[[Callable[[Result], None]], None]) -> Result:
        """Run `act` in the main thread, and return what it tells now or later."""
        outcome: SimpleQueue[Callable[[], Result]] = SimpleQueue()
        given_up = threading.Event()

        def guarded() -> None:
            if given_up.is_set():
                return  # the client was told that nothing happened
            try:
                act(lambda result: outcome.put(lambda: result))
            except Refused as error:
                outcome.put(partial(_refuse, error))
            except JournalError:
                log.exception("request refused: journal not writable")
                refused = Refused(Reason.UNAVAILABLE, "the device cannot write its journal")
                outcome.put(partial(_refuse, refused))
            except Exception:
                log.exception("internal error")
                outcome.put(partial(_refuse, Refused(Reason.INTERNAL, SEE_LOG)))

        self._post(guarded)
        try:
            return outcome.get(timeout=ANSWER_TIMEOUT_S)()
        except Empty:
            given_up.set()
            raise Problem(504, "the agent does not answer: see its log") from None


def _refuse(error: Refused) -> NoReturn:
    raise error
