"""One broker, one backend and one incubator for all that is done to agents here; the table at the end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.stage import Stage, place_for
from tests.faults.stories import NEW
from tests.faults.tally import add_output, as_output, table, tallies, told
from tests.support.backend import Backend
from tests.support.incubator import Incubator, incubator
from tests.support.mosquitto import Mosquitto, mosquitto
from tests.support.require import possible
from tests.support.syscalls import SUPPORTED
from tests.support.trees import write_zip


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what this process counted, when it is one of several."""
    getattr(session.config, "workeroutput", {}).update(as_output())


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a process of several counted."""
    add_output(getattr(node, "workeroutput", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if tallies or told:
        terminalreporter.section("faults")
        for line in [*table(), *told]:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path_factory.mktemp("mosquitto")) as running:
        yield running


@pytest.fixture(scope="session")
def nest() -> Iterator[Incubator]:
    possible(SUPPORTED, "seccomp_unotify as x86_64 and aarch64 have it")
    with incubator() as running:
        yield running


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: SIGKILL keeps what the kernel has, and syncs take long."""
    import os
    import shutil
    import tempfile

    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = Path(tempfile.mkdtemp(dir=shared)).resolve()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def stage(nest: Incubator, broker: Mosquitto, backend: Backend, memory: Path) -> Iterator[Stage]:
    archive = write_zip(memory / "new.zip", NEW).read_bytes()
    with place_for(archive) as url:
        yield Stage(nest, broker.port, backend, memory, url)
