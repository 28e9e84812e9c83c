"""The packs of a snapshot are read by ranges: each once, and for a verification as many as it may fetch."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from agent.base.errors import RepositoryBroken
from agent.base.roots import Root
from agent.formats.entries import FILE
from agent.formats.repository.blob_index import BlobIndex
from agent.formats.repository.crypto import Cryptor
from agent.formats.repository.keys import open_repository
from agent.formats.repository.objects import Kind
from agent.formats.repository.reader import Reader, snapshot_named
from agent.formats.repository.saved_tree import SnapshotTree
from providers.errors import TooLarge
from tests.contract.local_targets import small_disk
from tests.support.repositories import PASSWORD, Device, DirectoryObjects
from tests.support.trees import File, make_tree

CHUNK_BYTES, NIGHTS = 1 << 16, 9
DATABASE = b"SQLite format 3\0" + os.urandom((2 << 20) - 16)


@dataclass
class Fetched(DirectoryObjects):
    """Objects that note the ranges that were fetched from packs."""

    ranges: list[tuple[str, int, int]] = field(default_factory=list)

    def get_range(self, kind: Kind, name: str, offset: int, size_bytes: int, /) -> bytes:
        self.ranges.append((name, offset, offset + size_bytes))
        return super().get_range(kind, name, offset, size_bytes)

    def overlap(self) -> bool:
        last = ("", 0, 0)
        for each in sorted(self.ranges):
            if each[0] == last[0] and each[1] < last[2]:
                return True
            last = each
        return False


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Device, str]:
    """A device with a database of which each night changed other chunks, and its last snapshot's name."""
    path = tmp_path_factory.mktemp("nights")
    device = Device.at(path, Root("", make_tree(path / "source", {"database": File(DATABASE)})))
    with (path / "source/database").open("r+b") as file:
        for night in range(NIGHTS):
            for at in range(night, len(DATABASE) // CHUNK_BYTES, NIGHTS) if night else ():
                os.pwrite(file.fileno(), os.urandom(100), at * CHUNK_BYTES + 100)
            saved = device.save()
    return device, saved.id


@pytest.fixture
def device(nights: tuple[Device, str]) -> Device:
    return nights[0]


@pytest.fixture
def name(nights: tuple[Device, str]) -> str:
    return nights[1]


@contextmanager
def opened(
    device: Device, name: str, objects: DirectoryObjects, ranges: Path | None = None
) -> Iterator[SnapshotTree]:
    """The newest snapshot of the device, read through `objects`; ranges wait in a directory of their own."""
    keys = open_repository(objects, PASSWORD).keys
    with closing(BlobIndex(device.state)) as index:
        index.load(objects, Cryptor(keys), lambda: None)
        fetch = partial(objects.get_range, Kind.PACK)
        reader = Reader(fetch, keys, index, ranges or device.state, 1 << 20)
        snapshot = snapshot_named(objects, Cryptor(keys), name)
        with closing(SnapshotTree(snapshot, reader, device.state, lambda: None, most_entries=100)) as tree:
            yield tree


def content(tree: SnapshotTree) -> bytes:
    parts: list[bytes] = []
    for item in tree.items():
        if item.kind is FILE:
            tree.read(item, parts.append)
    return b"".join(parts)


def test_each_range_is_fetched_once_however_many_packs_a_file_lies_in(device: Device, name: str) -> None:
    """A database of 30 nights would be fetched sixteen times otherwise."""
    objects = Fetched(device.objects.path)
    with opened(device, name, objects) as tree:
        assert content(tree) == (device.roots[0].directory / "database").read_bytes()
    assert len({name for name, *_ in objects.ranges}) > NIGHTS
    assert not objects.overlap()


def test_a_disk_without_room_for_ranges_costs_requests_only(
    device: Device, name: str, tmp_path: Path
) -> None:
    objects = Fetched(device.objects.path)
    with small_disk(tmp_path / "full") as full, opened(device, name, objects, full) as tree:
        (full / "ballast").write_bytes(bytes(800_000))
        assert content(tree) == (device.roots[0].directory / "database").read_bytes()
    assert objects.overlap()


def test_a_snapshot_that_was_read_can_be_read_again(device: Device, name: str) -> None:
    """A look for holes, where space is tight, goes before the restore."""
    with opened(device, name, Fetched(device.objects.path)) as tree:
        assert content(tree) == content(tree)


def test_a_verification_reads_each_range_once(device: Device, name: str) -> None:
    objects, passed = Fetched(device.objects.path), list[int]()
    with opened(device, name, objects) as tree:
        assert tree.verify(0, passed.append) == tree.packed_bytes()
    assert sum(passed) == len(DATABASE)
    assert not objects.overlap()


def test_a_sample_keeps_to_its_budget(device: Device, name: str) -> None:
    most_bytes = len(DATABASE) // 3
    samples = set()
    for _ in range(5):
        objects, passed = Fetched(device.objects.path), list[int]()
        with opened(device, name, objects) as tree:
            _, trees = tree.packed_bytes(), len(objects.ranges)
            looked_at = tree.verify(most_bytes, passed.append)
        fetched = objects.ranges[trees:]
        assert 0 < looked_at == sum(end - begin for _, begin, end in fetched) <= most_bytes
        assert most_bytes / 2 < sum(passed) <= looked_at
        samples.add(frozenset(name for name, *_ in fetched))
    assert len(samples) > 1, "always the packs of one sample: a damaged one would never be found"


def test_a_budget_below_the_smallest_pack_is_said(device: Device, name: str) -> None:
    with (
        opened(device, name, device.objects) as tree,
        pytest.raises(TooLarge, match="as the 1000 bytes"),
    ):
        tree.verify(1000, lambda _size: None)


def test_damage_in_the_sample_is_found(device: Device, name: str) -> None:
    class Damaged(DirectoryObjects):
        def get_range(self, kind: Kind, name: str, offset: int, size_bytes: int, /) -> bytes:
            data = super().get_range(kind, name, offset, size_bytes)
            return data if size_bytes == 1 << 20 else bytes(len(data))  # trees come in whole blocks

    with opened(device, name, Damaged(device.objects.path)) as tree:
        tree.packed_bytes()
        with pytest.raises(RepositoryBroken):
            tree.verify(len(DATABASE) // 3, lambda _size: None)
