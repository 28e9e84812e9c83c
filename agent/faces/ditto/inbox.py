"""Reads commands from messages to the feature's inbox; ignores unreadable messages, and those for others."""

import hashlib
import uuid
from dataclasses import dataclass, field, replace

import structlog

from agent.base.refusals import Reason, Refused
from agent.base.text import compact_json, readable
from agent.faces.ditto.expiry import timeout_s
from agent.faces.ditto.refusals import error_of
from agent.faces.ditto.twin_messages import Twin
from agent.jobs.requests.raw import MAX_ID_BYTES
from agent.journal.commands import CommandId
from agent.log.sparing import SparingLog
from agent.mailbox import Action
from agent.mqtt import envelope as ditto
from agent.mqtt.envelope import Envelope, Unreadable
from agent.mqtt.hono import CommandTopic, parse_command_topic
from agent.mqtt.link import Delivery

log = structlog.get_logger(__name__)
sparing = SparingLog(log)

_TOO_LONG = Refused(
    Reason.INVALID, f"the subject, or the header 'correlation-id', is too long: at most {MAX_ID_BYTES} bytes"
)
_SUBJECT_LETTERS = 64
_ROOM_FOR_REASON_BYTES = 200
"""An answer has room at least for so much of a reason."""


@dataclass(frozen=True, slots=True)
class InboxCommand:
    """A message to our inbox, and where its answer goes."""

    topic: CommandTopic
    envelope: Envelope
    operation: str
    id: CommandId
    payload: bytes = field(repr=False)
    correlation_id: str
    """As received; one is made when there is none."""
    received_s: float
    fault: str = ""
    """The reason for its refusal: its answer could not repeat its subject and id, which are cut here."""

    @property
    def answer_is_due(self) -> bool:
        """Return True when the sender waits for an answer.

        An absent `response-required` means true in Ditto and false in Kanto; here it means true with a
        request id. With a timeout of 0 nobody waits.
        """
        if timeout_s(self.envelope) == 0:
            return False
        required = self.envelope.response_required
        return not self.topic.one_way if required is None else required

    def answered_in(self, feature_id: str) -> tuple[Envelope, str, str, str]:
        """Return the facts of which an answer is made."""
        return self.envelope, feature_id, self.operation, self.correlation_id


class Inbox:
    """Belongs to the main thread."""

    def __init__(self, feature_id: str, twin: Twin) -> None:
        self._feature_id, self._twin = feature_id, twin
        self.deleted: Action = lambda: None
        """To be set: called when somebody has deleted the feature in the twin."""

    def read(self, delivery: Delivery) -> InboxCommand | None:
        """Return the command in a message; None, and logged, for what is for somebody else or unreadable."""
        topic, identity = parse_command_topic(delivery.topic), self._twin.identity
        if topic is None or identity is None or not topic.concerns(identity.device_id):
            log.debug("message for another recipient ignored", topic=delivery.topic[:200])
            return None
        if delivery.retain:
            # It would come back with every subscription.
            sparing.warning("retained command ignored: remove it from the broker", topic=delivery.topic[:200])
            return None
        try:
            envelope = ditto.parse(delivery.payload)
        except Unreadable as error:
            sparing.warning(
                "message ignored: no Ditto envelope", reason=str(error), topic=delivery.topic[:200]
            )
            return None
        operation = envelope.inbox_subject(identity.thing, self._feature_id)
        if operation is None:
            if envelope.tells_deletion(identity.thing, self._feature_id):
                sparing.warning("feature deleted in the twin, announcing it again", path=envelope.path)
                self.deleted()
            log.debug("message for another thing or feature ignored", topic=delivery.topic[:200])
            return None
        header = envelope.correlation_id
        command_id = CommandId(topic.device, topic.request_id, operation, header or "")
        correlation_id = str(uuid.uuid4()) if header is None else header
        command = InboxCommand(
            topic, envelope, operation, command_id, delivery.payload, correlation_id, delivery.received_s
        )
        return self._bounded(command, identity.thing)

    def _bounded(self, command: InboxCommand, thing: str) -> InboxCommand:
        """Return the command. One whose answer would be too long gets a fault, and loses its long texts.

        Hono's adapter ends the connection of a device that sends more than it takes, and what is kept for
        delivery would be sent again with every connection.
        """
        shortest = ditto.reply(
            *command.answered_in(self._feature_id), error=replace(error_of(_TOO_LONG), message="…")
        )
        header_fits = len(command.correlation_id.encode()) <= MAX_ID_BYTES
        if header_fits and len(compact_json(shortest)) <= ditto.MAX_MESSAGE_BYTES - _ROOM_FOR_REASON_BYTES:
            return command
        subject, correlation_id = readable(command.operation)[:_SUBJECT_LETTERS], str(uuid.uuid4())
        live_topic = f"{thing}/things/live/messages/{subject}"
        digest = hashlib.sha256(repr((command.operation, command.correlation_id)).encode()).hexdigest()
        return replace(
            command,
            topic=replace(command.topic, subject=readable(command.topic.subject)[:_SUBJECT_LETTERS]),
            envelope=replace(command.envelope, topic=live_topic),
            operation=subject,
            id=replace(command.id, subject=subject, correlation_id=digest),
            correlation_id=correlation_id,
            fault=_TOO_LONG.message,
        )
