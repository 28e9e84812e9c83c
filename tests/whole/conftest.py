"""The whole agent in the test's own process, a backend without a broker, and some data."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from agent.faces import metrics
from agent.faces.ditto import mqtt_session, twin_updates
from tests.integration.conftest import SAMPLE
from tests.support.http_network import TOKEN, Network
from tests.support.local_agent import LocalAgent, LocalBackend
from tests.support.settings_files import private_file
from tests.support.trees import make_tree

Started = Callable[..., LocalAgent]
"""The type of the fixture `started`."""


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalBackend]:
    backend = LocalBackend()
    monkeypatch.setattr(mqtt_session, "Link", backend.link)
    yield backend
    assert backend.faults == []


@pytest.fixture
def device(tmp_path: Path, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAgent]:
    """A device with some data on it; its agent is not yet started."""
    for module in (twin_updates, metrics):
        monkeypatch.setattr(module, "INTERVAL_S", 0.05)
    with capture_logs([structlog.contextvars.merge_contextvars]) as log:
        device = LocalAgent(tmp_path / "device", log)  # type: ignore[arg-type]
        make_tree(device.data, SAMPLE)
        yield device
        device.close()


@pytest.fixture
def agent(device: LocalAgent, backend: LocalBackend) -> LocalAgent:
    """A running agent that has announced itself."""
    device.start()
    backend.announced()
    return device


@pytest.fixture
def started(device: LocalAgent, backend: LocalBackend) -> Started:
    """Starts the agent with further settings."""

    def start(**settings: Any) -> LocalAgent:
        device.settings |= {key.replace("_", "."): value for key, value in settings.items()}
        device.start()
        backend.announced()
        return device

    return start


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    private_file(file, f"{TOKEN}\n")
    return file


@pytest.fixture
def network(started: Started, token_file: Path) -> Network:
    return Network(
        started(http_listen="127.0.0.1:0", http_tokenFile=str(token_file), http_hosts="gateway.local")
    )
