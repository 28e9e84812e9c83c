"""The operations with the code of each, for every face of the agent.

A command is read into its request, admitted, recorded and begun; a question is answered with a value. Belongs
to the main thread.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from agent.base.operations import OPERATIONS, Face
from agent.base.refusals import SEE_LOG, Reason, Refused
from agent.jobs.admission import Admitted
from agent.jobs.requests.raw import Request, read_raw
from agent.journal import JournalError
from agent.mailbox import Action
from agent.settings import Settings
from providers.allow import EVERYTHING

log = structlog.get_logger(__name__)

R = TypeVar("R", bound=Request)
Result = TypeVar("Result")

Tell = Callable[[Mapping[str, Any]], None]
"""Takes the answer's value, once."""


@dataclass(frozen=True, slots=True)
class CommandHandler(Generic[R]):
    request: type[R]
    admit: Callable[[R], Admitted]
    """Admits the request. Raises `Refused`."""
    refuse_early: Action = lambda: None
    """Raises `Refused` before the options are read: a flood costs little while a job runs."""


@dataclass(frozen=True, slots=True)
class QuestionHandler(Generic[R]):
    request: type[R]
    ask: Callable[[R, int, Tell], None]
    """Tells the answer, in at most so many bytes of compact JSON, now or later. Raises `Refused` at once."""


def at_once(answer: Callable[[R, int], Mapping[str, Any]]) -> Callable[[R, int, Tell], None]:
    """Ask a question whose answer is known at once."""
    return lambda request, room_bytes, tell: tell(answer(request, room_bytes))


class Operations:
    def __init__(
        self,
        settings: Settings,
        commands: Iterable[CommandHandler[Any]],
        questions: Iterable[QuestionHandler[Any]],
    ) -> None:
        self._settings = settings
        self._commands = {each.request.operation: each for each in commands}
        self._questions = {each.request.operation: each for each in questions}

    def is_question(self, name: str) -> bool:
        return name in self._questions

    def check_offered(self, name: str, face: Face) -> None:
        """Raise `Refused` when this face has no such operation, or the settings do not allow it there."""
        operation = OPERATIONS.get(name)
        if operation is None or face not in operation.faces:
            raise Refused(Reason.INVALID, f"Unsupported operation '{name}'!")
        if face is not Face.LOCAL and not {EVERYTHING, name} & set(self._settings.allow.operations):
            message = f"operation '{name}' is not allowed on this device (allow.operations)"
            raise Refused(Reason.FORBIDDEN, message)

    def admit(self, name: str, value: Any, face: Face) -> Admitted:
        """Admit the command `name` that came over this face. Raises `Refused`."""
        self.check_offered(name, face)
        handler = self._commands[name]

        def admit() -> Admitted:
            raw = read_raw(name, value, face)
            handler.refuse_early()
            return handler.admit(handler.request.read(raw, self._settings))

        return _guarded(name, admit)

    def admit_request(self, request: Request, face: Face = Face.LOCAL) -> Admitted:
        """Admit a command that was read already, or that a program has composed itself. Raises `Refused`."""
        name = request.operation
        self.check_offered(name, face)
        return _guarded(name, lambda: self._commands[name].admit(request))

    def ask(self, name: str, value: Any, face: Face, room_bytes: int, tell: Tell) -> None:
        """Tell the answer to the question `name`, in at most `room_bytes` of JSON, at once or later.

        Raises `Refused`, and then nothing is told.
        """
        self.check_offered(name, face)
        handler = self._questions[name]

        def ask() -> None:
            request = handler.request.read(read_raw(name, value), self._settings)
            handler.ask(request, room_bytes, tell)

        _guarded(name, ask)


def _guarded(name: str, act: Callable[[], Result]) -> Result:
    try:
        return act()
    except (Refused, JournalError):
        raise
    except Exception as error:
        log.exception("internal error", operation=name)
        raise Refused(Reason.INTERNAL, SEE_LOG) from error
