"""For all tests: a broker, and a backend at it.

With rich, structlog's tracebacks would show every local variable, which takes minutes
for those that tests of hostile input have; it looks for rich when it is imported."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import cast

sys.modules["rich"] = cast(ModuleType, None)
import structlog  # noqa: E402

del sys.modules["rich"]

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

pytest.register_assert_rewrite("providers.testing", "tests.support")

from agent.base import allocator  # noqa: E402
from tests.support.backend import Backend  # noqa: E402
from tests.support.mosquitto import Mosquitto, mosquitto  # noqa: E402

# A busy machine makes no test fail: an example may take the time that it takes.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
# The larger the process, the longer takes each fork, and tests fork a thousand times.
allocator.keep_small()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all that plays a whole device's life as slow: crashes, systems of their own, and browsers."""
    for item in items:
        if item.path.parent.name in ("browser", "faults", "system"):
            item.add_marker("slow")


def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes test: one more than there are cores, as tests wait for servers and disks."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Undo what a test, or the agent in its process, set up: other tests get the logging that they had."""
    root = logging.getLogger()
    handlers, level, raising = list(root.handlers), root.level, logging.raiseExceptions
    yield
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    logging.raiseExceptions = raising
    for name in ("agent", "providers"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(autouse=True)
def _patient_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, too, a cancelled restore of a few files is undone before it ends."""
    monkeypatch.setattr("agent.restore.flow.PATIENCE_S", 60.0)


@pytest.fixture(autouse=True)
def _cheap_key_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a repository that a test has made in its own process costs next to nothing, for restic, too.

    The repositories of agents that are started as programs have the real cost.
    """
    monkeypatch.setattr("agent.formats.repository.keys.N", 2)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path / "mosquitto") as running:
        yield running


@pytest.fixture
def backend(broker: Mosquitto) -> Iterator[Backend]:
    with Backend(broker.port) as connected:
        yield connected
