"""Fixtures of many unit tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.journal import Journal
from tests.support.fakes import Device


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
