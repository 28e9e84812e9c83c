"""The link to the local broker. Only this module and `client` know the MQTT library.

A thread connects, runs the network loop, and connects again after a pause whenever the connection ends. Each
connection has a new client object: nothing is queued inside the library, certificates are read again, and an
exception in a callback ends that connection only. The callbacks parse nothing and post to the mailbox; they
wait only for room in the backlog.
"""

import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from agent.log.sparing import SparingLog
from agent.mqtt.backlog import Backlog
from agent.mqtt.client import BrokerClient
from agent.settings.secret_files import no_passphrase, read_password

if TYPE_CHECKING:
    from agent.settings import Settings

log = structlog.get_logger(__name__)
sparing = SparingLog(log)

KEEP_ALIVE_S = 30
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60
SILENT_S = 300
"""A thread that has not come round for this long is stuck: all its waits are much shorter."""
LONGEST_PAUSE_AFTER_SHORT_S = 15
STABLE_S = 2 * LONGEST_PAUSE_AFTER_SHORT_S
"""A shorter connection counts as short. Longer than the pauses after a short one: two clients that take one
session from each other would never slow down otherwise."""
MANY_SHORT = 3
MAX_PAYLOAD_BYTES = 256 << 10
"""Messages to the agent are far smaller; a larger one is dropped on arrival."""


@dataclass(frozen=True, slots=True)
class Broker:
    """The address of the broker and the credentials for it. Files are in PEM format."""

    host: str
    port: int
    tls: bool
    client_id: str
    username: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None
    """Read at every connect, as it may have changed; `password` is used while it cannot be read."""
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    clean_session: bool = False
    """True to miss the messages that come while the client is not connected."""


