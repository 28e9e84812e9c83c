"""Databases that a program writes to: the installed agent saves and restores each as it was at one moment."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.backend import Backend
from tests.support.waiting import wait_until

from .conftest import Started

COMMITS_PER_S = 200
_WRITER = """
import sqlite3, sys, time
path, mode, megabytes, per_s = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
db = sqlite3.connect(path, isolation_level=None, timeout=60)
db.execute(f"PRAGMA journal_mode = {mode}")
db.execute("PRAGMA synchronous = NORMAL")
db.execute("CREATE TABLE ballast (number INTEGER PRIMARY KEY, content BLOB)")
db.execute("CREATE TABLE commits (number INTEGER PRIMARY KEY)")
db.execute("CREATE TABLE total (last INTEGER)")
db.execute("INSERT INTO total VALUES (0)")
for number in range(megabytes):
    db.execute("INSERT INTO ballast VALUES (?, randomblob(1 << 20))", (number,))
began_s, number = time.monotonic(), 0
while True:
    number += 1
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO commits VALUES (?)", (number,))
    db.execute("UPDATE ballast SET content = randomblob(1 << 20) WHERE number = ? AND ? % 50 = 0",
               (number % max(megabytes, 1), number))
    db.execute("UPDATE total SET last = ?", (number,))
    db.execute("COMMIT")
    time.sleep(max(0, began_s + number / per_s - time.monotonic()))
"""


@contextmanager
def writing(path: Path, mode: str, megabytes: int) -> Iterator[None]:
    arguments = [sys.executable, "-c", _WRITER, str(path), mode, str(megabytes), str(COMMITS_PER_S)]
    with subprocess.Popen(arguments) as program:
        try:
            wait_until(lambda: path.exists() and last(path) > 10, what="commits", timeout_s=300)
            yield
            assert program.poll() is None, "the program has ended"
        finally:
            program.kill()


def last(path: Path) -> int:
    """The number of the last commit; 0 while there is none."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)) as database:
            return int(database.execute("SELECT last FROM total").fetchone()[0])
    except TypeError:
        return 0
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return 0


def check_prefix(path: Path, least: int, most: int) -> None:
    """Check that a restored database is sound, and has all commits until one between these two."""
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        count, number = database.execute("SELECT count(*), max(number) FROM commits").fetchone()
        (total,) = database.execute("SELECT last FROM total").fetchone()
    assert count == number == total
    assert least <= total <= most


def saved_and_restored(agent: AgentProcess, backend: Backend, mode: str, megabytes: int, rounds: int) -> None:
    """Save a database in use and restore it beside, this often; print how often it came back as it was."""
    database = agent.data / "app.db"
    target = agent.data / "restored"
    good = 0
    with writing(database, mode, megabytes):
        for number in range(rounds):
            name = {"storage.provider": "local", "local.name": f"{mode}.zip"}
            before = last(database)
            paths = {"backup.paths": "app.db"}
            made = backend.run("backup", f"{mode}-{number}", name | paths)
            assert (made["state"], made["message"]) == ("BACKUP_FINISHED", "")
            after = last(database)
            back = backend.run("restore", f"{mode}-{number}r", name | {"backup.dir": str(target)})
            assert back["state"] == "RESTORE_FINISHED", back
            assert sorted(path.name for path in target.iterdir()) == ["app.db"]
            check_prefix(target / "app.db", before, after)
            shutil.rmtree(target)
            good += 1
        commits = last(database)
    print(f"\n{mode}, {megabytes} MB: {good} of {rounds} restored databases are sound, {commits} commits")


MODES = pytest.mark.parametrize("mode", ["wal", "delete"])


@MODES
def test_a_database_in_use_comes_back_as_at_one_moment(started: Started, backend: Backend, mode: str) -> None:
    agent = started(sqlite_lockTime="1m")
    saved_and_restored(agent, backend, mode, megabytes=2, rounds=5)


@pytest.mark.large
@pytest.mark.timeout(3600)
@MODES
def test_a_large_database_in_use_comes_back_as_at_one_moment_a_hundred_times(
    started: Started, backend: Backend, mode: str
) -> None:
    """200 MB, 200 commits a second. A slow disk needs more than the usual 2 s for a copy under the lock."""
    agent = started(sqlite_lockTime="1m", archive_level="fast")
    saved_and_restored(agent, backend, mode, megabytes=200, rounds=50)
