"""The device's memory of its last snapshot: nothing is read or sent twice, and no change is missed."""

import errno
import mmap
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.base.errors import (
    SourceChanged,
)
from agent.base.roots import Root
from agent.formats import entries
from agent.formats.entries import Entry
from agent.formats.repository.content import Content, Contents
from agent.formats.repository.objects import Kind
from agent.formats.repository.state import ROOT, ROW_BYTES, Known, Row, State
from tests.support.real_disks import real_disk
from tests.support.repositories import CONTENT, Device, is_as_it_was, small_device, source
from tests.support.trees import Dir, File, make_tree
from tests.support.waiting import wait_until


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return small_device(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"no database", b"SQLite format 3\0" + b"x" * 5000])
def test_a_damaged_state_is_made_again(device: Device, damage: bytes) -> None:
    """It is a cache."""
    device.save()
    for path in [*device.state.glob("*.state"), *device.state.glob("*.pending")]:
        path.write_bytes(damage)
    assert device.save().changes.added_bytes < 10_000
    device.check()


def test_unchanged_files_are_not_read(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading everything every night wears out a cheap disk, and takes hours."""
    device.save()

    def refuse(_fd: int, _buffers: object) -> int:
        raise AssertionError("a file was read")

    monkeypatch.setattr(os, "readv", refuse)
    assert device.save().changes.files_unmodified == 2


def test_a_database_with_a_log_is_read_though_its_file_stands_still(tmp_path: Path) -> None:
    """SQLite writes to the log beside the database: size and time of the main file tell nothing."""
    directory = make_tree(tmp_path / "source", {})
    database = sqlite3.connect(directory / "db")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE t (x)")
    database.commit()
    device = Device.at(tmp_path, Root("", directory))
    device.save()
    again = device.save()
    assert again.changes.files_changed == 1
    database.close()
    # A file as young as a tick of the kernel's clock is read once more.
    made_ns = (directory / "db").stat().st_ctime_ns
    wait_until(lambda: time.time_ns() - made_ns > 20_000_000, what="the next ticks of the clock")
    device.save()
    assert device.save().changes.files_changed == 0


def test_strict_jobs_leave_no_snapshot_when_something_was_skipped(device: Device) -> None:
    os.mkfifo(source(device) / "pipe")
    device.options["strict"] = True
    with pytest.raises(SourceChanged):
        device.save()
    assert not device.objects.count(Kind.SNAPSHOT)


def test_each_choice_of_roots_has_a_last_snapshot_of_its_own(device: Device, tmp_path: Path) -> None:
    """A backup of one data set between two of everything must not make the device forget the rest."""
    every = device.roots
    device.save()
    make_tree(tmp_path / "other", {"x": File(b"x")})
    device.roots = (Root("set", tmp_path / "other"),)
    device.save()
    device.roots = every
    assert device.save().changes.added_bytes < 10_000
    device.check()


def test_a_snapshot_that_stands_is_a_success_though_the_disk_is_full(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The state is older then: the next backup sends more, and is right."""
    device.save()
    (source(device) / "new").write_bytes(os.urandom(100_000))

    def full(_state: State) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(State, "commit", full)
        saved = device.save()
    assert "did not keep" in " ".join(saved.changes.notes)
    (source(device) / "new").rename(source(device) / "newer")
    device.save()
    is_as_it_was(device, tmp_path / "restored")


def test_a_renamed_file_is_not_sent_again(device: Device) -> None:
    device.save()
    (source(device) / "d").rename(source(device) / "e")
    (source(device) / "e/b").rename(source(device) / "c")
    assert device.save().changes.added_bytes < 10_000
    device.check()


Change = Callable[[Path], None]


@pytest.mark.parametrize(
    "change",
    [
        lambda top: (top / "d/b").rename(top / "b"),
        lambda top: ((top / "a").unlink(), (top / "a").mkdir()),
        lambda top: ((top / "d/b").unlink(), (top / "d").rmdir(), (top / "d").write_bytes(b"file")),
        lambda top: ((top / "d/b").unlink(), (top / "d").rmdir()),
        lambda top: (top / "a").chmod(0o600),
        lambda top: (top / "a").write_bytes(b""),
        lambda top: ((top / "a").unlink(), (top / "a").symlink_to("d")),
    ],
)
def test_any_change_is_in_the_next_snapshot(device: Device, change: Change, tmp_path: Path) -> None:
    device.save()
    change(source(device))
    device.save()
    is_as_it_was(device, tmp_path / "restored")
    assert device.save().changes.added_bytes < 5000  # the directory above has changed, too


def test_a_file_that_changed_at_the_moment_of_the_backup_is_read_again(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's clock stands still for some milliseconds: a second change leaves no trace."""
    with monkeypatch.context() as patch:
        patch.setattr(entries, "TICK_NS", 10**18)
        device.save()
    assert device.save().changes.files_changed == 2
    assert device.save().changes.files_unmodified == 2


def test_a_young_file_is_read_again_though_the_time_of_its_snapshot_is_ahead(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """duplicati#656: after a clock was ahead, each snapshot is a second later than the last one."""
    device.save(when=datetime.now(UTC) + timedelta(days=10))
    device.save()
    for path in device.state.glob("*.state"):
        path.unlink()
    monkeypatch.setattr(entries, "TICK_NS", 3600 * 10**9)
    monkeypatch.setattr(device, "let_settle", lambda: None)
    assert device.save().changes.files_changed == 2


def test_a_change_within_a_second_is_seen_where_time_stamps_are_whole_seconds(tmp_path: Path) -> None:
    """The second snapshot took the file for unmodified, and so did all later ones."""
    with real_disk("small inodes", tmp_path / "disk") as disk:
        device = Device.at(tmp_path, Root("", make_tree(disk.path / "data", {})))
        file = disk.path / "data/file"

        def changed_in_the_second_of_the_snapshot() -> bool:
            file.write_bytes(b"first")
            before = file.stat()
            device.save()
            file.write_bytes(b"later")
            return file.stat().st_ctime_ns == before.st_ctime_ns

        wait_until(changed_in_the_second_of_the_snapshot, what="a snapshot within a second")
        device.save()
        is_as_it_was(device, tmp_path / "restored")


def test_a_file_that_was_young_when_it_was_opened_is_read_again_however_long_the_read_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """borg#3536: its last write came within the tick, and at the end of the read it was old."""
    device = Device.at(tmp_path, Root("", make_tree(tmp_path / "source", {"file": File(CONTENT)})))
    read, later_ns = Contents.read, time.time_ns() + 3600 * 10**9
    with monkeypatch.context() as patch:

        def slowly(contents: Contents, entry: Entry, known: Known | None) -> Content | None:
            content = read(contents, entry, known)
            patch.setattr(time, "time_ns", lambda: later_ns)
            return content

        patch.setattr(entries, "TICK_NS", 600 * 10**9)
        patch.setattr(Contents, "read", slowly)
        device.save()
    assert device.save().changes.files_changed == 1


def test_a_change_through_a_map_of_memory_is_seen_by_the_next_snapshot(tmp_path: Path) -> None:
    """rrdtool-1.x#193, #603: the second change of a page left the time stamps as they were."""
    with real_disk("ext4", tmp_path / "disk") as disk:
        device = Device.at(tmp_path, Root("", make_tree(disk.path / "data", {"rrd": File(b"0" * 4096)})))
        with (disk.path / "data/rrd").open("r+b") as file, mmap.mmap(file.fileno(), 4096) as memory:
            memory[0:5] = b"first"
            device.save()
            memory[0:5] = b"later"
            device.save()
            is_as_it_was(device, tmp_path / "restored")


def test_files_that_a_device_without_a_clock_wrote_are_read_again() -> None:
    """woof-CE#4109: each boot is in 1970, and its files get the time stamps of those of the boot before."""
    boot_ns = 1_000_000_000 * 5
    assert entries.may_change_unseen(boot_ns, boot_ns, time.time_ns())
    assert entries.may_change_unseen(boot_ns + 1, boot_ns + 4_000_000, time.time_ns())
    assert not entries.may_change_unseen(0, time.time_ns() - 10**10, time.time_ns())  # ostree's files


def test_a_link_and_a_directory_that_change_within_a_second_are_seen_there_too(tmp_path: Path) -> None:
    """A new link may get the inode number of the old one; only the ctime tells of an attribute."""
    with real_disk("small inodes", tmp_path / "disk") as disk:
        data = make_tree(disk.path / "data", {"directory": Dir()})
        device = Device.at(tmp_path, Root("", data))

        def put(value: str) -> list[tuple[int, int]]:
            (data / "link").unlink(missing_ok=True)
            (data / "link").symlink_to(value)
            os.setxattr(data / "directory", "user.value", value.encode())
            statuses = (data / "link").lstat(), (data / "directory").stat()
            return [(status.st_ino, status.st_ctime_ns) for status in statuses]

        def changed_in_the_second_of_the_snapshot() -> bool:
            before = put("first")
            device.save()
            return put("later") == before

        wait_until(changed_in_the_second_of_the_snapshot, what="a snapshot within a second")
        device.save()
        found = device.restored(tmp_path / "restored")
        assert os.readlink(found / "link") == "later"
        assert os.getxattr(found / "directory", "user.value") == b"later"


def test_a_file_that_grows_while_it_is_read_is_told_and_read_again(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is saved as far as it went when it was opened."""
    log, readv = source(device) / "log", os.readv
    log.write_bytes(CONTENT)

    def growing(fd: int, buffers: list[memoryview]) -> int:
        if os.path.samestat(os.fstat(fd), log.stat()) and log.stat().st_size == len(CONTENT):
            with log.open("ab") as file:
                file.write(b"more")
        return readv(fd, buffers)

    with monkeypatch.context() as patch:
        patch.setattr(os, "readv", growing)
        device.save()
    assert device.report.reasons == {"changed while read": 1}
    assert (device.restored(tmp_path / "first") / "log").read_bytes() == CONTENT
    device.save()
    is_as_it_was(device, tmp_path / "restored")


def test_a_file_that_cannot_be_read_is_told_and_comes_back(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A bad sector must not keep the rest from being saved, nor the file from being saved later."""
    device.save()
    (source(device) / "d/b").write_bytes(CONTENT + b"more")

    def broken(_fd: int, _buffers: object) -> int:
        raise OSError(errno.EIO, "bad sector")

    with monkeypatch.context() as patch:
        patch.setattr(os, "readv", broken)
        device.save()
    assert device.report.reasons == {"unreadable": 1}
    assert not (device.restored(tmp_path / "first") / "d/b").exists()
    assert device.save().changes.files_new == 1
    is_as_it_was(device, tmp_path / "restored")


CONTENTS = st.integers(0, 5).flatmap(
    lambda half_parts: st.integers(0, 2).map(
        lambda more: os.urandom((half_parts * ROW_BYTES // 2 + more * 32) // 32 * 32)
    )
)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from([b"a", b"ab", b"b"]), CONTENTS), max_size=8))
def test_the_ids_of_large_files_come_back_whole(kept: list[tuple[bytes, bytes]]) -> None:
    """They are in several rows, of which none may stay when a file becomes shorter."""
    model: dict[bytes, bytes] = {}
    with TemporaryDirectory() as directory, closing(State(Path(directory) / "state", lambda: None)) as state:
        for name, content in kept:
            if name in model:
                known = state.entry(ROOT, name)
                assert known
                state.make_way(ROOT, name, known)
            state.keep([Row(ROOT, name, b"signature", content, 0, 1)])
            model[name] = content
            found = {each: state.entry(ROOT, each) for each in model}
            assert {each: known.content for each, known in found.items() if known} == model
            assert list(state.names(ROOT)) == sorted(model)
            at_once = state.entries(ROOT)
            assert at_once is None or at_once == found
