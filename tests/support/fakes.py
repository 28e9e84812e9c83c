"""Stand-ins at the project's own boundaries: a place that keeps archives, the wire, a device without broker.

They keep the rules that the real ones keep, so that what passes here has not been made easy.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from agent.base.operations import Face
from agent.faces.http.engine_gate import EngineGate
from agent.jobs.filesystem_probe import ThreadedCall
from agent.mailbox import Action
from agent.mqtt.hono import Identity
from agent.mqtt.link import Delivery
from agent.service import Service
from agent.settings.load import load
from providers.api import Capability, Checkpoint, Sink, Source, Storage, Stored
from providers.errors import Corrupted, NotFound
from tests.support.ditto_schema import check

DEVICE, THING, FEATURE = "edge:device", "edge/device", "/features/BackupAndRestore"
LAST_OPERATION, LAST_UPLOAD = f"{FEATURE}/properties/lastOperation", f"{FEATURE}/properties/lastUpload"


@dataclass
class Fault:
    """A fault of one call: `error` after `after_bytes` have passed, or `act` before it begins."""

    error: Exception | None = None
    after_bytes: int = 0
    act: Callable[[], None] = lambda: None


class MemoryStorage(Storage):
    """A place in memory that keeps the rules of `providers.api`; `faults` are met by call after call.

    Like the places that take parts, it holds on to what a stream has given until the stream comes again.
    """

    capabilities = frozenset({Capability.LIST, Capability.RESUME_STREAM})

    def __init__(self, objects: Mapping[str, bytes] | None = None, faults: Iterable[Fault] = ()) -> None:
        self.objects = dict(objects or {})
        self.metadata: dict[str, dict[str, str]] = {}
        self.md5s: list[bytes | None] = []
        self.sizes: list[int | None] = []
        self.calls = 0
        self.closed = 0
        self._faults = iter(faults)
        self._begun: tuple[Source, bytearray] | None = None

    def put(
        self, name: str, source: Source, metadata: Mapping[str, str], _checkpoint: Checkpoint, /
    ) -> Stored:
        fault = self._next_fault()
        self.sizes.append(source.size)
        self.md5s.append(source.md5)
        body = self._begun[1] if self._begun and self._begun[0] is source else bytearray()
        self._begun = None if source.rewindable else (source, body)
        _strike(fault, len(body))
        while chunk := source.read(1 << 16):
            body += chunk
            _strike(fault, len(body))
        self._begun = None
        if source.size not in (None, len(body)):
            raise Corrupted(f"{len(body)} bytes where {source.size} were announced")
        if source.md5 not in (None, hashlib.md5(body).digest()):
            raise Corrupted("another MD5 than the announced one")
        self.objects[name], self.metadata[name] = bytes(body), dict(metadata)
        return Stored(name, len(body))

    def get(self, name: str, sink: Sink, _checkpoint: Checkpoint, /) -> Stored:
        fault = self._next_fault()
        if name not in self.objects:
            raise NotFound(f"there is no '{name}'")
        body = self.objects[name]
        if sink.tell() > len(body):
            sink.restart()
        _strike(fault, sink.tell())
        while sink.tell() < len(body):
            sink.write(body[sink.tell() : sink.tell() + 1000])
            _strike(fault, sink.tell())
        return Stored(name, len(body))

    def list(self, prefix: str, /) -> Iterator[Stored]:
        _strike(self._next_fault(), 0)
        yield from (Stored(name, len(body)) for name, body in self.objects.items() if name.startswith(prefix))

    def close(self) -> None:
        self.closed += 1

    def _next_fault(self) -> Fault:
        self.calls += 1
        fault = next(self._faults, Fault())
        fault.act()
        return fault


def _strike(fault: Fault, done_bytes: int) -> None:
    if fault.error is not None and done_bytes >= fault.after_bytes:
        raise fault.error


@dataclass
class Wire:
    """The far end of an outbox: keeps what is published while `online`, and checks every message."""

    online: bool = True
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    raw: list[tuple[str, bytes]] = field(default_factory=list)
    unacknowledged: list[int] = field(default_factory=list)

    def publish(self, topic: str, payload: bytes) -> int | None:
        if not self.online:
            return None
        message = json.loads(payload)
        check(topic, message)
        assert payload == json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()
        self.sent.append((topic, message))
        self.raw.append((topic, payload))
        self.unacknowledged.append(len(self.sent))
        return len(self.sent)


class Device:
    """An agent as the service builds it, without a broker. `restart` is a crash and a new start."""

    def __init__(self, work: Path, settings: Mapping[str, str] | None = None) -> None:
        self.data = work / "data"
        self.data.mkdir(exist_ok=True)
        places = {"storage": str(work / "storage"), "dir": str(self.data), "mode": "scoped", "logFile": ""}
        quick = {"transfer.attempts": "1", "transfer.connectTimeout": "1s"}
        self.settings = load(places | quick | dict(settings or {}), None, {}).settings
        self.wire = Wire()
        self._build()

    named = True
    """False for a device that nobody tells who it is."""

    def _build(self) -> None:
        self.service = Service(self.settings, lambda: None)
        self.journal, self.outbox = self.service.journal, self.service.outbox
        self.twin, self.mailbox = self.service.twin, self.service.mailbox
        if self.named:
            self.service.session.adopt(Identity(DEVICE))
            self.connect()

    def connect(self) -> None:
        """The broker is there (again), and the feature is announced to it."""
        self.outbox.up(self.wire.publish, self.twin.announcement())
        self.acknowledge()

    def restart(self) -> None:
        """The outbox and all that ran are gone; journal, staged archives and data stay."""
        self._let_go()
        self.wire.unacknowledged.clear()
        self._build()

    def close(self) -> None:
        """Let what runs come to its end first, so that no thread outlives the test."""
        self.finish()
        self._let_go()

    def _let_go(self) -> None:
        self.service.close()

    def receive(
        self, topic: str, payload: bytes, *, retain: bool = False, dup: bool = False
    ) -> list[tuple[str, dict[str, Any]]]:
        """Deliver a message and return what was said at once. Fails unless it is acknowledged once."""
        acknowledgements: list[None] = []
        before = len(self.wire.sent)
        delivery = Delivery(topic, payload, retain, dup, lambda: acknowledgements.append(None))
        self.service.session.deliver(delivery)
        self.service.session.hand_over()
        assert len(acknowledgements) == 1, f"acknowledged {len(acknowledgements)} times"
        self.acknowledge()
        return self.wire.sent[before:]

    def command(
        self, operation: str, value: Any = None, *, request_id: str = "r", header: str = "h", **options: bool
    ) -> list[tuple[str, dict[str, Any]]]:
        """Deliver a well-formed command; what was said at once."""
        topic = f"command//{DEVICE}/req/{request_id}/{operation}"
        return self.receive(topic, command(operation, value, header), **options)

    def locally(self, operation: str, value: Any = None) -> "ThreadedCall[Any]":
        """Ask for an operation as a program on the device does; the main thread has dealt with it, once."""
        posted: SimpleQueue[Action] = SimpleQueue()
        engine = self.service.engine
        operations = engine.operations()
        gate = EngineGate(posted.put, operations, engine.carry_out)
        ask = gate.ask if operations.is_question(operation) else gate.command
        call = ThreadedCall("local", partial(ask, operation, value, Face.LOCAL))
        posted.get(timeout=20)()
        return call

    def acknowledge(self) -> None:
        """The broker has all that was sent."""
        while self.wire.unacknowledged:
            self.outbox.sent(self.wire.unacknowledged.pop(0))

    def take(self) -> None:
        """Do one thing that a worker has posted, which may still have to come."""
        action = self.mailbox.next()
        if action:
            action()
        self.acknowledge()

    def finish(self) -> None:
        """Until nothing runs any more."""
        while not self.service.engine.idle():
            self.take()

    def values(self, path: str = LAST_OPERATION) -> list[dict[str, Any]]:
        """The values that a property was given, in order."""
        return [message["value"] for _, message in self.wire.sent if message["path"] == path]


def command(
    operation: str,
    value: Any = None,
    header: object = "h",
    response_required: object = True,
    **further_headers: object,
) -> bytes:
    """The payload of a command as the API document shows it."""
    message = {
        "topic": f"{THING}/things/live/messages/{operation}",
        "headers": {
            "response-required": response_required,
            "content-type": "application/json",
            "correlation-id": header,
            **further_headers,
        },
        "path": f"{FEATURE}/inbox/messages/{operation}",
        "value": value,
    }
    return json.dumps(message).encode()


def status_of(said: list[tuple[str, dict[str, Any]]]) -> int:
    """Return the status of the answer, which is the first thing said."""
    return int(said[0][1]["status"])
