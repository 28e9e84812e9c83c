"""The manifest: complete, bounded, invisible to other tools, and never trusted."""

import io
import json
import os
import shutil
import struct
import subprocess
import zipfile
import zlib
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.errors import ManifestBroken, NewerFormat
from agent.base.job import Label
from agent.base.roots import Root
from agent.base.times import format_time
from agent.formats.manifest import FORMAT, MAX_BYTES, Manifest, Origin
from agent.formats.walk_report import Report, Top
from agent.formats.zip.manifest_block import manifest_block, read_manifest
from agent.formats.zip.reader import ArchiveReader
from agent.formats.zip.records import end_of_archive
from agent.formats.zip.writer import ArchiveOptions, write_archive
from agent.save.walk import WalkRoot, walk
from tests.support.archives import archive_of, go_on, things_archived
from tests.support.require import require

START = datetime(2026, 11, 21, 22, 28, 8, 388229, UTC)
LABEL = Label("before-update", "works\nwell", datetime(2027, 1, 1, tzinfo=UTC))
ORIGIN = Origin("edge:device", "edge-backup/1", START, "c-1", LABEL, (Root("", Path("/var/lib/app")),))
MAGIC = b"EdgeMnf1"


def made(
    root: Path,
    origin: Origin = ORIGIN,
    report: Report | None = None,
    options: ArchiveOptions | None = None,
) -> bytes:
    report = report or Report()
    entries = walk(WalkRoot(Root("", root)), report, (), go_on)
    block = partial(manifest_block, origin)
    return b"".join(write_archive(entries, report, options or ArchiveOptions(), go_on, block))


def read(archive: bytes) -> Manifest | None:
    """The manifest, without the time at which the archive was made."""
    manifest = ArchiveReader(io.BytesIO(archive)).manifest()
    return manifest and manifest.model_copy(update={"ended": ""})


def block_of(data: bytes) -> bytes:
    length = struct.pack("<L", len(data))
    return MAGIC + length + data + struct.pack("<L", zlib.crc32(data)) + length + MAGIC


def parsed(block: bytes) -> Manifest | None:
    return read_manifest(lambda offset, size: block[offset : offset + size], len(block))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "sub/file").write_bytes(b"content")
    (root / "link").symlink_to("sub")
    os.mkfifo(root / "pipe")
    root.chmod(0o750)
    os.setxattr(root, "user.note", b"\xff")
    return root


def test_it_says_when_everything_was_read(tree: Path) -> None:
    """A backup may begin before a change and read it: a restore from before the change must not take it."""
    before = format_time(datetime.now(UTC))
    manifest = ArchiveReader(io.BytesIO(made(tree))).manifest()
    assert manifest
    assert before <= manifest.ended <= format_time(datetime.now(UTC))


def test_it_says_who_when_what_and_what_is_missing(tree: Path) -> None:
    manifest = read(made(tree))
    assert manifest
    assert manifest.value() == {
        "format": 1,
        "device": "edge:device",
        "agent": "edge-backup/1",
        "created": "2026-11-21T22:28:08.388229Z",
        "correlationId": "c-1",
        "name": "before-update",
        "description": "works\nwell",
        "retentionDate": "2027-01-01T00:00:00.000000Z",
        "sources": [{"path": "/var/lib/app"}],
        "counts": {"files": 1, "directories": 1, "links": 1, "bytes": 7},
        "leftOut": 1,
        "reasons": {"FIFO": 1},
        "unexportable": [{"name": "pipe", "reason": "FIFO"}],
        "root": {
            "mode": 0o750,
            "uid": os.geteuid(),
            "gid": os.getegid(),
            "mtimeNs": tree.stat().st_mtime_ns,
            "xattrs": [b"user.note\0\xff".hex()],
        },
    }


def test_of_the_attributes_of_the_root_as_many_are_kept_as_have_room(tree: Path) -> None:
    """The manifest keeps its limit; most directories have none, or one access control list."""
    report = Report(top=Top(tree.stat(), {f"user.{number}": bytes(10_000) for number in range(9)}))
    report.unexportable = [("n" * 200, "vanished")] * 1000
    manifest = ORIGIN.manifest(report)
    assert manifest.root
    assert list(manifest.root.attributes()) == ["user.0", "user.1"]
    assert len(manifest.to_json()) < MAX_BYTES


