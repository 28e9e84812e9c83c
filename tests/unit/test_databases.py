"""Databases that programs write to: a backup has each as it was at one moment."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.base.errors import Cancelled
from agent.base.roots import Root
from agent.formats.entries import FILE
from agent.formats.walk_report import Report
from agent.save.database_copier import IN_USE
from agent.save.databases import DatabaseOrder, database_copies
from agent.save.walk import WalkRoot, walk

MODES = pytest.mark.parametrize("mode", ["wal", "delete", "persist", "truncate"])
_WRITER = """
import sqlite3, sys, time
path, mode = sys.argv[1:]
db = sqlite3.connect(path, isolation_level=None)
db.execute(f"PRAGMA journal_mode = {mode}")
db.execute("PRAGMA synchronous = OFF")
db.execute("CREATE TABLE log (number INTEGER PRIMARY KEY, text TEXT)")
print("ready", flush=True)
number = 0
while True:
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO log VALUES (?, hex(randomblob(2000)))", (number,))
    db.execute("INSERT INTO log VALUES (?, 'second')", (number + 1,))
    db.execute("COMMIT")
    number += 2
    time.sleep(0.002)
    if number == 20:
        print("busy", flush=True)
"""


@dataclass
class Saved:
    """Return the entries of a walk through a directory."""

    contents: dict[str, bytes] = field(default_factory=dict)
    owners: set[int] = field(default_factory=set)
    reasons: dict[str, int] = field(default_factory=dict)


def save(directory: Path, work: Path, lock_time_s: float = 5.0) -> Saved:
    saved, report = Saved(), Report()
    with database_copies(DatabaseOrder(work, lock_time_s, 0), lambda: None) as copies:
        for entry in walk(WalkRoot(Root("", directory)), report, (), lambda: None, copies):
            if entry.kind is not FILE:
                continue
            saved.contents[entry.name] = os.pread(entry.fd, entry.stat.st_size + 1, 0)
            saved.owners.add(os.fstat(entry.fd).st_uid)
            assert os.fstat(entry.fd).st_mtime_ns == entry.stat.st_mtime_ns  # as a format compares
    assert not work.exists()
    saved.reasons = report.reasons
    return saved


@contextmanager
def writing(path: Path, mode: str) -> Iterator[None]:
    """Run a program that commits two rows a few hundred times a second."""
    arguments = [sys.executable, "-c", _WRITER, os.fspath(path), mode]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        assert program.stdout.readline() == "ready\n"
        assert program.stdout.readline() == "busy\n"
        try:
            yield
        finally:
            program.kill()


def rows(content: bytes, at: Path) -> list[int]:
    """Return the numbers in a copy that is sound."""
    at.write_bytes(content)
    with closing(sqlite3.connect(at)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [number for (number,) in database.execute("SELECT number FROM log ORDER BY number")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def made(path: Path, mode: str = "delete") -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute(f"PRAGMA journal_mode = {mode}")
    database.execute("CREATE TABLE log (number INTEGER PRIMARY KEY, text TEXT)")
    database.execute("INSERT INTO log VALUES (1, 'one')")
    return database


@MODES
def test_a_database_is_saved_as_it_was_at_one_moment(data: Path, tmp_path: Path, mode: str) -> None:
    """Its bytes, read while a program commits, are of many moments, or lack what is in the log."""
    before = -1
    with writing(data / "log.db", mode):
        for round_ in range(10):
            saved = save(data, tmp_path / "work")
            assert saved.reasons == {}
            assert sorted(saved.contents) == ["log.db"]  # nothing beside it is needed
            found = rows(saved.contents["log.db"], tmp_path / f"{round_}.db")
            assert found == list(range(len(found)))  # a prefix of the commits
            assert len(found) % 2 == 0  # whole ones
            assert len(found) >= before
            before = len(found)


@MODES
def test_a_database_that_nobody_uses_stays_byte_for_byte(data: Path, tmp_path: Path, mode: str) -> None:
    made(data / "log.db", mode).close()
    files = {path.name: path.read_bytes() for path in data.iterdir()}
    saved = save(data, tmp_path / "work")
    assert saved.contents["log.db"] == files["log.db"]
    assert saved.reasons == {}
    assert {path.name for path in data.iterdir()} == set(files)  # SQLite has made nothing there


def test_a_database_that_stays_locked_is_saved_as_it_is_found(data: Path, tmp_path: Path) -> None:
    """A program that holds its lock for hours must not hold up the backup; the report says what happened."""
    with closing(made(data / "log.db")) as database:
        database.execute("BEGIN EXCLUSIVE")
        database.execute("INSERT INTO log VALUES (2, 'two')")
        saved = save(data, tmp_path / "work", lock_time_s=0.05)
    assert saved.reasons == {IN_USE: 1}
    assert sorted(saved.contents) == ["log.db", "log.db-journal"]


def test_the_log_that_a_killed_program_left_is_in_the_copy(data: Path, tmp_path: Path) -> None:
    with writing(data / "log.db", "wal"):
        pass
    assert (data / "log.db-wal").stat().st_size
    found = rows(save(data, tmp_path / "work").contents["log.db"], tmp_path / "copy.db")
    assert found == list(range(len(found)))
    assert len(found) >= 20


def test_the_journal_that_a_killed_program_left_stays_with_its_database(data: Path, tmp_path: Path) -> None:
    """Only who may write can roll back: both are saved, and the first program after a restore does it."""
    made(data / "log.db").close()
    (data / "log.db-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(600))
    saved = save(data, tmp_path / "work")
    assert sorted(saved.contents) == ["log.db", "log.db-journal"]


def test_a_copy_is_made_by_the_owner_of_the_database(data: Path, tmp_path: Path) -> None:
    """A hostile database that takes over SQLite has the rights of the one who made it, and no more."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        parent.chmod(parent.stat().st_mode | 0o011)
    database = made(data / "log.db")
    with closing(database):
        for path in (data, data / "log.db"):
            os.chown(path, 4711, 4711)
        saved = save(data, tmp_path / "work")
    assert saved.owners == {4711}
    assert rows(saved.contents["log.db"], tmp_path / "copy.db") == [1]


