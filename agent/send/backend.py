"""The other end of the wire: plays the cloud backend, for the demo and for people who operate devices.

Its messages are those that the API document's backend sends. On request it also plays the gateway's
connector, which knows the device's identity; where a real connector runs, that would be a lie.
"""

import json
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import Any

from agent.base.text import compact_json, scalar_text
from agent.mqtt.hono import EVENTS, IDENTITY_REQUEST, IDENTITY_RESPONSE, Identity
from agent.mqtt.link import Broker, Delivery, Link, LinkEvents

CONNECT_TIMEOUT_S = 10
ANSWER_TIMEOUT_S = 30
STATUS = "Status"
"""The end of the id of the feature's status feature."""
_ENDS = ("_FINISHED", "_FAILED")


class BrokerUnusable(Exception):
    """The broker cannot be reached, does not let us in, or forbids to listen. The text says which."""


@dataclass(frozen=True, slots=True)
class OutgoingCommand:
    """A message to the feature's inbox."""

    operation: str
    value: Mapping[str, Any] = field(repr=False)
    """Its options may be credentials."""
    request_id: str = ""
    header_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    """The envelope's correlation-id: the answer carries it."""
    expires: datetime | None = None
    """The device refuses the command from then on: the sender has given up, and nobody follows it."""

    def envelope(self, identity: Identity, feature_id: str) -> dict[str, Any]:
        """Return the message as the API document shows it, with our header `expiresAt` where it expires."""
        expiry = {"expiresAt": self.expires.isoformat()} if self.expires else {}
        return {
            "topic": f"{identity.thing}/things/live/messages/{self.operation}",
            "headers": {
                "response-required": True,
                "content-type": "application/json",
                "correlation-id": self.header_id,
                **expiry,
            },
            "path": f"/features/{feature_id}/inbox/messages/{self.operation}",
            "value": self.value,
        }


@dataclass(frozen=True, slots=True)
class Heard:
    """A message from the agent, as it came: only that it is an object with a path is sure."""

    topic: str
    message: dict[str, Any]

    @property
    def last_operation(self) -> dict[str, Any] | None:
        """Return the twin's `lastOperation`, when this updates it."""
        return self._property("lastOperation")

    @property
    def last_upload(self) -> dict[str, Any] | None:
        """Return the twin's `lastUpload`, when this updates it."""
        return self._property("lastUpload")

    def _property(self, name: str) -> dict[str, Any] | None:
        """Read an update of the property alone, or an announcement of the feature with its last value."""
        value = self.message.get("value")
        if not self.message["path"].endswith(f"/properties/{name}"):
            for part in ("properties", name):
                value = value.get(part) if isinstance(value, dict) else None
        return value if isinstance(value, dict) else None

    @property
    def status_job(self) -> dict[str, Any] | None:
        """Return the property `job` of the status feature, when this updates it."""
        if not self.message["path"].endswith(STATUS):
            return None
        return self._property("job")

    @property
    def upload_request(self) -> dict[str, Any] | None:
        """Return the value of an upload request: the child's `correlationId` and `options`."""
        value = self.message.get("value")
        is_request = self.message["path"].endswith("/outbox/messages/request")
        return value if is_request and isinstance(value, dict) else None

    @property
    def answered(self) -> str | None:
        """Return the correlation-id header of the command that this answers."""
        headers = self.message.get("headers")
        is_answer = self.topic.startswith("command/") and isinstance(headers, dict)
        return scalar_text(headers.get("correlation-id")) if is_answer and headers else None

    @property
    def status(self) -> int:
        """Return the status of an answer; 0 when it has none."""
        status = self.message.get("status")
        return status if isinstance(status, int) else 0

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300


