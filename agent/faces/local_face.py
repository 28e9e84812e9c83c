"""Commands and questions that come through the device's own door (`agent.faces.control`), answered at once.

Whoever may open the socket may ask for all operations.
Belongs to the main thread.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from agent.base.operations import Face
from agent.base.refusals import Reason, Refused
from agent.faces.control import Reply
from agent.faces.ditto.refusals import error_of
from agent.jobs.admission import Admitted
from agent.jobs.operations import Operations
from agent.journal import JournalError

log = structlog.get_logger(__name__)

ROOM_BYTES = 1 << 20
"""No wire limits these answers; a page of the history ends here."""


class LocalFace:
    """`carry_out` records what was admitted, calls what it is given, and begins; it raises JournalError."""

    def __init__(
        self,
        operations: Operations,
        carry_out: Callable[[Admitted, Callable[[], None]], None],
    ) -> None:
        self._operations, self._carry_out = operations, carry_out

    def receive(self, operation: str, value: Any, answer: Reply) -> None:
        """Carry out a command, or answer a question; `answer` is called once."""
        try:
            self._operations.check_offered(operation, Face.LOCAL)
            if self._operations.is_question(operation):
                self._operations.ask(operation, value, ROOM_BYTES, partial(answer, 200))
            else:
                admitted = self._operations.admit(operation, value, Face.LOCAL)
                self._carry_out(admitted, partial(answer, 204, None))
        except Refused as refused:
            _answer_refused(refused, answer)
        except JournalError:
            log.exception("command refused: journal not writable", operation=operation)
            _answer_refused(Refused(Reason.UNAVAILABLE, "the device cannot write its journal"), answer)


def _answer_refused(refused: Refused, answer: Reply) -> None:
    error = error_of(refused)
    answer(error.status, {"error": error.code, "message": error.message})
