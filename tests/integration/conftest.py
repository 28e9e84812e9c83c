"""A broker, a backend and an agent for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.backend import Backend
from tests.support.mosquitto import Mosquitto
from tests.support.trees import Dir, File, Link, Spec, make_tree

Started = Callable[..., AgentProcess]
"""The type of the fixture `started`."""

SAMPLE: Spec = {
    "config": Dir(0o750),
    "config/app.json": File(b'{"interval": 30}\n', 0o600),
    "config/current": Link("app.json"),
    "config/Gr\u00fc\u00dfe \u2014 \u8a2d\u5b9a.txt": File(b"names need not be ASCII\n"),
    "empty": Dir(),
    "logs": Dir(),
    "logs/app.log": File(b"".join(b"%08d INFO value=%d\n" % (n, n * 37 % 1000) for n in range(20_000))),
    "start.sh": File(b"#!/bin/sh\nexec ./app\n", 0o755),
}
"""The tree on the device."""


@pytest.fixture
def device(tmp_path: Path, broker: Mosquitto) -> Iterator[AgentProcess]:
    """A device with some data on it; its agent is not yet started."""
    process = AgentProcess(tmp_path / "device", broker.port)
    make_tree(process.data, SAMPLE)
    try:
        yield process
    finally:
        if process.process and process.process.poll() is None:
            process.kill()


@pytest.fixture
def agent(device: AgentProcess, backend: Backend) -> AgentProcess:
    """A running agent that has announced itself."""
    device.start()
    backend.announced()
    return device


@pytest.fixture
def started(device: AgentProcess, backend: Backend) -> Started:
    """Starts the agent with further settings."""

    def start(**settings: Any) -> AgentProcess:
        device.settings |= {key.replace("_", "."): value for key, value in settings.items()}
        device.start()
        backend.announced()
        return device

    return start
