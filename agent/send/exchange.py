"""The exchange about one command. Pure: no clock, no network, no output.

The device answers the command; then the job runs (`lastOperation`); then, where no destination was named,
the device asks for one (the upload request), is given it with a `start`, and uploads (`lastUpload`).
Each operation takes a part of that way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from agent.base.operations import OPERATIONS
from agent.send.arguments import Order, names_destination
from agent.send.backend import Heard, OutgoingCommand


class Phase(Enum):
    """The step of an exchange that the sender waits for."""

    ANSWER = auto()
    JOB = auto()
    """`lastOperation` has to tell how the job ended; for a verification, the status feature."""
    STATUS = auto()
    """The status feature, which may be switched off, has to tell that the verification runs, or ended."""
    REQUEST = auto()
    """The device has to ask for a destination, and to accept the one that it gets."""
    UPLOAD = auto()
    """`lastUpload` has to tell how the upload ended."""


class MessageKind(StrEnum):
    """The meaning of a message of the device."""

    ANSWER = "answer"
    LAST_OPERATION = "lastOperation"
    REQUEST = "request"
    LAST_UPLOAD = "lastUpload"
    JOB = "job"


@dataclass(frozen=True, slots=True)
class Ending:
    good: bool
    text: str


class Exchange:
    """`hear` every message, and send what is `due` before and after, until there is an `outcome`."""

    def __init__(self, order: Order) -> None:
        self._operation, self._id = order.operation, order.correlation_id
        self._destination = order.destination
        options = order.value.get("options", {})
        self._stores_itself = names_destination(options)
        self._previews = order.operation == "restore" and options.get("restore.preview") == "true"
        self._command = OutgoingCommand(order.operation, order.value, order.request_id)
        self._due = [self._command]
        self._starts: dict[str, str] = {}
        self._uploading: set[str] = set()
        self._last_state = ""
        self.phase = Phase.ANSWER
        self.outcome: Ending | None = None

    @property
    def awaited(self) -> Phase:
        """Return the step that the device owes next; an answer to a `start` on its way comes first."""
        return Phase.ANSWER if self._starts else self.phase

    def due(self) -> list[OutgoingCommand]:
        """Return the commands to send now, each of them once."""
        due, self._due = self._due, []
        return due

    def hear(self, heard: Heard) -> MessageKind | None:
        """Take a message in; return its meaning, None when it is about others."""
        readers = (
            (MessageKind.ANSWER, self._hear_answer),
            (MessageKind.LAST_OPERATION, self._hear_operation),
            (MessageKind.REQUEST, self._hear_request),
            (MessageKind.LAST_UPLOAD, self._hear_upload),
            (MessageKind.JOB, self._hear_job),
        )
        return next((kind for kind, understands in readers if understands(heard)), None)

    def given_up(self, device_id: str, *, time_is_up: bool) -> Ending:
        """Return the outcome when nothing more was heard in a phase, or when the whole time is up."""
        if self.awaited is Phase.ANSWER:
            why = "does the agent run, on this broker, and is the feature's name right?"
            return Ending(False, f"timed out: no answer from '{device_id}': {why}")
        if self._operation == "trigger" and self.phase is Phase.REQUEST and not time_is_up:
            return Ending(True, "no archive waits on the device")
        if self.phase is Phase.REQUEST:
            return Ending(False, "timed out: the device sent no upload request")
        if self.phase is Phase.STATUS:
            return Ending(True, self._where_to_look())
        state = self._last_state or "none"
        return Ending(
            False,
            f"timed out: the last message was {state}. The device continues; to stop it:"
            f" edge-backup send cancel --correlation-id '{self._id}' ...",
        )

    def _end(self, text: str) -> None:
        self.outcome = Ending(True, text)

    def _fail(self, text: str) -> None:
        self.outcome = Ending(False, text)

    # Answers

    def _hear_answer(self, heard: Heard) -> bool:
        if heard.answered == self._command.header_id and self.phase is Phase.ANSWER:
            if heard.accepted:
                self._accepted()
            else:
                self._fail(f"refused: {refusal(heard)}")
            return True
        child_id = self._starts.pop(heard.answered or "", None)
        if child_id is None:
            return False
        # A request that arrives twice is answered twice; the second `start` meets the first one's upload.
        if heard.accepted or (heard.status == 409 and child_id in self._uploading):
            self._uploading.add(child_id)
            self.phase = Phase.UPLOAD
        else:
            self._fail(f"refused: upload '{child_id}': {refusal(heard)}")
        return True

    def _accepted(self) -> None:
        if self._previews:
            self._end("the device makes a preview; to see it: edge-backup send status ...")
        elif self._operation in ("backup", "restore", "finalize"):
            self.phase = Phase.JOB
        elif self._operation == "start":
            self._uploading.add(self._id)
            self.phase = Phase.UPLOAD
        elif self._operation == "trigger" and self._destination is not None:
            self.phase = Phase.REQUEST
        elif self._operation == "verify":
            self.phase = Phase.STATUS
        else:
            self._end("answered" if OPERATIONS[self._operation].returns_value else "accepted")

    # The job

    def _hear_operation(self, heard: Heard) -> bool:
        value = heard.last_operation
        if self.phase is not Phase.JOB or value is None or value.get("correlationId") != self._id:
            return False
        self._last_state = str(value.get("state"))
        if self._last_state.endswith("_FAILED"):
            self._fail(f"failed: {_reason(value)}")
        elif self._last_state.endswith("_FINISHED"):
            if self._operation == "backup" and not self._stores_itself:
                self.phase = Phase.REQUEST
            else:
                self._end("done")
        return True

    def _hear_job(self, heard: Heard) -> bool:
        job = heard.status_job
        if self.phase not in (Phase.JOB, Phase.STATUS) or job is None:
            return False
        if job.get("correlationId") == self._id:
            self.phase, self._last_state = Phase.JOB, self._last_state or str(job.get("phase"))
            return True
        return self._operation == "verify" and self._hear_verified(job)

    def _hear_verified(self, job: Mapping[str, object]) -> bool:
        """Take in that another job runs or none: the verification may be the last one that ended."""
        last = job.get("last")
        if isinstance(last, Mapping) and last.get("correlationId") == self._id:
            if last.get("state") == "FINISHED":
                self._end("done")
            else:
                self._fail(f"failed: {_reason(last)}")
            return True
        if self.phase is Phase.JOB:  # it ended, and a newer job is told
            self._end(self._where_to_look())
        return self.phase is Phase.JOB

    def _where_to_look(self) -> str:
        known = f"edge-backup send describe --correlation-id '{self._id}' ..."
        return f"the device verifies; to see the result: {known}"

    # The upload

    def _hear_request(self, heard: Heard) -> bool:
        child_id = str((heard.upload_request or {}).get("correlationId", ""))
        if self.phase not in (Phase.REQUEST, Phase.UPLOAD) or not self._is_ours(child_id):
            return False
        if self._destination is None:
            self._end(
                "the archive waits on the device; to upload it: edge-backup send start"
                f" --correlation-id '{child_id}' ..."
            )
            return True
        start = OutgoingCommand("start", {"correlationID": child_id, "options": dict(self._destination)})
        self._starts[start.header_id] = child_id
        self._due.append(start)
        return True

    def _is_ours(self, child_id: str) -> bool:
        return child_id == self._id if self._operation == "start" else parent_of(child_id) == self._id

    def _hear_upload(self, heard: Heard) -> bool:
        value = heard.last_upload
        ours = parent_of(self._id) if self._operation == "start" else self._id
        if self.phase is not Phase.UPLOAD or value is None or value.get("correlationId") != ours:
            return False
        self._last_state = str(value.get("state"))
        if self._last_state == "SUCCESS":
            self._end("done")
        elif self._last_state in ("FAILED", "CANCELED"):
            self._fail(f"failed: {_reason(value)}")
        return True


def parent_of(child_id: str) -> str:
    """Return the id that `lastUpload` carries: the device offers the archives of `X` as `X#1`, `X#2`…"""
    return child_id.rpartition("#")[0] or child_id


def refusal(heard: Heard) -> str:
    """Return status and message of an answer that refuses."""
    value = heard.message.get("value")
    message = value.get("message", "") if isinstance(value, Mapping) else ""
    return f"{heard.status} {message}".strip()


def _reason(value: Mapping[str, object]) -> str:
    parts = (value.get("state"), value.get("statusCode"), value.get("message"))
    return ", ".join(str(part) for part in parts if part)
