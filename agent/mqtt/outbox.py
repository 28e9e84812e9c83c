"""What still has to be said, in order.

Everything goes out through one queue, at most `WINDOW` messages ahead of the broker's acknowledgements.
When the connection is lost, what was not acknowledged goes back to the head of the queue and is sent
again, identical. Messages that must not be lost are kept in a store until the broker has them; a newer
value of a property takes the place of a waiting one that may be dropped (progress). What is put in goes
out when the store's unit of work is on the disk, at once when none is open, and never when it failed.

What waits is bounded. Of too many messages the oldest is given up, with a line in the log; the newest value
of each property always arrives.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Protocol

import structlog

log = structlog.get_logger(__name__)

WINDOW = 10
REPLY_LIFETIME_S = 60
"""Nobody waits longer for the answer to a command."""
MAX_WAITING_REPLIES = 1000
MAX_WAITING = 2000
"""Other messages that wait: two for each of the jobs that the journal keeps. Nobody has been listening for
weeks when there are more."""


Publish = Callable[[str, bytes], int | None]
"""Sends (topic, payload); returns the number that `Outbox.sent` will be told, or None while offline."""


@dataclass(slots=True)
class Message:
    """One message on its way. `kept_as` is its number in the store, None when it may be lost."""

    topic: str
    payload: bytes
    kept_as: int | None = None
    property_name: str = ""
    """The twin's property that this sets; once delivered, its value is remembered under that name."""
    replaceable: bool = False
    """A newer message for the same property may take its place."""
    repeated: bool = True
    """False for what is said anew on every connection."""
    expires_s: float | None = None
    """Time of the monotonic clock after which it is dropped."""

    @property
    def may_be_given_up(self) -> bool:
        """Answers have a limit of their own, and an announcement is short-lived anyway."""
        return self.repeated and self.expires_s is None


class Unit(Protocol):
    def after_commit(self, action: Callable[[], object], /) -> None:
        """Call `action` when the unit of work is on the disk, in the order of registration."""


class Store(Protocol):
    """Where messages are kept until the broker has them; the agent's journal."""

    def unit(self) -> AbstractContextManager[Unit]:
        """The unit of work that is open, or a new one."""

    def keep(self, topic: str, payload: bytes, property_name: str) -> int: ...
    def delivered(self, number: int) -> None:
        """Forget the message; what it set is now the last known value of its property."""

    def give_up(self, numbers: Iterable[int]) -> None:
        """Forget messages that nobody has heard."""

    def kept(self) -> Iterable[tuple[int, str, bytes, str]]:
        """Number, topic, payload and property of all that is kept, in order."""


class Outbox:
    """Belongs to the main thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._publish: Publish | None = None
        self.arrived: dict[str, bytes] = {}
        """The last message that arrived for each property of the twin, since the agent runs."""
        self._waiting: deque[Message] = deque()
        self._unacknowledged: dict[int, Message] = {}
        self._delivered: deque[int] = deque()
        """Numbers that the broker has and the store should forget."""
        for number, topic, payload, property_name in store.kept():
            self._waiting.append(Message(topic, payload, number, property_name))

    @property
    def empty(self) -> bool:
        return not (self._waiting or self._unacknowledged)

    def reply(self, topic: str, payload: bytes) -> None:
        """An answer to a command: worth nothing to anybody after `REPLY_LIFETIME_S`."""
        self._put(Message(topic, payload, expires_s=time.monotonic() + REPLY_LIFETIME_S))

    def keep(self, topic: str, payload: bytes, property_name: str = "") -> None:
        """A message that arrives at least once, also after a restart of the agent."""
        with self._store.unit():
            number = self._store.keep(topic, payload, property_name)
            self._put(Message(topic, payload, number, property_name))

    def say(self, topic: str, payload: bytes) -> None:
        """A message that a restart of the agent may lose."""
        self._put(Message(topic, payload))

    def update(self, topic: str, payload: bytes, property_name: str) -> None:
        """A value that a newer one replaces while it waits, unless something was said of it in between."""
        self._put(Message(topic, payload, property_name=property_name, replaceable=True))

    def _put(self, message: Message) -> None:
        with self._store.unit() as unit:
            unit.after_commit(partial(self._append, message))

    def _append(self, message: Message) -> None:
        if not (message.replaceable and self._replace(message)):
            self._waiting.append(message)
        self._flush()

    def _replace(self, newer: Message) -> bool:
        """Give the payload to the last message about the property that waits; False when that must arrive."""
        about_it = (each for each in reversed(self._waiting) if each.property_name == newer.property_name)
        last = next(about_it, None)
        if last is None or not last.replaceable:
            return False
        last.payload = newer.payload
        return True

    def up(self, publish: Publish, first: Iterable[tuple[str, bytes]]) -> None:
        """The connection stands: send `first` (topic, payload), then all that waits."""
        self._publish = publish
        self._waiting.extendleft(
            Message(topic, payload, repeated=False) for topic, payload in reversed(list(first))
        )
        self._flush()

    def down(self) -> None:
        """The connection is lost: what was not acknowledged will be sent again, before all else."""
        self._publish = None
        self._waiting.extendleft(reversed(self._unacknowledged.values()))
        self._unacknowledged.clear()
        self._waiting = deque(message for message in self._waiting if message.repeated)

    def sent(self, mid: int) -> None:
        """The broker acknowledged the message with this number."""
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
        """Send what waits, as far as connection and window allow."""
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
        gone = {id(message) for message in given_up}
        self._waiting = deque(message for message in self._waiting if id(message) not in gone)

    def _drop_expired(self) -> None:
        now = time.monotonic()
        replies = sum(message.expires_s is not None for message in self._waiting)
        if not replies:
            return
        excess = max(0, replies - MAX_WAITING_REPLIES)
        left: deque[Message] = deque()
        for message in self._waiting:
            if message.expires_s is not None and (excess > 0 or message.expires_s <= now):
                excess -= 1
                continue
            left.append(message)
        self._waiting = left
