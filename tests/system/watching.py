"""An agent of which everything is searched for secrets that were given to it."""

import base64
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import quote, unquote

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.agent_process import AgentProcess
from tests.support.backend import LAST_UPLOAD, Backend
from tests.support.waiting import wait_until


class Secrets:
    """Makes secrets, and finds them again in whatever form they were written."""

    def __init__(self) -> None:
        self._forms: dict[str, set[bytes]] = {}

    def make(self) -> str:
        """A new secret; its last letters are written differently in a URL."""
        core = secrets.token_hex(12)
        self.add(core)
        return f"{core}/+="

    def add(self, text: str) -> None:
        written = {text, unquote(text), quote(text, safe=""), quote(unquote(text), safe="")}
        written.add("".join(f"%{byte:02x}" for byte in text.encode()))
        written.add(text.encode().hex())
        self._forms[text] = {form.lower().encode() for form in written} | set(_base64_forms(text.encode()))

    def found_in(self, data: bytes) -> list[str]:
        lower = data.lower()
        return [
            text
            for text, forms in self._forms.items()
            if any(form in lower or form in data for form in forms)
        ]


def _base64_forms(data: bytes) -> Iterator[bytes]:
    """Return the part of `data` that is the same in base64 whatever stands before and after it."""
    for offset, foreign in ((0, 0), (1, 2), (2, 3)):
        encoded = base64.b64encode(bytes(offset) + data)
        own = encoded[foreign : len(encoded) // 4 * 4 - 4]
        yield from (own, own.replace(b"+", b"-").replace(b"/", b"_"))


class Commanding(Backend):
    """A backend that knows what it has sent."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.sent: set[bytes] = set()

    def publish(self, topic: str, payload: str | bytes, *, retain: bool = False, qos: int = 1) -> None:
        self.sent.add(payload.encode() if isinstance(payload, str) else payload)
        super().publish(topic, payload, retain=retain, qos=qos)


@contextmanager
def listening(port: int, user: str, password: str) -> Iterator[list[tuple[str, bytes]]]:
    """All messages on the broker."""
    heard: list[tuple[str, bytes]] = []
    subscribed: Queue[None] = Queue()

    def hear(_client: Client, _data: object, message: MQTTMessage) -> None:
        heard.append((message.topic, bytes(message.payload)))

    client = Client(CallbackAPIVersion.VERSION2, "ear")
    client.username_pw_set(user, password)
    client.on_message = hear
    client.on_subscribe = lambda *_: subscribed.put(None)
    client.connect("127.0.0.1", port)
    client.subscribe("#", 1)
    client.loop_start()
    subscribed.get(timeout=60)
    try:
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


class Watched:
    """An agent under observation, its backend, and all that could give a secret away."""

    def __init__(
        self, device: AgentProcess, backend: Commanding, heard: list[tuple[str, bytes]], marked: Secrets
    ) -> None:
        self.device, self.backend, self.heard, self.marked = device, backend, heard, marked
        self._count = 0

    def start(self, **settings: Any) -> None:
        self.device.settings |= settings
        self.device.start()
        self.backend.announced()

    def new_id(self) -> str:
        self._count += 1
        return f"job-{self._count}"

    def begin(self, operation: str, options: Mapping[str, str]) -> str:
        """Begin a job, or with `start` the upload of an archive that was staged for it; its id."""
        correlation_id = self.new_id()
        if operation == "start":
            self.backend.run("backup", correlation_id, {})
            self.backend.requested(f"{correlation_id}#1")
        child = "#1" if operation == "start" else ""
        value = {"correlationID": f"{correlation_id}{child}", "options": options}
        answer = self.backend.ask(operation, value)
        assert answer["status"] == 204, answer
        return correlation_id

    def ended(self, operation: str, correlation_id: str) -> dict[str, Any]:
        if operation == "start":
            return self.backend.ended(correlation_id, LAST_UPLOAD)
        return self.backend.ended(correlation_id)

    def run(self, operation: str, options: Mapping[str, str]) -> str:
        """The state in which it ended."""
        return str(self.ended(operation, self.begin(operation, options))["state"])

    def run_all(self, options: Mapping[str, str]) -> list[str]:
        """Everything that a backend can ask for, each with the same options, as backends do."""
        states = [self.run(operation, options) for operation in ("backup", "restore", "start")]
        for operation, more in (
            ("trigger", {}),
            ("cancel", {"message": "stop"}),
            ("activate", {"from": "2100-01-01T00:00:00Z"}),
            ("deactivate", {}),
        ):
            value = {"correlationID": self.new_id(), "options": options, **more}
            assert self.backend.ask(operation, value)["status"] in (204, 404)
        return states

    def _hear_all(self) -> None:
        """Everything that the backend has heard, the ear has heard when it hears this."""
        fence = secrets.token_bytes(8)
        self.backend.publish("fence", fence)
        wait_until(lambda: ("fence", fence) in self.heard, what="the ear to have heard everything")

    def assert_nothing_found(self) -> None:
        self._hear_all()
        traces = {str(path): path.read_bytes() for path in self._files()}
        traces |= {
            f"message {number} on {topic}": payload
            for number, (topic, payload) in enumerate(list(self.heard))
            if payload not in self.backend.sent
        }
        traces |= processes(self.device.pid)
        assert len(traces) > 5
        assert {where: found for where, data in traces.items() if (found := self.marked.found_in(data))} == {}

    def _files(self) -> Iterator[Path]:
        yield from self.device.work.glob("agent.log*")
        yield self.device.stderr
        yield from (path for path in self.device.storage.rglob("*") if path.is_file())


def processes(pid: int) -> dict[str, bytes]:
    """The command lines of a process and all below it, and the environment of those below."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(
                    entry.joinpath("stat").read_text().rpartition(")")[2].split()[1]
                )
            except (FileNotFoundError, ProcessLookupError):
                continue
    below = {pid}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    found = {}
    for member in below:
        for name in ("cmdline",) if member == pid else ("cmdline", "environ"):
            try:
                found[f"/proc/{member}/{name}"] = Path(f"/proc/{member}/{name}").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found
