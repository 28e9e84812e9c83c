"""A cloud backend for tests, written from the wire contract alone: it shares no code with the agent.

It keeps every message in the order of arrival, so that whole transcripts can be asserted.
"""

import json
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.ditto_schema import check

THING, DEVICE = "edge/device", "edge:device"
FEATURE = "/features/BackupAndRestore"
LAST_OPERATION, LAST_UPLOAD = f"{FEATURE}/properties/lastOperation", f"{FEATURE}/properties/lastUpload"
REQUEST = f"{FEATURE}/outbox/messages/request"
_ANSWER_TOPICS = ("command//+/res/#", "c//+/s/#", "e")

Message = tuple[str, dict[str, Any]]


class Listener:
    """A backend that hears, asks and waits; its subclasses carry the messages."""

    def __init__(self, device_id: str = DEVICE) -> None:
        """It answers the identity question unless `device_id` is empty."""
        self.messages: list[Message] = []
        self.faults: list[str] = []
        """Messages that are not valid Ditto, or too long."""
        self.identity_questions = 0
        self.device_id = device_id
        self._changed = threading.Condition()

    def publish(self, topic: str, payload: str | bytes) -> None:
        """Send something to the agent."""
        raise NotImplementedError

    def hear(self, topic: str, payload: bytes) -> None:
        if topic == "edge/thing/request":
            self.identity_questions += 1
            if self.device_id:
                self.answer_identity()
            return
        envelope = json.loads(payload)
        try:
            check(topic, envelope)
        except Exception as error:  # not in the test's thread: kept for whoever waits
            self.faults.append(f"{topic}: {error}")
        with self._changed:
            self.messages.append((topic, envelope))
            self._changed.notify_all()

    def identity(self) -> str:
        """The answer to the question who the device is."""
        return json.dumps({"deviceId": self.device_id, "tenantId": "tenant", "policyId": "policy"})

    def answer_identity(self) -> None:
        self.publish("edge/thing/response", self.identity())

    # Sending

    def send(self, operation: str, value: Any = None, *, request_id: str = "", **headers: Any) -> str:
        """Send a command in the form that the API document shows; the correlation-id header."""
        header = str(headers.pop("correlation_id", secrets.token_hex(8)))
        message = {
            "topic": f"{THING}/things/live/messages/{operation}",
            "headers": {
                "response-required": True,
                "content-type": "application/json",
                "correlation-id": header,
                **headers,
            },
            "path": f"{FEATURE}/inbox/messages/{operation}",
            "value": value,
        }  # fmt: skip
        self.publish(f"command//{DEVICE}/req/{request_id}/{operation}", json.dumps(message))
        return header

    def ask(self, operation: str, value: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        header = self.send(operation, value, **kwargs)
        return self.answer(header)

    # Waiting

    def wait(
        self, wanted: Callable[[Message], bool], what: str = "a message", timeout_s: float = 60
    ) -> Message:
        """The first message so far, or to come, that is wanted."""
        deadline_s, seen = time.monotonic() + timeout_s, 0
        with self._changed:
            while True:
                for message in self.messages[seen:]:
                    if wanted(message):
                        return message
                seen = len(self.messages)
                left_s = deadline_s - time.monotonic()
                assert left_s > 0, f"waited {timeout_s:g} s for {what}; heard: {self.messages}"
                self._changed.wait(left_s)

    def answer(self, header: str) -> dict[str, Any]:
        def answers(message: Message) -> bool:
            topic, envelope = message
            return topic.startswith(("command/", "c/")) and envelope["headers"]["correlation-id"] == header

        return self.wait(answers, f"the answer to {header}")[1]

    def announced(self) -> dict[str, Any]:
        return self.wait(lambda message: message[1]["path"] == FEATURE, "the announcement")[1]

    def values(self, path: str = LAST_OPERATION) -> list[dict[str, Any]]:
        """The values that a property was given, in order; one that came again, identical, counts once."""
        values: list[dict[str, Any]] = []
        for _, envelope in list(self.messages):
            if envelope["path"] == path and envelope["value"] not in values:
                values.append(envelope["value"])
        return values

    def ended(self, correlation_id: str, path: str = LAST_OPERATION, timeout_s: float = 60) -> dict[str, Any]:
        """The last value of the operation or upload with this id."""
        ends = ("_FINISHED", "_FAILED") if path == LAST_OPERATION else ("SUCCESS", "FAILED", "CANCELED")

        def is_end(message: Message) -> bool:
            value = message[1].get("value")
            if message[1]["path"] != path or not isinstance(value, dict):
                return False
            return bool(value["correlationId"] == correlation_id and value["state"].endswith(ends))

        return dict(self.wait(is_end, f"the end of {correlation_id}", timeout_s)[1]["value"])

    def requested(self, child_id: str) -> dict[str, Any]:
        """The value of the upload request for this child."""

        def is_it(message: Message) -> bool:
            envelope = message[1]
            return bool(envelope["path"] == REQUEST and envelope["value"]["correlationId"] == child_id)

        return dict(self.wait(is_it, f"the request for {child_id}")[1]["value"])

    def run(
        self, operation: str, correlation_id: str, options: dict[str, str], **kwargs: Any
    ) -> dict[str, Any]:
        """Send a command, expect that it is accepted, and wait for its end."""
        answer = self.ask(operation, {"correlationID": correlation_id, "options": options}, **kwargs)
        assert answer["status"] == 204, answer
        return self.ended(correlation_id)


class Backend(Listener):
    """One at a broker, connected while inside `with`."""

    def __init__(self, port: int, device_id: str = DEVICE, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(device_id)
        self.subscribed = threading.Event()
        # Its session outlives the connection, so that nothing is missed while a broker restarts.
        self.client = Client(
            CallbackAPIVersion.VERSION2, f"backend-{secrets.token_hex(6)}", clean_session=False
        )
        self.client.reconnect_delay_set(1, 1)
        self.client.on_socket_open = _send_at_once
        if tls:
            self.client.tls_set_context(tls)
        self.client.on_connect = lambda client, *_: client.subscribe(
            [(topic, 1) for topic in (*_ANSWER_TOPICS, "edge/thing/request")]
        )
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = self._on_message
        self._port = port

    def __enter__(self) -> "Backend":
        self.client.connect("127.0.0.1", self._port)
        self.client.loop_start()
        assert self.subscribed.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        assert self.faults == []

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.hear(message.topic, bytes(message.payload))

    def answer_identity(self) -> None:
        self.client.publish("edge/thing/response", self.identity(), qos=1)

    def publish(self, topic: str, payload: str | bytes, *, retain: bool = False, qos: int = 1) -> None:
        self.client.publish(topic, payload, qos=qos, retain=retain).wait_for_publish(10)


def _send_at_once(_client: Client, _data: object, connection: object) -> None:
    assert isinstance(connection, socket.socket)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
