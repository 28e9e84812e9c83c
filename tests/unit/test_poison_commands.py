"""A command that ends the process while it is looked at is known to the next run."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.faces.ditto.poison_commands import MOST_TIMES, PoisonCommands

COMMAND, OTHER = b"c" * 16, b"o" * 16


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def test_a_command_that_ends_run_after_run_is_poison(file: int) -> None:
    with PoisonCommands(file).looking_at(COMMAND) as is_poison:
        assert not is_poison
        before = os.pread(file, 1000, 0)
    for _ in range(MOST_TIMES):
        os.pwrite(file, before, 0)
        run = PoisonCommands(file)
        with run.looking_at(COMMAND) as is_poison:
            before = os.pread(file, 1000, 0)
    assert is_poison
    with run.looking_at(COMMAND) as is_poison:
        assert not is_poison, "it was survived"


def test_other_commands_are_not_held_responsible(file: int) -> None:
    with PoisonCommands(file).looking_at(COMMAND):
        record = os.pread(file, 1000, 0)
    os.pwrite(file, record.replace(b" 1", b" 9"), 0)
    run = PoisonCommands(file)
    with run.looking_at(OTHER) as is_poison:
        assert not is_poison
    with run.looking_at(COMMAND) as is_poison:
        assert is_poison


@pytest.mark.parametrize("content", [b"", b"x", b"\xff\xfe 3", b"a b c", b"abc x", bytes(128)])
def test_what_cannot_be_read_holds_nobody_responsible(file: int, content: bytes) -> None:
    os.pwrite(file, content, 0)
    with PoisonCommands(file).looking_at(COMMAND) as is_poison:
        assert not is_poison
    with PoisonCommands(file).looking_at(COMMAND) as is_poison:
        assert not is_poison


def test_a_disk_that_cannot_be_written_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    read_only = os.open(tmp_path / "lock", os.O_RDONLY)
    with PoisonCommands(read_only).looking_at(COMMAND) as is_poison:
        assert not is_poison
    os.close(read_only)
