"""Archives are what every tool reads, the same for any number of threads, whatever happens to a file."""

import dataclasses
import io
import os
import shutil
import socket
import subprocess
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from agent.base.errors import Cancelled, SourceChanged
from agent.base.roots import Root
from agent.formats.entries import Entry, EntryKind
from agent.formats.entry_checks import take_survey
from agent.formats.walk_report import Report
from agent.formats.zip import records
from agent.formats.zip.deflate import BLOCK_BYTES
from agent.formats.zip.reader import ArchiveReader
from agent.formats.zip.records import Member
from agent.formats.zip.writer import ArchiveOptions
from agent.save.walk import WalkRoot, walk
from tests.support.archives import (
    LEVELS,
    WIDE,
    archive_of,
    content_of,
    go_on,
    open_descriptors,
    things_archived,
    things_in,
    written,
)
from tests.support.require import require

FIXED_LEVELS = [level for level in LEVELS if level != "auto"]
LOG = b"".join(
    b"2026-01-01 00:00:%02d agent[%d]: value=%d\n" % (i % 60, i, i * i % 977) for i in range(60_000)
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A bit of everything: small, big, incompressible, empty, links, modes, times, names."""
    root = tmp_path / "tree"
    (root / "dir/deeper").mkdir(parents=True)
    (root / "empty").mkdir(mode=0o700)
    (root / "dir/small.conf").write_bytes(b"key = value\n" * 20)
    (root / "dir/nothing").write_bytes(b"")
    (root / "dir/deeper/big.log").write_bytes(LOG)
    (root / "mixed.bin").write_bytes(LOG[:BLOCK_BYTES] + os.urandom(BLOCK_BYTES) + LOG[:12_345])
    (root / "random.bin").write_bytes(os.urandom(100_000))
    (root / "exact.bin").write_bytes(b"\0" * (2 * BLOCK_BYTES))
    (root / "run.sh").write_bytes(b"#!/bin/sh\n")
    os.chmod(root / "run.sh", 0o4755)
    (root / "Grüße €.txt").write_bytes(b"x")
    (root / "link").symlink_to("dir/small.conf")
    (root / "dangling").symlink_to("/nowhere/at all")
    os.link(root / "run.sh", root / "run2.sh")
    os.utime(root / "dir/small.conf", ns=(0, 1_700_000_000_123_456_789))
    os.utime(root / "dir/nothing", ns=(0, 86_400_000_000_000))
    os.utime(root / "run.sh", ns=(0, 4_000_000_000_000_000_000))
    os.utime(root / "empty", ns=(0, 1_600_000_001_000_000_000))
    return root


@pytest.mark.parametrize("level", LEVELS)
def test_everything_comes_back_as_it_was(tree: Path, level: str) -> None:
    data, report = archive_of(tree, ArchiveOptions(level=level))
    assert things_archived(data) == things_in(tree)
    assert (report.files, report.directories, report.links, report.skipped) == (9, 3, 2, 0)
    assert report.size_bytes == sum(
        len(thing.content) for thing in things_in(tree).values() if thing.kind is EntryKind.FILE
    )


@pytest.mark.parametrize("level", FIXED_LEVELS)
def test_the_bytes_do_not_depend_on_the_number_of_threads(tree: Path, level: str) -> None:
    archives = {archive_of(tree, ArchiveOptions(level=level, threads=threads))[0] for threads in (1, 2, 4)}
    assert len(archives) == 1


def test_levels_differ_in_size_as_promised(tree: Path) -> None:
    sizes = [len(archive_of(tree, ArchiveOptions(level=level))[0]) for level in FIXED_LEVELS]
    assert sizes == sorted(sizes, reverse=True)


def test_python_reads_it(tree: Path) -> None:
    data, _ = archive_of(tree)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.read("dir/deeper/big.log") == LOG
        assert archive.read("Grüße €.txt") == b"x"
        assert archive.getinfo("empty/").is_dir()
        assert archive.getinfo("run.sh").external_attr >> 16 == 0o104755
        assert archive.getinfo("dir/nothing").date_time == (1980, 1, 1, 0, 0, 0)
        small = archive.getinfo("dir/small.conf")
        assert small.flag_bits & 8 == 0, "small files have their sizes in the local header"


def test_unzip_restores_it(tree: Path, tmp_path: Path) -> None:
    require(shutil.which("unzip") is not None, "unzip")
    archive, out = tmp_path / "archive.zip", tmp_path / "out"
    archive.write_bytes(archive_of(tree)[0])
    _run("unzip", "-tq", archive)
    _run("unzip", "-q", archive, "-d", out)
    restored, original = things_in(out), things_in(tree)
    assert restored.keys() == original.keys()
    for name, thing in original.items():
        assert restored[name].content == thing.content
        assert restored[name].kind is thing.kind
    # What unzip can keep: permission bits without set-uid, whole seconds that fit.
    assert restored["empty"].mode == 0o700
    assert restored["dir/small.conf"].mtime_ns == 1_700_000_000_000_000_000
    assert restored["dir/nothing"].mtime_ns == 86_400_000_000_000


def test_7z_reads_it(tree: Path, tmp_path: Path) -> None:
    require(shutil.which("7z") is not None, "7z (package p7zip-full or 7zip)")
    archive = tmp_path / "archive.zip"
    archive.write_bytes(archive_of(tree)[0])
    output = _run("7z", "t", archive)
    assert "Everything is Ok" in output
    assert "Warning" not in output


def test_an_empty_directory_makes_a_valid_archive(tmp_path: Path) -> None:
    data, report = archive_of(tmp_path)
    assert things_archived(data) == {}
    assert report.files == 0
    assert zipfile.ZipFile(io.BytesIO(data)).namelist() == []


@pytest.mark.slow
def test_more_than_65535_entries_need_zip64(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("x")
    status = os.lstat(tmp_path / "link")
    links = (Entry(f"link{index}", EntryKind.LINK, status, target=b"x") for index in range(65_536))
    data = b"".join(written(links, Report()))
    assert sum(1 for _ in ArchiveReader(io.BytesIO(data)).items()) == 65_536
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert len(archive.namelist()) == 65_536
        assert archive.read("link65535") == b"x"


def test_a_file_announced_with_over_4_gib_is_streamed_with_zip64_sizes(tmp_path: Path) -> None:
    """It has become short when it is read, so that the test is; the 64-bit descriptor stays."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/huge").touch()
    os.truncate(tmp_path / "tree/huge", 5 << 30)
    report = Report()

    def shrinking() -> Iterator[Entry]:
        for entry in walk(WalkRoot(Root("", tmp_path / "tree")), report, (), go_on):
            (tmp_path / "tree/huge").write_bytes(LOG)
            yield entry

    data = b"".join(written(shrinking(), report))
    assert things_archived(data)["huge"].content == LOG
    assert zipfile.ZipFile(io.BytesIO(data)).read("huge") == LOG
    if shutil.which("unzip") is not None:
        (tmp_path / "archive.zip").write_bytes(data)
        _run("unzip", "-tq", tmp_path / "archive.zip")


