"""The BackupAndRestore feature: takes commands, answers them, and begins their work.

The order is always: the journal has the command and its answer, the broker gets the acknowledgement, the
answer goes out, the work begins.
"""

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from agent.base.operations import Face
from agent.base.refusals import SEE_LOG, Reason, Refused
from agent.base.text import compact_json
from agent.faces.ditto.duplicate_agent import DuplicateAgents
from agent.faces.ditto.expiry import check_not_expired
from agent.faces.ditto.inbox import Inbox, InboxCommand
from agent.faces.ditto.poison_commands import PoisonCommands
from agent.faces.ditto.redelivery import Redeliveries, Repeated, Verdict
from agent.faces.ditto.refusals import error_of
from agent.faces.ditto.twin_messages import Twin
from agent.jobs.admission import Admitted
from agent.jobs.operations import Operations
from agent.journal import Journal, JournalError, Unit
from agent.mqtt import envelope as ditto
from agent.mqtt.link import Delivery
from agent.mqtt.outbox import Outbox
from agent.settings import Settings

log = structlog.get_logger(__name__)

MAX_TOGETHER = 100
"""Commands in one unit of work: the rest of the agent waits for its sync."""


@dataclass(frozen=True, slots=True)
class _Received:
    command: InboxCommand
    delivery: Delivery


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
        poison: PoisonCommands,
        duplicates: DuplicateAgents,
        operations: Operations,
    ) -> None:
        self._settings, self._journal, self._outbox, self._twin = settings, journal, outbox, twin
        self._redeliveries, self._poison = redeliveries, poison
        self._duplicates, self._operations = duplicates, operations
        self.inbox = Inbox(settings.feature_id, twin)

    def receive(self, deliveries: Iterable[Delivery]) -> None:
        """Take messages from command topics. Each is acknowledged when the journal needs it no more."""
        waiting: deque[_Received] = deque()
        for delivery in deliveries:
            if command := self.inbox.read(delivery):
                waiting.append(_Received(command, delivery))
            else:
                delivery.ack()
        while waiting:
            self._receive_some(waiting)

    def _receive_some(self, waiting: deque[_Received]) -> None:
        """Take commands up to one that is accepted: one unit of work, so that a flood costs few syncs."""
        taken: list[_Received] = []
        accepted = False
        try:
            with self._journal.unit() as unit:
                while waiting and len(taken) < MAX_TOGETHER and not accepted:
                    taken.append(waiting.popleft())
                    unit.after_commit(taken[-1].delivery.ack)
                    accepted = self._judge(taken[-1], unit)
        except JournalError:
            taken += waiting  # each would wait as long for a journal that is locked
            waiting.clear()
            log.exception("commands refused: journal not writable", commands=len(taken))
            self._refuse_unwritten(
                taken, Reason.UNAVAILABLE, "the device cannot write its journal: its disk is full or fails"
            )
        except Exception:
            log.exception("internal error", commands=len(taken))
            self._refuse_unwritten(taken, Reason.INTERNAL, SEE_LOG)

    def _judge(self, received: _Received, unit: Unit) -> bool:
        """Answer the command as part of the unit; return True when it is accepted, and its work follows."""
        command, delivery = received.command, received.delivery
        if self._operations.is_question(command.operation) and not command.fault:
            self._answer_question(command)
            return False
        verdict = self._redeliveries.judge(
            command.id, command.payload, short=command.topic.short, dup=delivery.dup
        )
        if isinstance(verdict, Repeated):
            log.info("command repeated, stored answer sent", **_about(command))
            if verdict.reply_topic and verdict.reply:
                self._duplicates.answered(verdict.reply)
                self._outbox.reply(verdict.reply_topic, verdict.reply)
        elif verdict is not Verdict.OTHER_FORM:
            return self._carry_out(command, unit, conflict=verdict is Verdict.CONFLICT)
        return False

    def _carry_out(self, command: InboxCommand, unit: Unit, *, conflict: bool) -> bool:
        admitted, error = self._admit(command, conflict=conflict)
        answer = self._answer(command, error)
        # The answer is put in before the job's first state is: that is their order.
        if answer:
            self._outbox.reply(*answer)
        if admitted:
            admitted.record()
            unit.after_commit(admitted.begin)
        if not conflict:
            job_id = admitted.job_id if admitted else None
            self._redeliveries.remember(command.id, command.payload, command.topic.short, answer, job_id)
        if error:
            unit.after_commit(partial(_log_refusal, command, error))
        return admitted is not None

    def _admit(self, command: InboxCommand, *, conflict: bool) -> tuple[Admitted | None, Refused | None]:
        try:
            if command.fault:
                raise Refused(Reason.INVALID, command.fault)
            if conflict:
                message = f"request id '{command.topic.request_id}' is in use by another command"
                raise Refused(Reason.BUSY, message)
            check_not_expired(command.envelope, time.monotonic() - command.received_s, datetime.now(UTC))
            with self._poison.looking_at(self._redeliveries.digest(command.payload)) as is_poison:
                if is_poison:
                    raise Refused(Reason.INTERNAL, "the agent has ended each time it looked at this command")
                return self._operations.admit(command.operation, command.envelope.value, Face.MQTT), None
        except Refused as error:
            # Its traceback holds our caller, who would hold it: payload and connection would stay until the
            # next garbage collection, which comes late in a process that is small.
            return None, Refused(error.reason, error.message)

    def _answer_question(self, command: InboxCommand) -> None:
        """Answer a question: it changes nothing, and leaves no trace, however often it comes."""
        without_value = ditto.reply(*command.answered_in(self._settings.feature_id), value={})
        room_bytes = ditto.MAX_MESSAGE_BYTES - len(compact_json(without_value))

        def tell(value: Mapping[str, Any] | None, error: Refused | None = None) -> None:
            if answer := self._answer(command, error, value):
                self._outbox.reply(*answer)

        try:
            self._operations.ask(command.operation, command.envelope.value, Face.MQTT, room_bytes, tell)
        except Refused as refusal:
            tell(None, Refused(refusal.reason, refusal.message))  # see `_admit`

    def _answer(
        self, command: InboxCommand, error: Refused | None, value: Mapping[str, Any] | None = None
    ) -> tuple[str, bytes] | None:
        if not command.answer_is_due or (command.topic.one_way and not self._settings.one_way_replies):
            return None

        told = error_of(error) if error else None

        def reply(text: str) -> dict[str, Any]:
            return ditto.reply(
                *command.answered_in(self._settings.feature_id),
                error=told and replace(told, message=text),
                value=value,
            )

        payload = ditto.fitting(reply, told.message if told else "")
        self._duplicates.answered(payload)
        status = told.status if told else 204 if value is None else 200
        return command.topic.reply_topic(status), payload

    def _refuse_unwritten(self, taken: Iterable[_Received], reason: Reason, message: str) -> None:
        for received in taken:
            received.delivery.ack()
            if answer := self._answer(received.command, Refused(reason, message)):
                self._outbox.reply(*answer)


def _log_refusal(command: InboxCommand, error: Refused) -> None:
    log.warning("command refused", status=error_of(error).status, reason=error.message, **_about(command))


def _about(command: InboxCommand) -> dict[str, Any]:
    return {"operation": command.operation, "correlation_id": command.correlation_id[:64]}
