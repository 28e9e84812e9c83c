"""How soon the agent is there, how little it takes while nothing happens, how fast it answers meanwhile."""

import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks import corpora
from benchmarks.agent_job import ARCHIVE, agent, scratch
from tests.support.agent_process import AgentProcess
from tests.support.backend import DEVICE, FEATURE, THING, Backend
from tests.support.waiting import wait_until

COMMANDS = 200
STARTS = 5
IDLE_S = 10.0
_PAUSE_S = 0.01  # a command a moment, as impatient people send them; not a flood


@dataclass(frozen=True, slots=True)
class Liveness:
    start_s: float
    """From exec to the announcement at the backend, which follows the subscription. The median."""
    idle_bytes: int
    """Resident memory of an agent that has not had any command yet."""
    idle_wakeups: float
    """Times a second that any of its threads was switched to, over some seconds of idleness."""
    answers_s: list[float]
    """From a command to its answer, while a backup runs, in the order they were sent."""
    whole: bool
    """The backup still ran when the last answer came."""

    @property
    def median_s(self) -> float:
        return median(self.answers_s)

    @property
    def worst_s(self) -> float:
        return max(self.answers_s)


def measure(work: Path, port: int, scale: float) -> Liveness:
    start_s, idle_bytes, wakeups = _start_and_idle(work, port)
    answers_s, whole = _under_load(work, port, scale)
    return Liveness(start_s, idle_bytes, wakeups, answers_s, whole)


def _start_and_idle(work: Path, port: int) -> tuple[float, int, float]:
    times = []
    with scratch(work) as destination:
        # The first start writes the caches of compiled modules, which an installation has.
        for number in range(STARTS + 1):
            process = AgentProcess(destination / str(number), port, deviceId=DEVICE, tenantId="tenant")
            with Backend(port) as backend:
                started_s = time.monotonic()
                with process:
                    backend.announced()
                    times.append(time.monotonic() - started_s)
                    if number == STARTS:
                        before = switches(process.pid)
                        time.sleep(IDLE_S)
                        wakeups = (switches(process.pid) - before) / IDLE_S
                        idle_bytes = _resident_bytes(process.pid)
                    process.stop()
    return median(times[1:]), idle_bytes, wakeups


def switches(pid: int) -> int:
    statuses = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(_number(text, "voluntary_ctxt_switches:") for text in statuses)


def _resident_bytes(pid: int) -> int:
    return _number(Path(f"/proc/{pid}/status").read_text(), "VmRSS:") << 10


def private_bytes(pid: int) -> int:
    """Return the resident memory that no file on the disk can give back."""
    return _number(Path(f"/proc/{pid}/status").read_text(), "RssAnon:") << 10


def _number(status: str, name: str) -> int:
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))


def _under_load(work: Path, port: int, scale: float) -> tuple[list[float], bool]:
    with (
        scratch(work) as destination,
        agent(destination / "agent", port, {}) as measured,
        _caller(port) as caller,
    ):
        corpora.large_log(destination / "corpus", scale)
        options = {
            "backup.dir": str(destination / "corpus"),
            "storage.provider": "local",
            "local.name": ARCHIVE,
        }
        measured.begin("backup", {"correlationId": "load", "options": options})
        answers = [caller.answered_s() for _ in range(COMMANDS)]
        whole = not measured.ended("load")
        wait_until(lambda: measured.ended("load"), what="the end of the backup", timeout_s=300)
    return answers, whole


@contextmanager
def _caller(port: int) -> Iterator["_Caller"]:
    caller = _Caller(port)
    try:
        yield caller
    finally:
        caller.close()


class _Caller:
    """A backend that does nothing but send commands and look at the clock."""

    def __init__(self, port: int) -> None:
        self._answered, self._waiting_for, self._at_s = threading.Event(), "", 0.0
        self._client = Client(CallbackAPIVersion.VERSION2, f"caller-{secrets.token_hex(4)}")
        self._client.on_message = self._on_message
        self._client.on_socket_open = _send_at_once
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe("command//+/res/#", 1)
        assert subscribed.wait(10)

    def answered_s(self) -> float:
        """Ask for the upload of an archive that there is none of: a whole command, refused with a 404."""
        time.sleep(_PAUSE_S)
        self._waiting_for = header = secrets.token_hex(8)
        self._answered.clear()
        message: dict[str, Any] = {
            "topic": f"{THING}/things/live/messages/start",
            "headers": {"response-required": True, "correlation-id": header},
            "path": f"{FEATURE}/inbox/messages/start",
            "value": {"correlationId": f"{header}#1", "options": {"storage.provider": "local"}},
        }
        started_s = time.monotonic()
        self._client.publish(f"command//{DEVICE}/req//start", json.dumps(message), qos=1)
        assert self._answered.wait(30), "no answer within 30 s"
        return self._at_s - started_s

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        now_s = time.monotonic()
        if self._waiting_for.encode() in message.payload:
            self._at_s = now_s
            self._answered.set()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def _send_at_once(_client: Client, _data: object, connection: object) -> None:
    """As the agent does: the acknowledgement of an answer must not hold back the next command."""
    assert isinstance(connection, socket.socket)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
