"""The reserve of a disk stays, to the last byte, however the rest of it is filled."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.errors import NoSpace
from providers.free_space import Reserve, Room
from tests.contract.local_targets import small_disk
from tests.support.require import require

RESERVE_BYTES = 256 << 10


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as path:
        yield path


def free_bytes(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


def fill(path: Path, chunk: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        room = Room(file.fileno(), "the disk", RESERVE_BYTES, NoSpace)
        while True:
            room.take(len(chunk))
            file.write(chunk)


@pytest.mark.parametrize("chunk_bytes", [4096, 100_000, 300_000])
def test_a_file_grows_until_only_the_reserve_is_left(disk: Path, chunk_bytes: int) -> None:
    with pytest.raises(NoSpace, match=f"the disk has .* needed beside the reserve of {RESERVE_BYTES}"):
        fill(disk / "f", bytes(chunk_bytes))
    assert RESERVE_BYTES <= free_bytes(disk) < RESERVE_BYTES + chunk_bytes + 4096


def test_what_somebody_else_writes_is_seen_when_the_disk_is_nearly_full(disk: Path) -> None:
    with (disk / "f").open("wb", buffering=0) as file:
        room = Room(file.fileno(), "the disk", RESERVE_BYTES, NoSpace)
        room.take(1)
        (disk / "other").write_bytes(bytes(700_000))
        with pytest.raises(NoSpace):
            room.take(500_000)


def test_a_file_system_without_limits_has_room(tmp_path: Path) -> None:
    require(os.geteuid() == 0, "root, to mount")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=0,nr_inodes=0", "none", tmp_path], check=True)
    try:
        with (tmp_path / "f").open("wb") as file:
            Room(file.fileno(), "the disk", 1 << 60, NoSpace).check(1 << 50, 1 << 40)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_the_reserve_takes_a_quarter_of_a_small_disk(disk: Path) -> None:
    """A partition for configuration of 32 MiB could not be restored beside a reserve of 64 MiB."""
    with (disk / "f").open("wb") as file:
        room = Room(file.fileno(), "the disk", 64 << 20, NoSpace)
        assert room.check(500_000) >= 500_000
        with pytest.raises(NoSpace, match=f"beside the reserve of {256 << 10} "):
            room.check(900_000)


def test_only_the_device_s_own_disk_has_a_reserve(disk: Path, tmp_path: Path) -> None:
    reserve = Reserve(tmp_path, RESERVE_BYTES)
    for destination, kept_bytes in ((tmp_path, RESERVE_BYTES), (disk, 0)):
        with (destination / "f").open("wb") as file:
            assert reserve.on(file.fileno()) == kept_bytes
