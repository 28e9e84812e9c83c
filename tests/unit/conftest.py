"""Fixtures of many unit tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.journal import Journal
from tests.support.fakes import Device
from tests.support.trees import make_tree


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.db")
    yield journal
    journal.close()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path)
    yield device
    device.close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return an empty directory to restore into."""
    return make_tree(tmp_path.resolve() / "target", {})


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Return the path for the archive that a test writes."""
    return tmp_path / "a.zip"
