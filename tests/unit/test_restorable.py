"""Whatever a backup finishes, a restore with the default settings brings back."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.formats.entries import LINK, Entry
from agent.formats.entry_checks import ArchiveLimits
from agent.formats.walk_report import Report
from agent.formats.zip.writer import write_archive
from agent.jobs.formats import archive_options
from agent.jobs.restore_target import restore_options
from agent.save.result import BackupResult, about
from agent.settings.load import load
from tests.support.archives import archive_of, go_on, things_archived, things_in
from tests.support.restoring import restored

SETTINGS = load({}, None, {}).settings
OPTIONS = restore_options(SETTINGS, "replace", ())

PARTS = st.binary(min_size=1, max_size=40).filter(
    lambda raw: not {0, 47} & set(raw) and raw not in (b".", b"..")
)
LONG = st.sampled_from(
    [b"x" * 255, "ä".encode() * 127, b".edge-backup", b"a\\", b"C:", b"\\", b" ", b"-", b"\xff" * 255]
)
NAMES = st.lists(PARTS | LONG, min_size=1, max_size=5).map(b"/".join)
NODES = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=200)),
    st.tuples(st.just("hole"), st.integers(1, 1 << 20)),
    st.tuples(st.just("link"), st.binary(min_size=1, max_size=300).filter(lambda raw: 0 not in raw)),
    st.tuples(st.just("directory"), st.just(None)),
    st.tuples(st.just("hard link"), st.just(None)),
)

Node = tuple[str, bytes | int | None]


@contextmanager
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="edge-backup-restorable-"))
    try:
        yield made
    finally:
        shutil.rmtree(made)


def make(root: Path, name: bytes, kind: str, value: bytes | int | None) -> None:
    """One thing of a tree; what its file system refuses, is not there."""
    path = os.path.join(os.fsencode(root), name)
    with suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if isinstance(value, bytes):
            os.symlink(value, path) if kind == "link" else Path(os.fsdecode(path)).write_bytes(value)
        elif isinstance(value, int):
            Path(os.fsdecode(path)).touch()
            os.truncate(path, value)
        elif kind == "directory":
            os.mkdir(path)
        elif files := [found for found in root.rglob("*") if found.is_file() and not found.is_symlink()]:
            os.link(files[0], path)


def check_restored(tree: Path, work: Path) -> None:
    archive, target = work / "archive.zip", work / "target"
    archive.write_bytes(archive_of(tree, archive_options(SETTINGS))[0])
    target.mkdir()
    assert things_in(restored(target, archive, OPTIONS)) == things_in(tree)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAMES, NODES), max_size=12))
def test_a_tree_that_was_saved_is_restored(things: list[tuple[bytes, Node]]) -> None:
    with directory() as work:
        tree = work / "tree"
        tree.mkdir()
        for name, (kind, value) in things:
            make(tree, name, kind, value)
        check_restored(tree, work)


@pytest.mark.slow
@pytest.mark.parametrize(("size_bytes", "is_hole"), [(65 << 20, False), (256 << 20, True)])
def test_what_shrinks_as_far_as_deflate_can_is_restored(
    tmp_path: Path, size_bytes: int, is_hole: bool
) -> None:
    """The limit of the ratio lay under what our own archives reach."""
    tree = tmp_path / "tree"
    tree.mkdir()
    with (tree / "zeros").open("wb") as file:
        if is_hole:
            file.truncate(size_bytes)
        else:
            file.write(bytes(size_bytes))
    for level in ("fast", "balanced", "small"):
        work = tmp_path / level
        work.mkdir()
        archive, target = work / "archive.zip", work / "target"
        archive.write_bytes(
            archive_of(tree, archive_options(load({"archive.level": level}, None, {}).settings))[0]
        )
        target.mkdir()
        assert (restored(target, archive, OPTIONS) / "zeros").stat().st_size == size_bytes
        shutil.rmtree(work)


def test_directories_count_once_however_long_their_names_are(tmp_path: Path) -> None:
    """One with an entry of its own was counted again as one that an entry implies, up to a hundred times."""
    tree = tmp_path / "tree"
    deep = tree / "/".join(["n" * 250] * 15)
    deep.mkdir(parents=True)
    for number in range(40):
        os.mkdir(str(number), dir_fd=(fd := os.open(deep, os.O_RDONLY)))
        os.close(fd)
    archive, target = tmp_path / "archive.zip", tmp_path / "target"
    data, report = archive_of(tree)
    archive.write_bytes(data)
    target.mkdir()
    limits = ArchiveLimits(max_files=report.directories, max_bytes=1 << 30, max_ratio=1100)
    restored(target, archive, replace(OPTIONS, limits=limits))
    assert things_in(target) == things_in(tree)


def test_a_name_that_vfat_can_have_is_no_fault_of_the_archive(tmp_path: Path) -> None:
    """255 letters of UTF-16 are up to 765 bytes there."""
    os.symlink("x", tmp_path / "link")
    status = os.lstat(tmp_path / "link")
    report = Report()
    name = "設" * 255
    data = b"".join(
        write_archive([Entry(name, LINK, status, target=b"x")], report, archive_options(SETTINGS), go_on)
    )
    assert list(things_archived(data)) == [name]


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (Report(files=900_000, directories=90_000, links=10_001), "at least restore.maxFiles 1000001"),
        (Report(files=1, size_bytes=(64 << 30) + 1), f"at least restore.maxSize {(64 << 30) + 1}"),
        (Report(files=10**6, size_bytes=64 << 30), ""),
    ],
)
def test_a_backup_that_is_too_large_for_a_restore_names_the_setting(report: Report, message: str) -> None:
    result = BackupResult(report, 1, "", None)
    expected = f"a restore needs a higher setting: {message}" if message else ""
    assert about(result, OPTIONS.limits) == expected
