"""The session with the broker: learns who the device is, announces the feature, and receives messages.

After every connect it subscribes again, announces the feature again and sends what waits, also when the
broker kept the session: the broker may have been restarted, and have lost everything.
"""

from collections.abc import Callable, Sequence
from functools import partial

import structlog

from agent.faces.ditto.duplicate_agent import ANSWERS, DuplicateAgents
from agent.faces.ditto.twin_messages import Twin
from agent.jobs.device import UNIDENTIFIED
from agent.mailbox import Mailbox, Timer
from agent.mqtt.hono import (
    COMMANDS,
    IDENTITY_REQUEST,
    IDENTITY_RESPONSE,
    SHORT_COMMANDS,
    Identity,
    is_answer,
    parse_identity,
)
from agent.mqtt.link import Broker, Delivery, Link, LinkEvents
from agent.mqtt.outbox import Outbox
from agent.settings import Settings

log = structlog.get_logger(__name__)

ASK_AGAIN_S, ASK_AGAIN_LONGEST_S = 1.0, 60.0
UNANSWERED_S = 60.0
"""The time without an identity after which the device logs that, and works without one."""
SUBSCRIBE_AGAIN_S = 10.0
ANNOUNCE_AGAIN_S = 3600.0
"""The time between announcements: the feature may be deleted in the twin without an event."""
ANNOUNCE_BUSY_S, ANNOUNCE_SOON_S = 60.0, 1.0
"""The wait for a job or an upload to end, and for more events when the feature was deleted."""
MAX_EARLY_BYTES = 4 << 20
"""Limit of the commands that wait until the device knows who it is; beyond it the oldest are dropped."""