def test_sizes_and_offsets_over_4_gib_are_kept_in_zip64_fields(tmp_path: Path) -> None:
    """Made of the records around a hole: writing so much for real takes too long here."""
    huge = Member(b"huge", 0, 0x5A21_0000, 0o100644 << 16, b"", b"")
    huge.size_bytes = huge.compressed_bytes = 5 << 30
    last = Member(b"last", 0, 0x5A21_0000, 0o100644 << 16, b"", b"", crc=zlib.crc32(b"end"))
    last.size_bytes = last.compressed_bytes = 3
    begin = 30 + 4 + huge.size_bytes
    directory = records.central_header(huge, 0) + records.central_header(last, begin)
    with (tmp_path / "archive.zip").open("wb") as file:
        file.write(records.local_header(dataclasses.replace(huge, size_bytes=0, compressed_bytes=0)))
        file.seek(begin)
        file.write(records.local_header(last) + b"end" + directory)
        file.write(records.end_of_archive(2, len(directory), begin + 30 + 4 + 3))
    with (tmp_path / "archive.zip").open("rb") as file:
        reader = ArchiveReader(file)
        first, second = reader.items()
        assert (first.size, second.location.offset) == (5 << 30, begin)
        assert content_of(reader, second) == b"end"
    with zipfile.ZipFile(tmp_path / "archive.zip") as oracle:
        assert oracle.getinfo("huge").file_size == 5 << 30
        assert oracle.read("last") == b"end"


