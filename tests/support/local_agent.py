"""The whole agent in the test's own process: a thread instead of a program, and no broker between.

It has the face of `AgentProcess`, and `LocalBackend` that of `Backend`. What needs no process of its own, no
real broker and no crash is tested with these: in a tenth of the time.
"""

import io
import json
import os
import subprocess
import threading
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from agent.cli import main
from agent.mailbox import Post
from agent.mqtt.link import Broker, Delivery, LinkEvents
from agent.service import Service
from agent.settings.load import load
from tests.support.agent_process import Logging, environment
from tests.support.backend import Listener


class LocalBackend(Listener):
    """Hears what an agent publishes, and is its link to the world."""

    def __init__(self) -> None:
        super().__init__()
        self._link: LocalLink | None = None

    def link(self, _broker: Broker, events: LinkEvents, post: Post) -> "LocalLink":
        """Stands for the class `Link`."""
        self._link = LocalLink(self, events, post)
        return self._link

    def publish(self, topic: str, payload: str | bytes) -> None:
        assert self._link, "no agent has been started"
        self._link.deliver(topic, payload.encode() if isinstance(payload, str) else payload)


class LocalLink:
    """Keeps the order of messages and the acknowledgements, as a link to a broker does."""

    alive = True

    def __init__(self, backend: LocalBackend, events: LinkEvents, post: Post) -> None:
        self._backend, self._events, self._post = backend, events, post
        self._sent = 0

    def start(self) -> None:
        self._post(self._events.up)

    def stop(self) -> None:
        """Nothing is under way."""

    def subscribe(self, *topics: str, qos: int = 1, optional: bool = False) -> None:
        """The agent gets whatever is for it."""

    def publish(self, topic: str, payload: bytes) -> int:
        self._sent += 1
        self._backend.hear(topic, payload)
        self._post(partial(self._events.sent, self._sent))
        return self._sent

    def deliver(self, topic: str, payload: bytes) -> None:
        message = Delivery(topic, payload, retain=False, dup=False, ack=lambda: None)
        self._post(partial(self._events.message, message))


class LocalAgent(Logging):
    """`stop` ends it as SIGTERM does, and `start` begins again with what is on the disk."""

    def __init__(self, work: Path, log: list[dict[str, Any]]) -> None:
        """`log` is what it says while it runs; somebody else collects that."""
        self.work, self.storage, self.data = work, work / "storage", work / "data"
        self.data.mkdir(parents=True)
        self._log = log
        self.settings: dict[str, Any] = {
            "dir": str(self.data),
            "mode": "scoped",
            "storage": str(self.storage),
            "logFile": "",
            "announce": "modify",
        }
        self.environment = environment()
        self._thread: threading.Thread | None = None
        self._service: Service | None = None

    def start(self) -> "LocalAgent":
        config = self.work / "config.json"
        config.write_text(json.dumps(self.settings))
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(config, ready), name="agent")
        self._thread.start()
        assert ready.wait(60), "the agent has not begun"
        return self

    def _serve(self, config: Path, ready: threading.Event) -> None:
        # Built in its own thread, as the journal's connection belongs to one.
        self._service = service = Service(load({}, config, {}).settings, lambda: None)
        service.mailbox.post(ready.set)
        service.serve()

    def stop(self) -> int:
        assert self._service
        assert self._thread
        self._service.mailbox.post(self._service.stop)
        self._thread.join(30)
        assert not self._thread.is_alive(), "the agent has not ended"
        self._thread = None
        return 0

    def close(self) -> None:
        """Stop it when it runs, and wait for nothing that runs in it."""
        if self._thread and self._service:
            self._service.mailbox.post(partial(self._service.engine.interrupt, "the test is over"))
            self.stop()

    def log_lines(self) -> list[dict[str, Any]]:
        return list(self._log)


def run(device: LocalAgent, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Call `edge-backup arguments…` with the settings of a device."""
    return edge_backup(device.work, *arguments, "--config", str(device.work / "config.json"))


def edge_backup(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Return output and status of `edge-backup arguments…` in this directory, run in this process."""
    before, written, err = Path.cwd(), io.BytesIO(), io.StringIO()
    out = io.TextIOWrapper(written, encoding="utf-8", write_through=True)
    os.chdir(directory)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            status = main(arguments)
    except SystemExit as usage:
        status = int(usage.code or 0)
    finally:
        os.chdir(before)
    return subprocess.CompletedProcess(arguments, status, written.getvalue().decode(), err.getvalue())
