"""A link with a record of what it was told."""

import threading
from dataclasses import dataclass, field

from agent.mailbox import Mailbox
from agent.mqtt.link import Broker, Delivery, Link, LinkEvents
from tests.support.waiting import wait_until


@dataclass
class Peer:
    """A link with a main thread of its own; remembers what it was told."""

    broker: Broker
    topics: tuple[str, ...] = ("t/#",)
    acknowledges: bool = True
    ups: int = 0
    downs: list[str] = field(default_factory=list)
    received: list[Delivery] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    refusals: int = 0
    mailbox: Mailbox = field(default_factory=Mailbox)

    def __post_init__(self) -> None:
        events = LinkEvents(self._up, self.downs.append, self._message, self.sent.append, self._refused)
        self.link = Link(self.broker, events, self.mailbox.post)
        self._main = threading.Thread(target=self.mailbox.run)

    def __enter__(self) -> "Peer":
        self._main.start()
        self.link.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.link.stop()
        self.mailbox.post(self.mailbox.stop)
        self._main.join(10)

    def _up(self) -> None:
        self.link.subscribe(*self.topics)
        self.ups += 1

    def _message(self, delivery: Delivery) -> None:
        self.received.append(delivery)
        if self.acknowledges:
            delivery.ack()

    def _refused(self) -> None:
        self.refusals += 1

    def publish(self, payload: bytes, topic: str = "t/x") -> None:
        """Until it is taken: by this or a later connection."""
        numbers: list[int | None] = []
        self.mailbox.post(lambda: numbers.append(self.link.publish(topic, payload)))
        wait_until(lambda: numbers, what="the main thread")
        if numbers[0] is None:
            self.wait_up(self.ups + 1)
            self.publish(payload, topic)

    def wait_up(self, times: int = 1) -> None:
        wait_until(lambda: self.ups >= times, what=f"connection {times}")

    def wait_for(self, payload: bytes, times: int = 1) -> list[Delivery]:
        def heard() -> list[Delivery]:
            return [delivery for delivery in self.received if delivery.payload == payload]

        wait_until(lambda: len(heard()) >= times, what=f"{payload!r} {times} times")
        return heard()