def broker_of(settings: "Settings", client_id: str) -> Broker:
    return Broker(
        settings.broker.host,
        settings.broker.port,
        tls=settings.broker.tls,
        client_id=client_id,
        username=settings.username,
        password=settings.password.get_secret_value(),
        password_file=settings.password_file,
        ca_file=settings.ca_cert,
        cert_file=settings.cert,
        key_file=settings.key,
    )


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message from the broker. It comes again until `ack` was called."""

    topic: str
    payload: bytes = field(repr=False)
    retain: bool
    dup: bool
    ack: Callable[[], object]
    received_s: float = field(default_factory=time.monotonic)
    """The time of arrival on the monotonic clock; it may wait afterwards."""


@dataclass(frozen=True, slots=True)
class LinkEvents:
    """The callbacks of the link; each is posted, so that it runs in the main thread."""

    up: Callable[[], None]
    down: Callable[[str], None]
    message: Callable[[Delivery], None]
    sent: Callable[[int], None]
    refused: Callable[[], None]
    """The broker refused a subscription."""
    granted: Callable[[], None] = lambda: None
    """The broker accepted a subscription."""


class Link:
    """Call `start`, then `publish` and `subscribe` between the events `up` and `down`, at last `stop`."""

    def __init__(
        self, broker: Broker, events: LinkEvents, post: Callable[[Callable[[], None]], None]
    ) -> None:
        self._broker, self._events, self._post = broker, events, post
        self.client: Client | None = None
        self._optional: int | None = None
        self.backlog = Backlog()
        self._stop = threading.Event()
        self._round_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Return False when the thread has died or is stuck."""
        return self._thread.is_alive() and time.monotonic() - self._round_s < SILENT_S

    def stop(self, timeout_s: float = 5) -> None:
        """Disconnect properly, so that the broker does not wait for the keep-alive, and end the thread."""
        self._stop.set()
        self.backlog.close()
        if self.client:
            self.client.disconnect()
        self._thread.join(timeout_s)

    def subscribe(self, *topics: str, qos: int = 1, optional: bool = False) -> None:
        """Subscribe; report a refusal unless it is `optional`."""
        if self.client:
            _, mid = self.client.subscribe([(topic, qos) for topic in topics])
            if optional:
                self._optional = mid

    def publish(self, topic: str, payload: bytes) -> int | None:
        """Send with QoS 1. Return the number that `sent` will get, or None while there is no connection."""
        if self.client is None:
            return None
        info = self.client.publish(topic, payload, qos=1)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    # The methods from here on run in the link's thread.

    def _came_round(self) -> None:
        self._round_s = time.monotonic()

    def _run(self) -> None:
        failed = short = 0
        while not self._stop.is_set():
            self._came_round()
            began_s = time.monotonic()
            was_up, reason = self._connection()
            if self._stop.is_set():
                break
            self._post(partial(self._lost, reason))
            if was_up:
                failed, short = 0, short + 1 if time.monotonic() - began_s < STABLE_S else 0
            else:
                failed += 1
            if was_up and short >= MANY_SHORT:
                log.error(
                    "connections end soon after being made: does another client use this client id?",
                    client_id=self._broker.client_id,
                    in_a_row=short,
                )
            if failed:
                self._pause(failed, LONGEST_PAUSE_S)
            else:
                self._pause(short - 1, LONGEST_PAUSE_AFTER_SHORT_S)

    def _pause(self, doublings: int, longest_s: float) -> None:
        pause_s = min(FIRST_PAUSE_S * 2 ** max(0, min(doublings, 20)), longest_s)
        self._stop.wait(pause_s * random.uniform(0.5, 1))  # noqa: S311 (spreads load, keeps no secret)

    def _connection(self) -> tuple[bool, str]:
        """Run one connection; return whether it was up, and why it ended."""
        was_up, reason = False, "the connection was closed"

        def on_connect(
            client: Client, _data: object, _flags: ConnectFlags, code: ReasonCode, _properties: object
        ) -> None:
            nonlocal was_up, reason
            if code.is_failure:
                reason = f"refused: {code}"
                return
            was_up = True
            self._post(partial(self._found, client))

        def on_disconnect(
            _client: Client, _data: object, _flags: DisconnectFlags, code: ReasonCode, _properties: object
        ) -> None:
            nonlocal reason
            if was_up and code != "Unspecified error":  # the broker closed the connection
                reason = str(code)

        try:
            client = self._new_client()
            client.on_connect, client.on_disconnect = on_connect, on_disconnect
            client.connect(_as_bytes(self._broker.host), self._broker.port, keepalive=client.keep_alive_s)
            if not client.serve(self._came_round):
                reason = "the broker is silent"
        except (OSError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
        except Exception:
            log.exception("internal error in the MQTT thread")
        return was_up, reason

    def _new_client(self) -> BrokerClient:
        broker = self._broker
        client = BrokerClient(broker.client_id, broker.clean_session, KEEP_ALIVE_S)
        if broker.username:
            client.username_pw_set(broker.username, self._password() or None)
        if broker.tls:
            with _named(f"caCert '{broker.ca_file}'"):
                context = ssl.create_default_context(cafile=broker.ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if broker.cert_file:
                with _named(f"cert '{broker.cert_file}' with key '{broker.key_file}'"):
                    context.load_cert_chain(broker.cert_file, broker.key_file, no_passphrase)
            client.tls_set_context(context)
        # Without a handler here, publish() would write to the socket in the thread that calls it.
        client.on_socket_register_write = lambda *_: None
        client.on_message = self._on_message
        client.on_publish = lambda _client, _data, mid, *_: self._post(partial(self._events.sent, mid))
        client.on_subscribe = self._on_subscribe
        return client

    def _password(self) -> str:
        if self._broker.password_file:
            with suppress(OSError, ValueError):
                return read_password(self._broker.password_file)
        return self._broker.password

    def _on_message(self, client: Client, _data: object, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            client.ack(message.mid, message.qos)
            return
        ack = partial(client.ack, message.mid, message.qos)
        size_bytes = len(message.payload)
        if size_bytes > MAX_PAYLOAD_BYTES:
            sparing.warning("message ignored: too large", topic=topic[:200], bytes=size_bytes)
            ack()
        elif self.backlog.add(size_bytes, wait=message.qos > 0):
            delivery = Delivery(topic, bytes(message.payload), message.retain, message.dup, ack)
            self._post(partial(self._taken, delivery))
        elif not self._stop.is_set():
            sparing.warning("message dropped: too many wait", topic=topic[:200])

    def _on_subscribe(
        self, _client: Client, _data: object, mid: int, codes: list[ReasonCode], _properties: object
    ) -> None:
        refused = any(code.is_failure for code in codes)
        self._post(partial(self._refused, mid) if refused else self._events.granted)

    # The methods from here on are posted, so they run in the main thread.

    def _found(self, client: Client) -> None:
        self.client = client
        self._events.up()

    def _taken(self, delivery: Delivery) -> None:
        self.backlog.taken(len(delivery.payload))
        self._events.message(delivery)

    def _refused(self, mid: int) -> None:
        if mid != self._optional:
            self._events.refused()

    def _lost(self, reason: str) -> None:
        self.client = None
        self._events.down(reason)


def _as_bytes(host: str) -> Any:
    """Return an ASCII name as bytes: for a text Python loads the codec of international names, 0.4 MiB."""
    return host.encode() if host.isascii() else host


@contextmanager
def _named(files: str) -> Iterator[None]:
    """Raise an OSError that names the files: those of OpenSSL do not say which it could not use."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{files} cannot be used: {error.strerror or error}") from error