def test_an_archive_without_one_has_none(tree: Path, tmp_path: Path) -> None:
    """Kanto's, other tools', and our own older ones."""
    assert read(archive_of(tree)[0]) is None
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a", b"a")
    assert read((tmp_path / "x.zip").read_bytes()) is None
    assert read(b"PK\5\6" + bytes(18)) is None


def test_the_entries_are_the_same_bytes_with_and_without_it(tree: Path) -> None:
    """Nothing of it, and so no time either, is before the last entry ends."""
    plain, (one, other) = (
        archive_of(tree)[0],
        (made(tree), made(tree, replace(ORIGIN, created=START.replace(2027)))),
    )
    first = plain.index(b"PK\1\2")
    assert plain[:first] == one[:first] == other[:first]
    assert len(one) == len(other)
    found = [list(ArchiveReader(io.BytesIO(archive)).items()) for archive in (plain, one)]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "command",
    [
        ["unzip", "-tqq", "{}"], ["zip", "-qT", "{}"], ["7z", "t", "-bso0", "-bsp0", "{}"],
        ["bsdtar", "-tf", "{}"], ["python3", "-W", "error", "-m", "zipfile", "-t", "{}"],
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_other_tools_take_the_archive_without_a_word(tree: Path, tmp_path: Path, command: list[str]) -> None:
    require(shutil.which(command[0]) is not None, command[0])
    (tmp_path / "a.zip").write_bytes(made(tree))
    done = subprocess.run(
        [part.format(tmp_path / "a.zip") for part in command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "EdgeMnf" not in done.stdout
    assert not any(word in done.stdout.lower() for word in ("warning", "extra bytes", "error"))


@pytest.mark.parametrize("piped", [False, True])
def test_it_is_no_file_after_a_restore_by_another_tool(tree: Path, tmp_path: Path, piped: bool) -> None:
    require(shutil.which("bsdtar") is not None, "bsdtar")
    target = tmp_path / "out"
    target.mkdir()
    archive = made(tree)
    (tmp_path / "a.zip").write_bytes(archive)
    if piped:
        subprocess.run(["bsdtar", "-xf", "-", "-C", target], input=archive, check=True)
    else:
        shutil.unpack_archive(tmp_path / "a.zip", target)
    assert sorted(path.name for path in target.rglob("*")) == ["file", "link", "sub"]


def test_however_much_was_skipped_it_stays_small_and_the_counts_true(tree: Path) -> None:
    report = Report()
    for number in range(5000):
        report.skip("\u4e2d\x01" * 200 + str(number), "unreadable")
    manifest = read(made(tree, ORIGIN, report))
    assert manifest
    assert manifest.skipped == 5001
    assert 50 < len(manifest.unexportable) < 5000
    assert len(manifest_block(ORIGIN, report)) < MAX_BYTES


def test_whatever_a_device_is_told_fits(tree: Path) -> None:
    roots = tuple(
        Root(f"s/{n}\udcff", Path("/" + "\x01" * 4000), frozenset({"\udc80" * 99})) for n in range(500)
    )
    label = Label("n" * 64, "\x01" * 1000, LABEL.retention_date)
    origin = Origin("\x01" * 256, "a", START, "\x01" * 256, label, roots)
    manifest = parsed(manifest_block(origin, Report()))
    assert manifest
    assert 0 < len(manifest.sources) < 500


def test_a_later_format_is_refused_even_when_it_looks_different() -> None:
    with pytest.raises(
        NewerFormat, match=f"has format {FORMAT + 1}, and this agent knows formats up to {FORMAT}"
    ):
        parsed(block_of(json.dumps({"format": FORMAT + 1, "device": {"id": 1}}).encode()))


def test_the_keys_on_the_disk_are_these_whatever_the_fields_are_called() -> None:
    report = Report(files=1, directories=2, links=3, size_bytes=4, excluded=5)
    report.skip("gone", "vanished")
    origin = replace(ORIGIN, sources=(Root("a", Path("/a"), frozenset({"b"})),))
    assert json.loads(origin.manifest(report).to_json()) == {
        "format": 1, "device": "edge:device", "agent": "edge-backup/1",
        "created": "2026-11-21T22:28:08.388229Z",
        "correlationId": "c-1", "name": "before-update", "description": "works\nwell",
        "retentionDate": "2027-01-01T00:00:00.000000Z",
        "sources": [{"path": "/a", "prefix": "a", "names": ["b"]}],
        "counts": {"files": 1, "directories": 2, "links": 3, "bytes": 4, "excluded": 5},
        "leftOut": 1, "reasons": {"vanished": 1}, "unexportable": [{"name": "gone", "reason": "vanished"}],
    }  # fmt: skip


def test_fields_of_later_agents_are_passed_over() -> None:
    value = ORIGIN.manifest(Report()).value() | {"mood": "good"}
    assert parsed(block_of(json.dumps(value).encode())) == ORIGIN.manifest(Report())


GOOD = ORIGIN.manifest(Report()).value()
BAD: list[Any] = [
    [], "x", 1, None, {}, GOOD | {"format": "1"}, GOOD | {"format": None}, GOOD | {"device": 1},
    GOOD | {"counts": {"files": -1}}, GOOD | {"leftOut": 1.5}, GOOD | {"sources": "x"},
    GOOD | {"unexportable": [1]}, GOOD | {"root": {"mode": 0}},
    {key: GOOD[key] for key in GOOD if key != "device"},
]  # fmt: skip


@pytest.mark.parametrize("value", BAD, ids=str)
def test_json_that_is_no_manifest_is_refused(value: object) -> None:
    with pytest.raises(ManifestBroken):
        parsed(block_of(json.dumps(value).encode()))


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b'{"format":' + b"9" * 5000 + b"}"])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestBroken):
        parsed(block_of(data))