def test_a_name_that_is_no_utf8_is_stored_as_it_is(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/caf\xe9", "wb"):
        pass
    data, _ = archive_of(tmp_path)
    assert [os.fsencode(name) for name in things_archived(data)] == [b"caf\xe9"]
    (info,) = zipfile.ZipFile(io.BytesIO(data)).infolist()
    assert (info.flag_bits & 0x800, info.orig_filename.encode("cp437")) == (0, b"caf\xe9")


def test_the_kanto_dialect_ends_directories_in_a_backslash(tree: Path) -> None:
    data, _ = archive_of(tree, ArchiveOptions(dialect="kanto"))
    names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    assert {"dir\\", "dir/deeper\\", "empty\\", "run.sh"} <= set(names)


def test_the_kanto_dialect_has_what_kanto_can_restore_and_says_what_it_skips(
    tree: Path, tmp_path: Path
) -> None:
    """Kanto's restore made a text file of a link, and failed over a name with a backslash."""
    (tree / "C:\\logs").mkdir()
    (tree / "C:\\logs" / "today").write_text("")
    os.link(tree / "run.sh", tree / "0\\first")
    data, report = archive_of(tree, ArchiveOptions(dialect="kanto"))
    kanto_restores(data, tmp_path / "restored")
    kept = {
        name: thing
        for name, thing in things_in(tree).items()
        if thing.kind is not EntryKind.LINK and "\\" not in name
    }
    restored = things_in(tmp_path / "restored")
    assert {name: thing.content for name, thing in restored.items()} == {
        name: thing.content for name, thing in kept.items()
    }
    assert {name: thing.kind for name, thing in restored.items()} == {
        name: thing.kind for name, thing in kept.items()
    }
    assert things_archived(data) == kept, "with our own restore, too"
    assert dict(report.unexportable) == {
        "link": "link, which Kanto cannot restore",
        "dangling": "link, which Kanto cannot restore",
        "C:\\logs": "name with a backslash, which Kanto cannot restore",
        "C:\\logs/today": "name with a backslash, which Kanto cannot restore",
        "0\\first": "name with a backslash, which Kanto cannot restore",
    }
    assert "2 link, which Kanto cannot restore" in report.summary()
    with pytest.raises(SourceChanged, match="strictBackup is set, and 5 entries skipped"):
        report.refuse_failures()


def kanto_restores(data: bytes, target: Path) -> None:
    """Do what Kanto's restore does with an archive: it knows no links and makes no parents."""
    target.mkdir()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            path = f"{target}/" + info.filename.replace("\\", "/")
            if info.filename.endswith("\\"):
                os.makedirs(path) if path == f"{target}/./" else os.mkdir(path)
            else:
                with open(path, "wb") as out:
                    out.write(archive.read(info))


def test_hard_links_carry_their_content_and_the_first_name(tree: Path) -> None:
    data, _ = archive_of(tree)
    links = {entry.name: entry.hard_link_to for entry in ArchiveReader(io.BytesIO(data)).items()}
    (second,) = [name for name, first in links.items() if first is not None]
    assert {second, links[second]} == {"run.sh", "run2.sh"}
    assert things_archived(data)[second].content == b"#!/bin/sh\n"


def test_owner_and_group_are_kept(tree: Path) -> None:
    if os.geteuid() == 0:
        os.chown(tree / "run.sh", 70_000, 4_000_000_000)
    status = (tree / "run.sh").stat()
    entries = {entry.name: entry for entry in ArchiveReader(io.BytesIO(archive_of(tree)[0])).items()}
    assert (entries["run.sh"].uid, entries["run.sh"].gid) == (status.st_uid, status.st_gid)


def test_a_file_that_shrinks_or_grows_is_kept_and_counted(tmp_path: Path) -> None:
    names = ["small-shrinks", "small-grows", "big-shrinks", "big-grows"]
    for name in names:
        (tmp_path / name).write_bytes(LOG if name.startswith("big") else LOG[:5000])
    report = Report()

    def changing() -> Iterator[Entry]:
        for entry in walk(WalkRoot(Root("", tmp_path)), report, (), go_on):
            path = tmp_path / entry.name
            if entry.name.endswith("shrinks"):
                os.truncate(path, 3)
            else:
                os.truncate(path, entry.stat.st_size + 4)
            yield entry

    data = b"".join(written(changing(), report))
    contents = {name: thing.content for name, thing in things_archived(data).items()}
    assert contents == {
        "small-shrinks": LOG[:3], "small-grows": LOG[:5000], "big-shrinks": LOG[:3], "big-grows": LOG,
    }  # fmt: skip
    assert report.reasons == {"changed while read": 4}
    assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None


@pytest.mark.parametrize("sound_bytes", [0, 5000, 3 * BLOCK_BYTES])
def test_a_file_that_cannot_be_read_to_its_end_is_not_in_the_archive(
    tmp_path: Path, sound_bytes: int
) -> None:
    """Even when part of it has gone out: a restore must not put half a file in place of a whole one."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/good").write_bytes(b"good")
    (tmp_path / "of the size").touch()
    os.truncate(tmp_path / "of the size", 5 * BLOCK_BYTES if sound_bytes > BLOCK_BYTES else 10_000)
    report = Report()

    def failing() -> Iterator[Entry]:
        for entry in walk(WalkRoot(Root("", tmp_path / "tree")), report, (), go_on):
            yield entry
            with _breaking_after(sound_bytes) as fd:
                yield Entry("bad", EntryKind.FILE, (tmp_path / "of the size").stat(), fd)
            yield Entry("after", EntryKind.LINK, entry.stat, target=b"x")

    data = b"".join(written(failing(), report))
    assert [*things_archived(data)] == ["good", "after"]
    assert report.reasons == {"unreadable": 1}
    assert report.files == 1
    assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None
    if shutil.which("7z") is not None:
        (tmp_path / "archive.zip").write_bytes(data)
        assert "Everything is Ok" in _run("7z", "t", tmp_path / "archive.zip")


def test_closing_early_ends_the_threads_and_closes_the_files(tree: Path) -> None:
    threads, descriptors = threading.active_count(), open_descriptors()
    report = Report()
    entries = walk(WalkRoot(Root("", tree)), report, (), go_on)
    chunks = written(entries, report)
    next(chunks)
    chunks.close()
    entries.close()
    assert (threading.active_count(), open_descriptors()) == (threads, descriptors)


def test_check_stops_in_the_middle_of_a_big_file(tmp_path: Path) -> None:
    (tmp_path / "big").touch()
    os.truncate(tmp_path / "big", 100 << 20)
    threads = threading.active_count()
    calls = 0

    def stop_later() -> None:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise Cancelled("enough")

    report = Report()
    with closing(walk(WalkRoot(Root("", tmp_path)), report, (), go_on)) as entries, pytest.raises(Cancelled):
        list(written(entries, report, check=stop_later))
    assert calls == 6
    assert threading.active_count() == threads


def test_what_survey_counts_is_what_the_report_counted(tree: Path) -> None:
    data, report = archive_of(tree)
    survey = take_survey(ArchiveReader(io.BytesIO(data)).items(), WIDE)
    assert (survey.files, survey.directories, survey.links) == (
        report.files,
        report.directories,
        report.links,
    )


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@contextmanager
def _breaking_after(sound_bytes: int) -> Iterator[int]:
    """A descriptor that gives so many bytes and then an error, as a dying disk does."""
    near, far = socket.socketpair()
    near.send(b"never read: closing the far end then resets the connection")

    def feed() -> None:
        with far, suppress(BrokenPipeError):
            far.sendall(LOG[:sound_bytes].ljust(sound_bytes, b"."))

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield near.fileno()
    finally:
        near.close()
        thread.join()
