"""The BackupAndRestore feature as commands see it: what is for us, what it asks for, what is answered.

Order, always: the journal has the command and its answer, then the broker is told that it need not send
it again, then the answer goes out, then the work begins.
"""

import sqlite3
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from agent.admission import Admission, Admitted
from agent.expiry import check_not_expired, timeout_s
from agent.fatal import FatalCommands
from agent.journal import Journal
from agent.messaging import ditto
from agent.messaging.ditto import EXECUTION_FAILED, PARAMETER_INVALID, CommandError, Envelope, Unreadable
from agent.messaging.hono import CommandTopic, parse_command_topic
from agent.messaging.link import Delivery
from agent.messaging.outbox import Outbox
from agent.parameters import Parameters, read_parameters
from agent.redelivery import CommandId, Redeliveries, Repeated, Verdict
from agent.rivals import Rivals
from agent.settings import Settings
from agent.twin import Twin

log = structlog.get_logger(__name__)

MAX_COMMAND_BYTES = 256 << 10
"""No command of a backend comes near this; larger payloads are dropped unread."""

Operation = Callable[[Parameters, str], Admitted]
"""Admits a command of the device with this id. Raises `CommandError`."""


@dataclass(frozen=True, slots=True)
class Command:
    """A message to our inbox, and where its answer goes."""

    topic: CommandTopic
    envelope: Envelope
    operation: str
    id: CommandId
    payload: bytes = field(repr=False)
    correlation_id: str
    """As received; one is made when there is none."""
    received_s: float

    @property
    def answer_is_due(self) -> bool:
        """True, or absent with a request id: absent means true in Ditto and false in Kanto.

        With a timeout of 0 nobody waits for it.
        """
        if timeout_s(self.envelope) == 0:
            return False
        required = self.envelope.response_required
        return not self.topic.one_way if required is None else required


