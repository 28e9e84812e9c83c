"""The queue of messages to the broker.

The outbox sends in order, at most `WINDOW` messages ahead of the broker's acknowledgements. When the
connection is lost, the unacknowledged messages return to the head of the queue and are sent again, unchanged.
Messages that must not be lost are kept in the journal until the broker has them. A newer value of a property
replaces a waiting one that may be dropped (progress). A message is sent when the journal's unit of work is
committed, at once when none is open, and never when it was rolled back.

The queue is bounded. The oldest of too many messages are given up, with a line in the log; the newest value
of each property always arrives.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice

import structlog

from agent.journal.outbox import OutboxStore

log = structlog.get_logger(__name__)

WINDOW = 10
REPLY_LIFETIME_S = 60
"""No backend waits longer for the answer to a command."""
MAX_WAITING_REPLIES = 1000
MAX_WAITING = 2000
"""Other messages that wait: two for each job that the journal keeps."""


Publish = Callable[[str, bytes], int | None]
"""Sends (topic, payload); returns the number that `Outbox.sent` will get, or None while offline."""


@dataclass(slots=True)
class Message:
    """A message. `kept_as` is its number in the journal, None when it may be lost."""

    topic: str
    payload: bytes
    kept_as: int | None = None
    property_name: str = ""
    """The twin's property that this sets; once delivered, its value is remembered under that name."""
    replaceable: bool = False
    """A newer message for the same property may take its place."""
    repeated: bool = True
    """False for messages that are made anew for every connection."""
    expires_s: float | None = None
    """Time of the monotonic clock after which it is dropped."""

    @property
    def may_be_given_up(self) -> bool:
        """Return False for answers, which have a limit of their own, and for announcements."""
        return self.repeated and self.expires_s is None


class Outbox:
    """Belongs to the main thread."""

    def __init__(self, store: OutboxStore) -> None:
        self._store = store
        self._publish: Publish | None = None
        self.arrived: dict[str, bytes] = {}
        """The last message that arrived for each property of the twin, since the agent runs."""
        self._waiting: deque[Message] = deque()
        self._unacknowledged: dict[int, Message] = {}
        self._delivered: deque[int] = deque()
        """Numbers of messages that the broker has and the journal is to forget."""
        for number, topic, payload, property_name in store.kept():
            self._waiting.append(Message(topic, payload, number, property_name))

    @property
    def empty(self) -> bool:
        return not (self._waiting or self._unacknowledged)

    def reply(self, topic: str, payload: bytes) -> None:
        """Send an answer to a command, which expires after `REPLY_LIFETIME_S`."""
        self._put(Message(topic, payload, expires_s=time.monotonic() + REPLY_LIFETIME_S))

    def keep(self, topic: str, payload: bytes, property_name: str = "") -> None:
        """Send a message that arrives at least once, also after a restart of the agent."""
        with self._store.unit():
            number = self._store.keep(topic, payload, property_name)
            self._put(Message(topic, payload, number, property_name))

    def say(self, topic: str, payload: bytes) -> None:
        """Send a message that a restart of the agent may lose."""
        self._put(Message(topic, payload))

    def update(self, topic: str, payload: bytes, property_name: str) -> None:
        """Send a value that a newer one may replace while it waits."""
        self._put(Message(topic, payload, property_name=property_name, replaceable=True))

    def _put(self, message: Message) -> None:
        with self._store.unit() as unit:
            unit.after_commit(partial(self._append, message))

    def _append(self, message: Message) -> None:
        if not (message.replaceable and self._replace(message)):
            self._waiting.append(message)
        self._flush()

    def _replace(self, newer: Message) -> bool:
        """Replace the last waiting message for the property; return False when it must arrive."""
        about_it = (each for each in reversed(self._waiting) if each.property_name == newer.property_name)
        last = next(about_it, None)
        if last is None or not last.replaceable:
            return False
        last.payload = newer.payload
        return True

    def up(self, publish: Publish, first: Iterable[tuple[str, bytes]]) -> None:
        """Take a new connection: send `first` (topic, payload), then the queue."""
        self._publish = publish
        self._waiting.extendleft(
            Message(topic, payload, repeated=False) for topic, payload in reversed(list(first))
        )
        self._flush()

    def down(self) -> None:
        """Give up the lost connection: unacknowledged messages will be sent again first."""
        self._publish = None
        self._waiting.extendleft(reversed(self._unacknowledged.values()))
        self._unacknowledged.clear()
        self._waiting = deque(message for message in self._waiting if message.repeated)

    def sent(self, mid: int) -> None:
        """Settle the message with this number, which the broker has acknowledged."""
        message = self._unacknowledged.pop(mid, None)
        if message and message.property_name:
            self.arrived[message.property_name] = message.payload
        if message and message.kept_as is not None:
            self._delivered.append(message.kept_as)
        try:
            # In order, and those too that a full disk did not let go: after a restart an old value of a
            # property would follow a newer one.
            while self._delivered:
                self._store.delivered(self._delivered[0])
                self._delivered.popleft()
        finally:
            self._flush()

    def _flush(self) -> None:
        """Send from the queue as far as connection and window allow."""
        self._drop_expired()
        self._give_up_excess()
        while self._publish and self._waiting and len(self._unacknowledged) < WINDOW:
            mid = self._publish(self._waiting[0].topic, self._waiting[0].payload)
            if mid is None:
                return
            self._unacknowledged[mid] = self._waiting.popleft()

    def _give_up_excess(self) -> None:
        excess = sum(message.may_be_given_up for message in self._waiting) - MAX_WAITING
        if excess <= 0:
            return
        newest = {message.property_name: message for message in self._waiting if message.property_name}
        old = (
            message
            for message in self._waiting
            if message.may_be_given_up and newest.get(message.property_name) is not message
        )
        given_up = list(islice(old, excess))
        log.warning("too many pending messages, oldest dropped", count=len(given_up))
        self._store.give_up(message.kept_as for message in given_up if message.kept_as is not None)
        self._remove(given_up)

    def _drop_expired(self) -> None:
        now_s = time.monotonic()
        replies = [message for message in self._waiting if message.expires_s is not None]
        excess = max(0, len(replies) - MAX_WAITING_REPLIES)
        late = [message for message in replies[excess:] if message.expires_s and message.expires_s <= now_s]
        if late or excess:
            self._remove([*replies[:excess], *late])

    def _remove(self, messages: Iterable[Message]) -> None:
        gone = {id(message) for message in messages}
        self._waiting = deque(message for message in self._waiting if id(message) not in gone)