class MqttSession:
    """Belongs to the main thread. Owns the link."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        mailbox: Mailbox,
        *,
        twin: Twin,
        outbox: Outbox,
        receive: Callable[[Sequence[Delivery]], None],
        identified: Callable[[], None],
        unidentified: Callable[[], None],
        announced: Callable[[], None],
        stated: Callable[[str], None],
        idle: Callable[[], bool],
        duplicates: DuplicateAgents,
    ) -> None:
        """`receive` is given the commands that have come meanwhile; `identified` is called when the device
        knows who it is, `unidentified` when nobody has said so for a while, `announced` when the twin knows
        the feature (again). `stated` is told how the session stands. `idle` returns True while no job and no
        upload runs."""
        self._settings, self._mailbox, self._twin, self._outbox = settings, mailbox, twin, outbox
        self._receive, self._identified, self._unidentified = receive, identified, unidentified
        self._announced, self._stated, self._idle = announced, stated, idle
        self._duplicates = duplicates
        events = LinkEvents(self.up, self.down, self.deliver, outbox.sent, self.refused)
        self._link = Link(broker, events, mailbox.post)
        self.identity: Identity | None = None
        self.early: list[Delivery] = []
        self._commands: list[Delivery] = []
        self._ask: Timer | None = None
        self._unanswered: Timer | None = None
        self._again: Timer | None = None
        self._subscribe_again: Timer | None = None
        self._deaf = False
        self.online = False

    @property
    def alive(self) -> bool:
        return self._link.alive

    def begin(self) -> None:
        self._stated(f"waiting for the broker {self._settings.broker}")
        if self._settings.device_id:
            self.adopt(Identity(self._settings.device_id, self._settings.tenant_id))
        else:
            self._mailbox.call_later(UNANSWERED_S, self._go_alone)
        self._link.start()

    def stop_listening(self) -> None:
        """Take no more commands. They are not acknowledged, so they come again to the next run."""
        self._deaf = True

    def end(self) -> None:
        self._link.stop()

    # The connection

    def up(self) -> None:
        log.info("connected", broker=str(self._settings.broker))
        self.online = True
        self._subscribe()
        if not self._settings.device_id:
            self._ask_identity(ASK_AGAIN_S)
        if self.identity:
            self._announce()
        else:
            self._stated("connected, waiting for the identity of this device")
            self._unanswered = self._mailbox.call_later(UNANSWERED_S, self._tell_unanswered)

    def down(self, reason: str) -> None:
        what = "disconnected" if self.online else "broker cannot be reached, trying again"
        log.warning(what, broker=str(self._settings.broker), reason=reason)
        self._stated(f"{what}: {self._settings.broker}")
        self.online = False
        self._outbox.down()
        for timer in (self._ask, self._unanswered, self._subscribe_again, self._again):
            if timer:
                timer.cancel()

    def refused(self) -> None:
        log.error("subscription refused by the broker, trying again: check its access rules", wanted=COMMANDS)
        if self._subscribe_again:
            self._subscribe_again.cancel()
        self._subscribe_again = self._mailbox.call_later(SUBSCRIBE_AGAIN_S, self._subscribe)

    def _subscribe(self) -> None:
        if not self._settings.device_id:
            # With QoS 1 it would wait behind commands that are not acknowledged until it has come.
            self._link.subscribe(IDENTITY_RESPONSE, qos=0)
        self._link.subscribe(ANSWERS, qos=0, optional=True)
        self._link.subscribe(COMMANDS, *([SHORT_COMMANDS] if self._settings.short_topics else []))

    def _announce(self) -> None:
        assert self.identity
        self._outbox.up(self._link.publish, self._twin.announcement())
        self._stated(f"connected as {self.identity.device_id}")
        self._announced()
        self._announce_in(ANNOUNCE_AGAIN_S)

    def _announce_in(self, wait_s: float) -> None:
        if self._again:
            self._again.cancel()
        self._again = self._mailbox.call_later(wait_s, self.announce_again)

    def announce_again(self) -> None:
        """Announce the feature as it is now, when nothing runs; else later."""
        # Kanto's integration test counts the events under the feature while an operation runs.
        if not self.online:
            return
        if self._idle():
            self._announce()
        else:
            self._announce_in(ANNOUNCE_BUSY_S)

    def deleted(self) -> None:
        """Announce the feature again soon, once for many events: somebody has deleted it in the twin."""
        self._announce_in(ANNOUNCE_SOON_S)

    # Who am I

    def _ask_identity(self, pause_s: float) -> None:
        if not self.online:
            return
        self._link.publish(IDENTITY_REQUEST, b"")
        ask_again = partial(self._ask_identity, min(2 * pause_s, ASK_AGAIN_LONGEST_S))
        self._ask = self._mailbox.call_later(pause_s, ask_again)

    def _tell_unanswered(self) -> None:
        log.warning(UNIDENTIFIED, asked_on=IDENTITY_REQUEST)
        self._stated(f"connected, but {UNIDENTIFIED}")

    def _go_alone(self) -> None:
        if self.identity is None:
            self._unidentified()

    def _answered(self, payload: bytes) -> None:
        identity = parse_identity(payload)
        if identity is None:
            log.warning("unusable identity answer", bytes=len(payload))
            return
        for timer in (self._ask, self._unanswered):
            if timer:
                timer.cancel()
        if identity == self.identity or self._settings.device_id:
            return
        self.adopt(identity)
        if self.online:
            self._announce()
        self._commands, self.early = self.early + self._commands, []
        self.hand_over()

    def adopt(self, identity: Identity) -> None:
        before = self.identity and self.identity.device_id
        log.info("identity received", device=identity.device_id, before=before)
        self.identity = self._twin.identity = identity
        self._identified()

    # Messages

    def deliver(self, delivery: Delivery) -> None:
        """Take a message; acknowledge it when it is no command."""
        if delivery.topic == IDENTITY_RESPONSE:
            delivery.ack()
            self._answered(delivery.payload)
        elif is_answer(delivery.topic):
            delivery.ack()
            self._duplicates.heard(delivery.payload, self.identity)
        elif self._deaf:
            return
        elif self.identity is None:
            self.early.append(delivery)
            while sum(_weight(waiting) for waiting in self.early) > MAX_EARLY_BYTES:
                self.early.pop(0).ack()
        else:
            if not self._commands:
                self._mailbox.post(self.hand_over)
            self._commands.append(delivery)

    def hand_over(self) -> None:
        """Pass on the commands that came meanwhile, together, so that the journal syncs once for many."""
        commands, self._commands = self._commands, []
        if not self._deaf:
            self._receive(commands)


def _weight(delivery: Delivery) -> int:
    return 1000 + len(delivery.payload)  # bytes, with what Python adds