def test_a_length_that_cannot_be_is_refused_before_anything_is_read() -> None:
    for length in (MAX_BYTES + 1, 0xFFFF_FFFF, 100):
        with pytest.raises(ManifestBroken):
            parsed(bytes(50) + struct.pack("<LL", 0, length) + MAGIC)


@given(st.data())
def test_one_altered_byte_is_found_or_there_is_no_manifest_any_more(data: st.DataObject) -> None:
    block = manifest_block(ORIGIN, Report())
    at = data.draw(st.integers(0, len(block) - 1))
    altered = bytearray(block)
    altered[at] ^= data.draw(st.integers(1, 255))
    if at >= len(block) - len(MAGIC):
        assert parsed(bytes(altered)) is None
    else:
        with pytest.raises(ManifestBroken):
            parsed(bytes(altered))


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_a_manifest_none_or_an_error_of_ours(data: bytes, framed: bool) -> None:
    with suppress(ManifestBroken, NewerFormat):
        parsed(block_of(data) if framed else data + MAGIC)


@pytest.mark.parametrize("dialect", ["standard", "kanto"])
@pytest.mark.parametrize(
    "command",
    [
        ["unzip", "-tqq", "{}"], ["7z", "t", "-bso0", "-bsp0", "{}"], ["bsdtar", "-tf", "{}"],
        ["python3", "-W", "error", "-m", "zipfile", "-t", "{}"],
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_other_tools_take_the_archive_of_an_empty_directory(
    tmp_path: Path, command: list[str], dialect: str
) -> None:
    """With nothing but a manifest before the end record, they saw no archive at all."""
    require(shutil.which(command[0]) is not None, command[0])
    (tmp_path / "data").mkdir()
    manifest = ORIGIN.manifest(Report(top=Top((tmp_path / "data").stat(), {})))
    data = made(tmp_path / "data", options=ArchiveOptions(dialect=dialect))
    (tmp_path / "a.zip").write_bytes(data)
    done = subprocess.run(
        [part.format(tmp_path / "a.zip") for part in command], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (things_archived(data), read(data)) == ({}, manifest)


def test_the_archive_of_an_empty_directory_by_an_earlier_agent_is_read() -> None:
    """It had its manifest before an empty central directory."""
    block = block_of(ORIGIN.manifest(Report()).to_json())
    old = block + end_of_archive(0, 0, len(block))
    assert (things_archived(old), read(old)) == ({}, ORIGIN.manifest(Report()))