@pytest.mark.parametrize("side", ["-wal", "-journal"])
def test_a_planted_link_beside_a_database_leads_nowhere(data: Path, tmp_path: Path, side: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret" * 1000)
    made(data / "log.db", "wal").close()
    (data / f"log.db{side}").symlink_to(tmp_path / "secret")
    assert not any(b"secret" in content for content in save(data, tmp_path / "work").contents.values())


def test_a_planted_log_of_another_database_is_not_read(data: Path, tmp_path: Path) -> None:
    """A link in place of the log leads to one that its owner may read, but whoever made the link may not."""
    secret = made(tmp_path / "secret.db", "wal")
    with closing(secret):
        secret.execute("INSERT INTO log VALUES (7, 'a secret of another')")
        made(data / "log.db", "wal").close()
        (data / "log.db-wal").symlink_to(tmp_path / "secret.db-wal")
        contents = save(data, tmp_path / "work").contents
    assert not any(b"a secret" in content for content in contents.values())


@pytest.mark.parametrize("size_bytes", [100, 4096, 1 << 20])
def test_rubbish_that_begins_as_a_database_is_saved_as_it_is(
    data: Path, tmp_path: Path, size_bytes: int
) -> None:
    rubbish = b"SQLite format 3\0" + os.urandom(size_bytes - 16)
    (data / "log.db").write_bytes(rubbish)
    (data / "log.db-wal").write_bytes(os.urandom(size_bytes))
    saved = save(data, tmp_path / "work")
    assert saved.contents["log.db"] == rubbish
    assert saved.reasons in ({}, {IN_USE: 1})


def test_a_file_that_is_no_database_keeps_the_files_beside_it(data: Path, tmp_path: Path) -> None:
    for name in ("notes", "notes-wal", "notes-journal", "alone-shm"):
        (data / name).write_text(name)
    assert len(save(data, tmp_path / "work").contents) == 4


def test_a_cancel_ends_a_copy_that_waits_for_a_lock(data: Path, tmp_path: Path) -> None:
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked > 3:
            raise Cancelled("cancelled")

    with closing(made(data / "log.db")) as database:
        database.execute("BEGIN EXCLUSIVE")
        with (
            pytest.raises(Cancelled),
            database_copies(DatabaseOrder(tmp_path / "work", 600, 0), check) as copies,
        ):
            list(walk(WalkRoot(Root("", data)), Report(), (), check, copies))
    assert not (tmp_path / "work").exists()


def test_without_room_for_a_copy_the_backup_goes_on(data: Path, tmp_path: Path) -> None:
    with closing(made(data / "log.db", "wal")):
        order = DatabaseOrder(tmp_path / "work", 1, 1 << 60)
        report = Report()
        with database_copies(order, lambda: None) as copies:
            names = [entry.name for entry in walk(WalkRoot(Root("", data)), report, (), lambda: None, copies)]
    assert sorted(names) == ["log.db", "log.db-shm", "log.db-wal"]
    assert report.reasons == {"no room for a copy of the database": 1}


def test_a_directory_that_is_swapped_meanwhile_leads_nowhere(data: Path, tmp_path: Path) -> None:
    """A user who may write above a database must not choose the file that the agent reads as root."""
    elsewhere = tmp_path / "elsewhere"
    for directory, text in ((data / "sub", "own"), (elsewhere, "foreign")):
        directory.mkdir()
        with closing(made(directory / "log.db", "wal")) as database:
            database.execute("INSERT INTO log VALUES (2, ?)", (text,))
    (data / "sub" / "a").touch()
    swapped = False
    with database_copies(DatabaseOrder(tmp_path / "work", 5.0, 0), lambda: None) as copies:
        for entry in walk(WalkRoot(Root("", data)), Report(), (), lambda: None, copies):
            if entry.kind is FILE and not swapped:
                (data / "sub").rename(data / "was")
                (data / "sub").symlink_to(elsewhere)
                swapped = True
            if entry.name == "sub/log.db":
                content = os.pread(entry.fd, entry.stat.st_size, 0)
    assert b"own" in content
    assert b"foreign" not in content
