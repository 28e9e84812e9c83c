"""The operation `cancel`: stop whatever runs under an id."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from agent.base.errors import Cancelled
from agent.base.refusals import Reason, Refused
from agent.jobs.admission import Admitted
from agent.jobs.requests import Parameters


class Cancellable(Protocol):
    def running(self, correlation_id: str) -> bool:
        """Whether something runs or waits for its turn under this id."""

    def cancel(self, correlation_id: str, code: str, message: str) -> None: ...


def cancel(
    workers: Sequence[Cancellable],
    record: Callable[[str, str, str], None],
    parameters: Parameters,
    _device_id: str,
) -> Admitted:
    """Admit a cancel of the job or the uploads with this id. Raises `Refused` (NOT_FOUND).

    `record` is given id, code and message in the journal's transaction, for what has to outlive a crash.
    """
    correlation_id = parameters.correlationid
    found = [worker for worker in workers if worker.running(correlation_id)]
    if not found:
        raise Refused(Reason.NOT_FOUND, f"nothing runs with id '{correlation_id}'")
    code, message = parameters.statuscode or Cancelled.code, parameters.message or "cancelled by a command"

    def begin() -> None:
        for worker in found:
            worker.cancel(correlation_id, code, message)

    return Admitted(None, partial(record, correlation_id, code, message), begin)
