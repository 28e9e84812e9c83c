"""Commands and questions that come through the device's own door (`agent.control`), answered at once.

The same operations as those of the twin's feature; whoever may open the socket may ask for all of them.
Belongs to the main thread.
"""

import sqlite3
from typing import Any

import structlog

from agent.control import Answer
from agent.journal import Journal
from agent.messaging.ditto import EXECUTION_FAILED, CommandError
from agent.operations import Operations
from agent.twin import Twin

log = structlog.get_logger(__name__)

ROOM_BYTES = 64 << 10
"""No wire limits these answers; a page of the history ends here."""


class LocalFace:
    def __init__(self, operations: Operations, journal: Journal, twin: Twin) -> None:
        self._operations, self._journal, self._twin = operations, journal, twin

    def receive(self, operation: str, value: Any, answer: Answer) -> None:
        """Carry out a command, or answer a question; `answer` is called once."""
        try:
            if self._operations.is_question(operation):
                answer(200, self._operations.answer(operation, value, ROOM_BYTES))
            else:
                self._carry_out(operation, value)
                answer(204, None)
        except CommandError as error:
            answer(error.status, {"error": error.code, "message": error.message})

    def _carry_out(self, operation: str, value: Any) -> None:
        admitted = self._operations.admit(operation, value, self._twin.identity.device_id)
        try:
            with self._journal.transaction():
                admitted.record()
        except sqlite3.Error as error:
            log.exception("command refused: the journal cannot be written", operation=operation)
            raise CommandError(507, EXECUTION_FAILED, "the device cannot write its journal") from error
        self._twin.settled()
        admitted.begin()