class Backend:
    """Connects on entry and disconnects on exit. Belongs to the thread that waits for messages."""

    def __init__(
        self,
        broker: Broker,
        identity: Identity,
        feature_id: str = "BackupAndRestore",
        *,
        answers_identity: bool = False,
        listener: Callable[[Heard], None] = lambda _heard: None,
    ) -> None:
        """`listener` is called with every message of the feature when a wait comes to it."""
        self._identity, self._feature_id, self._listener = identity, feature_id, listener
        self.topics = [f"command//{identity.device_id}/res/#", EVENTS]
        if answers_identity:
            self.topics.append(IDENTITY_REQUEST)
        self._posted: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._heard: deque[Heard] = deque()
        self._unconfirmed: dict[int, tuple[str, bytes]] = {}
        self.unsent: list[tuple[str, bytes]] = []
        self._was_up = False
        self._failure = ""
        events = LinkEvents(self._up, self._down, self.receive, self._sent, self._refused)
        self._link = Link(broker, events, self._posted.put)

    def __enter__(self) -> "Backend":
        """Raises `BrokerUnusable`."""
        self._link.start()
        deadline_s = time.monotonic() + CONNECT_TIMEOUT_S
        try:
            while not self._was_up:
                self._take(deadline_s)
        except BaseException as error:
            self._link.stop(timeout_s=1)
            if isinstance(error, TimeoutError):
                raise BrokerUnusable(f"no answer within {CONNECT_TIMEOUT_S} s") from error
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._link.stop()

    def next(self, deadline_s: float) -> Heard:
        """Return the next message of the feature. Raises TimeoutError at that time of the monotonic clock.

        A connection that is lost is made again. Raises `BrokerUnusable` when the broker forbids to listen.
        """
        while not self._heard:
            self._take(deadline_s)
        heard = self._heard.popleft()
        self._listener(heard)
        return heard

    def wait_for(self, wanted: Callable[[Heard], bool], timeout_s: float = ANSWER_TIMEOUT_S) -> Heard:
        """Return the next message that is wanted, and drop those before it. Raises TimeoutError."""
        deadline_s = time.monotonic() + timeout_s
        while not wanted(heard := self.next(deadline_s)):
            pass
        return heard

    def wait_for_announcement(self) -> Heard:
        path = f"/features/{self._feature_id}"
        return self.wait_for(lambda heard: heard.message["path"] == path)

    def send(self, command: OutgoingCommand) -> None:
        """Send in the form that the API document shows; again when the connection breaks on the way."""
        topic = f"command//{self._identity.device_id}/req/{command.request_id}/{command.operation}"
        self._publish(topic, compact_json(command.envelope(self._identity, self._feature_id)))

    def ask(
        self, operation: str, correlation_id: str = "", options: Mapping[str, str] | None = None
    ) -> Heard:
        """Send a command, or a question, and wait for the answer. Raises TimeoutError."""
        command = OutgoingCommand(
            operation, {"correlationID": correlation_id, "options": dict(options or {})}
        )
        self.send(command)
        return self.wait_for(lambda heard: heard.answered == command.header_id)

    def run(
        self, operation: str, correlation_id: str, options: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Send a command and wait for the last value of `lastOperation`; the refusal when there is one.

        Raises TimeoutError.
        """
        answer = self.ask(operation, correlation_id, options)
        if not answer.accepted:
            return dict(answer.message["value"])
        ended = self.wait_for(lambda heard: _ends(heard, correlation_id), timeout_s=300)
        return ended.last_operation or {}

    def _take(self, deadline_s: float) -> None:
        try:
            action = self._posted.get(timeout=max(0.0, deadline_s - time.monotonic()))
        except Empty as error:
            raise TimeoutError("the expected message did not come") from error
        action()
        if self._failure:
            raise BrokerUnusable(self._failure)

    def _publish(self, topic: str, payload: bytes) -> None:
        number = self._link.publish(topic, payload)
        if number is None:
            self.unsent.append((topic, payload))
        else:
            self._unconfirmed[number] = (topic, payload)

    # Posted by the link

    def _up(self) -> None:
        self._was_up = True
        self._link.subscribe(*self.topics)
        # What the broker did not confirm may be lost. One that comes twice is the same command to the agent.
        again, self._unconfirmed, self.unsent = [*self._unconfirmed.values(), *self.unsent], {}, []
        for topic, payload in again:
            self._publish(topic, payload)

    def _down(self, reason: str) -> None:
        if not self._was_up:
            self._failure = reason

    def _refused(self) -> None:
        self._failure = f"it does not allow to subscribe to {' and '.join(self.topics)}"

    def _sent(self, number: int) -> None:
        self._unconfirmed.pop(number, None)

    def receive(self, delivery: Delivery) -> None:
        delivery.ack()
        if delivery.topic == IDENTITY_REQUEST:
            who = {"deviceId": self._identity.device_id, "tenantId": self._identity.tenant_id}
            self._publish(IDENTITY_RESPONSE, json.dumps(who).encode())
        elif not delivery.retain and (heard := self._read(delivery)):
            self._heard.append(heard)

    def _read(self, delivery: Delivery) -> Heard | None:
        """Return a readable message about our thing's feature, or its status: others use `e`, too."""
        try:
            message = json.loads(delivery.payload)
        except (ValueError, RecursionError):
            return None
        if not isinstance(message, dict):
            return None
        topic, path, feature = message.get("topic"), message.get("path"), f"/features/{self._feature_id}"
        if not isinstance(topic, str) or not topic.startswith(f"{self._identity.thing}/things/"):
            return None
        known = (feature, f"{feature}{STATUS}")
        if not isinstance(path, str) or not (path in known or path.startswith(f"{feature}/")):
            return None
        return Heard(delivery.topic, message)


def _ends(heard: Heard, correlation_id: str) -> bool:
    operation = heard.last_operation
    if operation is None or operation.get("correlationId") != correlation_id:
        return False
    return str(operation.get("state")).endswith(_ENDS)
