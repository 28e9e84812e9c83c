"""Any tree comes back; any bytes give an archive or an ArchiveError, never anything else."""

import io
import os
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent.base.errors import ArchiveError
from agent.formats.entries import DIR, FILE, LINK, EntryKind
from agent.formats.entry_checks import take_survey
from agent.formats.zip.reader import ArchiveReader
from agent.formats.zip.writer import ArchiveOptions
from tests.support.archives import (
    WIDE,
    Crafted,
    archive_of,
    content_of,
    crafted,
    deflated,
    things_archived,
    things_in,
)

part = st.binary(min_size=1, max_size=30).filter(
    lambda raw: (
        b"/" not in raw and b"\0" not in raw and raw not in (b".", b"..") and not raw.startswith(b".edge-")
    )
) | st.sampled_from(
    ["Grüße".encode(), "日本".encode(), b"a\\b", b"C:x", b"a\nb", b"dir\\", b" ", b"\xff\xfe"]
)
names = st.lists(part, min_size=1, max_size=4).map(b"/".join)
contents = st.binary(max_size=2000) | st.integers(0, 3_000_000).map(lambda size: b"0123456789" * (size // 10))
times_ns = st.integers(-(2**40), 2**43).map(lambda s: s * 1_000_000) | st.sampled_from(
    [0, 315_532_799 * 10**9, 2**31 * 10**9, 4_354_819_199 * 10**9, 5_000_000_000 * 10**9 + 1, -1]
)
leaves = st.one_of(
    st.tuples(st.just(FILE), contents),
    st.tuples(st.just(LINK), st.binary(min_size=1, max_size=200).filter(lambda raw: b"\0" not in raw)),
    st.tuples(st.just(DIR), st.just(b"")),
)
trees = st.dictionaries(names, st.tuples(leaves, st.integers(0, 0o7777), times_ns), max_size=8)


def _plant(root: bytes, tree: dict[bytes, tuple[tuple[EntryKind, bytes], int, int]]) -> None:
    for name, ((kind, content), mode, mtime_ns) in tree.items():
        path = os.path.join(root, name)
        try:
            os.makedirs(path if kind is DIR else os.path.dirname(path), exist_ok=True)
            if kind is LINK:
                os.symlink(content, path)
            elif kind is FILE:
                with open(path, "xb") as file:
                    file.write(content)
        except OSError:
            continue  # the tree contradicts itself: a file where a directory was
        if kind is not LINK:
            # Directories stay readable, for runs without root; set-group-id follows the file system.
            os.chmod(path, mode & 0o5777 | (0o500 if kind is DIR else 0o400))
        os.utime(path, ns=(0, mtime_ns), follow_symlinks=False)


@settings(deadline=None, max_examples=60)
@given(trees, st.sampled_from(["store", "fast", "balanced"]), st.sampled_from(["standard", "kanto"]))
def test_any_tree_comes_back(
    tree: dict[bytes, tuple[tuple[EntryKind, bytes], int, int]], level: str, dialect: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        _plant(os.fsencode(name), tree)
        data, report = archive_of(Path(name), ArchiveOptions(level=level, dialect=dialect))
        original = things_in(Path(name))
    if dialect == "kanto":
        saved = {
            name: thing for name, thing in original.items() if thing.kind is not LINK and "\\" not in name
        }
    else:
        saved = original
    assert things_archived(data) == saved
    assert report.skipped == len(original) - len(saved)
    with zipfile.ZipFile(io.BytesIO(data)) as oracle:
        assert oracle.testzip() is None
        assert len(oracle.namelist()) == len(saved)


def _look_at(data: bytes) -> None:
    """List and unpack; only ArchiveError may come of it."""
    trouble = ""
    try:
        _unpack(ArchiveReader(io.BytesIO(data)))
    except ArchiveError as error:
        trouble = str(error)
    assert trouble.isprintable()


def _unpack(reader: ArchiveReader) -> None:
    take_survey(reader.items(), WIDE)
    for entry in reader.items():
        assert entry.name
        assert not entry.name.startswith("/")
        assert ".." not in entry.name.split("/")
        if entry.size < 1 << 24:
            assert len(content_of(reader, entry)) == (0 if entry.kind is DIR else entry.size)


SAMPLE = crafted(
    Crafted(b"dir/", b"", mode=0o040755),
    Crafted(b"dir/stored", b"stored"),
    Crafted(b"dir/deflated", b"text " * 200, method=8, data=deflated(b"text " * 200)),
    Crafted(b"link", b"dir/stored", mode=0o120777),
    comment=b"comment",
)


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_a_damaged_archive_is_refused_or_sound(data: st.DataObject) -> None:
    damaged = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(damaged)))
        end = data.draw(st.integers(begin, min(len(damaged), begin + 8)))
        damaged[begin:end] = data.draw(st.binary(max_size=8))
    _look_at(bytes(damaged))


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.binary(max_size=100))
def test_any_bytes_are_refused_or_sound(before: bytes, extra: bytes) -> None:
    _look_at(before)
    _look_at(before + crafted(Crafted(b"a", extra=extra)))
    _look_at(crafted(Crafted(before)))


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=1))
def test_a_changed_byte_of_content_never_comes_back(position: int, byte: bytes) -> None:
    content = b"0123456789" * 1000
    data = bytearray(crafted(Crafted(b"a", content)))
    assume(position < len(content) and data[31 + position : 32 + position] != byte)
    data[31 + position : 32 + position] = byte
    reader = ArchiveReader(io.BytesIO(bytes(data)))
    with pytest.raises(ArchiveError, match="checksum"):
        content_of(reader, next(reader.items()))
