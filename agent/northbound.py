"""The other end of the wire: plays the cloud backend, and the connector that knows the device's identity.

For the demo and for people who operate devices. Its messages are those that WIRE's backend would send;
everything that the agent says is kept in order, and can be waited for.
"""

import json
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.messaging import ditto
from agent.messaging.hono import EVENTS, IDENTITY_REQUEST, IDENTITY_RESPONSE, Identity
from agent.messaging.link import Broker, Delivery, Events, Link

_REPLIES = "command//+/res/#"
_ENDS = ("_FINISHED", "_FAILED")


@dataclass(frozen=True, slots=True)
class Heard:
    """A message from the agent."""

    topic: str
    message: dict[str, Any]

    @property
    def last_operation(self) -> dict[str, Any] | None:
        """The value, when this updates the twin's `lastOperation`."""
        is_update = str(self.message.get("path", "")).endswith("/properties/lastOperation")
        return self.message["value"] if is_update else None


class Backend:
    """Connects on entry and disconnects on exit. `heard` may be read at any time."""

    def __init__(
        self,
        broker: tuple[str, int],
        identity: Identity,
        feature_id: str = "BackupAndRestore",
        listener: Callable[[Heard], None] = lambda _heard: None,
    ) -> None:
        """`listener` is called with every message, in the network thread."""
        self._identity, self._feature_id, self._listener = identity, feature_id, listener
        self.heard: list[Heard] = []
        self._changed = threading.Condition()
        self._connected = threading.Event()
        client_id = f"edge-backup-backend-{secrets.token_hex(4)}"
        self._link = Link(
            Broker(*broker, tls=False, client_id=client_id, clean_session=True),
            Events(self._up, lambda _reason: None, self._receive, lambda _mid: None, lambda: None),
            lambda action: action(),
        )

    def __enter__(self) -> "Backend":
        self._link.start()
        if not self._connected.wait(10):
            raise TimeoutError("the broker did not let the backend in within 10 s")
        return self

    def __exit__(self, *_: object) -> None:
        self._link.stop()

    def _up(self) -> None:
        self._link.subscribe(_REPLIES, EVENTS, IDENTITY_REQUEST)
        self._connected.set()

    def _receive(self, delivery: Delivery) -> None:
        delivery.ack()
        if delivery.topic == IDENTITY_REQUEST:
            who = {"deviceId": self._identity.device_id, "tenantId": self._identity.tenant_id}
            self._link.publish(IDENTITY_RESPONSE, json.dumps(who).encode())
            return
        heard = Heard(delivery.topic, json.loads(delivery.payload))
        with self._changed:
            self.heard.append(heard)
            self._changed.notify_all()
        self._listener(heard)

    def wait_for(self, wanted: Callable[[Heard], bool], since: int = 0, timeout_s: float = 30) -> Heard:
        """The first message after the first `since` ones that is wanted. Raises TimeoutError."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for heard in self.heard[since:]:
                    if wanted(heard):
                        return heard
                since = len(self.heard)
                if not self._changed.wait(deadline_s - time.monotonic()):
                    raise TimeoutError(f"the agent did not say what was expected within {timeout_s:g} s")

    def wait_for_announcement(self, timeout_s: float = 30) -> Heard:
        path = f"/features/{self._feature_id}"
        return self.wait_for(lambda heard: heard.message.get("path") == path, timeout_s=timeout_s)

    def command(self, operation: str, correlation_id: str, options: Mapping[str, str]) -> dict[str, Any]:
        """Send a command as the API document does; the agent's answer. Raises TimeoutError."""
        header = str(uuid.uuid4())
        message = {
            "topic": f"{self._identity.thing}/things/live/messages/{operation}",
            "headers": {
                "response-required": True,
                "content-type": "application/json",
                "correlation-id": header,
            },
            "path": f"/features/{self._feature_id}/inbox/messages/{operation}",
            "value": {"correlationID": correlation_id, "options": dict(options)},
        }
        since = len(self.heard)
        topic = f"command//{self._identity.device_id}/req//{operation}"
        self._link.publish(topic, ditto.encode(message))
        answer = self.wait_for(lambda heard: _answers(heard, header), since)
        return answer.message

    def run(self, operation: str, correlation_id: str, options: Mapping[str, str]) -> dict[str, Any]:
        """Send a command and wait for the last value of `lastOperation`; the refusal when there is one."""
        since = len(self.heard)
        answer = self.command(operation, correlation_id, options)
        if "value" in answer:
            return dict(answer["value"])
        ended = self.wait_for(lambda heard: _ends(heard, correlation_id), since, timeout_s=300)
        return ended.last_operation or {}


def _answers(heard: Heard, header: str) -> bool:
    return heard.topic.startswith("command/") and heard.message["headers"]["correlation-id"] == header


def _ends(heard: Heard, correlation_id: str) -> bool:
    operation = heard.last_operation
    if operation is None or operation["correlationId"] != correlation_id:
        return False
    return str(operation["state"]).endswith(_ENDS)