class Feature:
    """Belongs to the main thread."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        outbox: Outbox,
        twin: Twin,
        *,
        redeliveries: Redeliveries,
        fatal: FatalCommands,
        rivals: Rivals,
        operations: Mapping[str, Operation],
    ) -> None:
        self._settings, self._journal, self._outbox, self._twin = settings, journal, outbox, twin
        self._redeliveries, self._fatal = redeliveries, fatal
        self._rivals, self._operations = rivals, operations
        self._admission = Admission(settings)

    def receive(self, delivery: Delivery) -> None:
        """Take a message from a command topic. It is acknowledged, whatever it is, but not too early."""
        command = self._read(delivery)
        if command is None:
            delivery.ack()
            return
        try:
            verdict = self._redeliveries.judge(
                command.id, command.payload, short=command.topic.short, dup=delivery.dup
            )
        except sqlite3.Error:
            log.exception("command refused: the journal cannot be used", **_about(command))
            self._refuse_unwritten(command, delivery)
            return
        if isinstance(verdict, Repeated):
            log.info("command came again, answer repeated", **_about(command))
            delivery.ack()
            if verdict.reply_topic and verdict.reply:
                self._rivals.answered(verdict.reply)
                self._send(verdict.reply_topic, verdict.reply)
        elif verdict is Verdict.OTHER_FORM:
            delivery.ack()
        else:
            self._carry_out(command, delivery, conflict=verdict is Verdict.CONFLICT)

    def _read(self, delivery: Delivery) -> Command | None:
        topic = parse_command_topic(delivery.topic)
        if topic is None or not topic.concerns(self._twin.identity.device_id):
            log.debug("message for somebody else", topic=delivery.topic[:200])
            return None
        if delivery.retain:
            # It would come back with every subscription.
            log.warning("retained command ignored: remove it from the broker", topic=delivery.topic[:200])
            return None
        if len(delivery.payload) > MAX_COMMAND_BYTES:
            log.warning("command ignored: too large", bytes=len(delivery.payload), limit=MAX_COMMAND_BYTES)
            return None
        try:
            envelope = ditto.parse(delivery.payload)
        except Unreadable as error:
            log.warning("message ignored: no Ditto envelope", reason=str(error), topic=delivery.topic[:200])
            return None
        operation = envelope.inbox_subject(self._twin.identity.thing, self._settings.feature_id)
        if operation is None:
            log.debug("message for another thing or feature", topic=delivery.topic[:200])
            return None
        header = envelope.correlation_id
        command_id = CommandId(topic.device, topic.request_id, operation, header or "")
        correlation_id = str(uuid.uuid4()) if header is None else header
        return Command(
            topic, envelope, operation, command_id, delivery.payload, correlation_id, delivery.received_s
        )

    def _carry_out(self, command: Command, delivery: Delivery, *, conflict: bool) -> None:
        admitted, error = self._admit(command, conflict=conflict)
        answer = self._answer(command, error)
        try:
            with self._journal.transaction():
                # The answer waits in memory before the job's first state does: that is their order.
                if answer:
                    self._outbox.reply(*answer)
                if admitted:
                    admitted.record()
                if not conflict:
                    job_id = admitted.job_id if admitted else None
                    self._redeliveries.remember(
                        command.id, command.payload, command.topic.short, answer, job_id
                    )
        except sqlite3.Error:
            log.exception("command refused: the journal cannot be written", **_about(command))
            self._refuse_unwritten(command, delivery)
            return
        delivery.ack()
        self._outbox.flush()
        if admitted:
            admitted.begin()
        elif error:
            log.warning("command refused", status=error.status, reason=error.message, **_about(command))

    def _admit(self, command: Command, *, conflict: bool) -> tuple[Admitted | None, CommandError | None]:
        try:
            if conflict:
                message = f"request id '{command.topic.request_id}' is in use by another command"
                raise CommandError(409, EXECUTION_FAILED, message)
            check_not_expired(command.envelope, time.monotonic() - command.received_s, datetime.now(UTC))
            operation = self._operations.get(command.operation)
            if operation is None:
                message = f"Unsupported operation '{command.operation}'!"
                raise CommandError(400, PARAMETER_INVALID, message)
            self._admission.operation(command.operation)
            parameters = read_parameters(command.operation, command.envelope.value)
            with self._fatal.looking_at(self._redeliveries.digest(command.payload)) as fatal:
                if fatal:
                    raise CommandError(
                        500, EXECUTION_FAILED, "the agent has ended each time it looked at this command"
                    )
                return operation(parameters, self._twin.identity.device_id), None
        except CommandError as error:
            return None, error
        except Exception:
            log.exception("internal error", **_about(command))
            return None, CommandError(500, EXECUTION_FAILED, "internal error: see the device's log")

    def _answer(self, command: Command, error: CommandError | None) -> tuple[str, bytes] | None:
        if not command.answer_is_due or (command.topic.one_way and not self._settings.one_way_replies):
            return None

        def reply(text: str) -> dict[str, Any]:
            shown = error and CommandError(error.status, error.code, text)
            return ditto.reply(
                command.envelope, self._settings.feature_id, command.operation, command.correlation_id, shown
            )

        status, text = (error.status, error.message) if error else (204, "")
        payload = ditto.fitting(reply, text)
        self._rivals.answered(payload)
        return command.topic.reply_topic(status), payload

    def _refuse_unwritten(self, command: Command, delivery: Delivery) -> None:
        self._outbox.forget_fresh()
        delivery.ack()
        error = CommandError(
            507, EXECUTION_FAILED, "the device cannot write its journal: its disk is full or fails"
        )
        if answer := self._answer(command, error):
            self._send(*answer)

    def _send(self, topic: str, payload: bytes) -> None:
        self._outbox.reply(topic, payload)
        self._outbox.flush()


def _about(command: Command) -> dict[str, Any]:
    return {"operation": command.operation, "correlation_id": command.correlation_id[:64]}
