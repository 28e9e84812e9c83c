"""What every face of the agent can be asked for, whatever way it came: commands and questions.

A command changes something and is admitted first; a question only reads. Both belong to the main thread.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import structlog

from agent.base.refusals import Reason, Refused
from agent.jobs.admission import Admitted
from agent.jobs.requests import Parameters, read_parameters

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

Operation = Callable[[Parameters, str], Admitted]
"""Admits a command of the device with this id. Raises `Refused`."""
Question = Callable[[Parameters, int], Mapping[str, Any]]
"""The answer's value, of at most so many bytes of compact JSON. Raises `Refused`."""
Tell = Callable[[Mapping[str, Any]], None]
"""Takes the answer's value, once."""
Inquiry = Callable[[Parameters, int, Tell], None]
"""A question that takes its time: the value is told later. Raises `Refused` at once."""
Answer = Callable[[int, Mapping[str, Any] | None], None]
"""Takes the status, as Ditto's answers have it, and the value."""


class Operations:
    def __init__(
        self,
        commands: Mapping[str, Operation],
        questions: Mapping[str, Question],
        inquiries: Mapping[str, Inquiry],
    ) -> None:
        self._commands, self._questions, self._inquiries = commands, questions, inquiries

    def is_question(self, name: str) -> bool:
        return name in self._questions or name in self._inquiries

    def check_known(self, name: str) -> None:
        """Raise `Refused` when there is no such operation."""
        if name not in self._commands and not self.is_question(name):
            raise Refused(Reason.INVALID, f"Unsupported operation '{name}'!")

    def admit(self, name: str, value: Any, device_id: str, *, local: bool = False) -> Admitted:
        """Admit the command `name` of the device with this id. Raises `Refused`.

        `local` is True for one that came through the device's own door.
        """
        self.check_known(name)
        return self.admit_read(
            name, _guarded(name, lambda: read_parameters(name, value, local=local)), device_id
        )

    def admit_read(self, name: str, parameters: Parameters, device_id: str) -> Admitted:
        """The same for a command that there is, and parameters that were read or made otherwise."""
        return _guarded(name, lambda: self._commands[name](parameters, device_id))

    def ask(self, name: str, value: Any, room_bytes: int, tell: Tell) -> None:
        """Tell the answer to the question `name`, in at most `room_bytes` of JSON, at once or later.

        Raises `Refused`, and then nothing is told.
        """
        if inquiry := self._inquiries.get(name):
            _guarded(name, lambda: inquiry(read_parameters(name, value), room_bytes, tell))
        else:
            question = self._questions[name]
            tell(_guarded(name, lambda: question(read_parameters(name, value), room_bytes)))


def _guarded(name: str, act: Callable[[], Result]) -> Result:
    try:
        return act()
    except Refused:
        raise
    except Exception as error:
        log.exception("internal error", operation=name)
        raise Refused(Reason.INTERNAL, "internal error: see the device's log") from error
