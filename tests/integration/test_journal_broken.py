"""Somebody breaks the journal or moves the storage under a running agent: it says so, ends, and recovers."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.backend import Backend
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

LOCAL = {"storage.provider": "local"}


def overwrite(storage: Path) -> None:
    """Everything after the first page, as a disk that goes bad does."""
    journal = storage / "journal.db"
    with closing(sqlite3.connect(journal)) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")  # else all of it is in the log
    with journal.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (journal.stat().st_size - 4096))


def empty(storage: Path) -> None:
    os.truncate(storage / "journal.db", 0)


def replace(storage: Path) -> None:
    shutil.copy2(storage / "journal.db", storage / "copy")
    (storage / "copy").rename(storage / "journal.db")


def remove_log(storage: Path) -> None:
    (storage / "journal.db-wal").unlink()


def empty_log(storage: Path) -> None:
    os.truncate(storage / "journal.db-wal", 0)


def remove_all(storage: Path) -> None:
    """`rm -rf storage/*`"""
    for path in storage.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def move(storage: Path) -> None:
    storage.rename(storage.with_name("elsewhere"))


BREAKAGES = [
    (overwrite, "the journal '{}/journal.db' is damaged: "),
    (empty, "the journal '{}/journal.db' was cut"),
    (replace, "the journal '{}/journal.db' was moved, removed or replaced"),
    (remove_log, "the journal's log '{}/journal.db-wal' was moved, removed or replaced"),
    (empty_log, "the journal's log '{}/journal.db-wal' was cut"),
    (remove_all, "the journal '{}/journal.db' was moved, removed or replaced"),
    (move, "the storage '{}' was moved, removed or replaced"),
]


@pytest.fixture
def watched(device: AgentProcess, backend: Backend) -> AgentProcess:
    """An agent that looks at itself every ten seconds, with a backup in its journal."""
    device.environment["WATCHDOG_USEC"] = "20000000"
    device.start()
    backend.announced()
    backend.run("backup", "before", LOCAL)
    return device


@pytest.mark.parametrize(("damage", "says"), BREAKAGES, ids=[each[0].__name__ for each in BREAKAGES])
def test_a_broken_journal_ends_the_agent_and_the_next_start_recovers(
    watched: AgentProcess, backend: Backend, damage: Callable[[Path], None], says: str
) -> None:
    """Otherwise every command is refused, or its job is forgotten with the next start."""
    damage(watched.storage)
    backend.send("backup", {"correlationID": "after", "options": LOCAL})
    assert watched.process
    assert watched.process.wait(60) == 1
    (line,) = [line for line in watched.log_lines() if line["level"] == "critical"]
    assert line["event"] == "journal not usable, exiting"
    assert line["reason"].startswith(says.format(watched.storage))
    backend.messages.clear()
    watched.start()
    backend.announced()
    again = {"correlationID": "again", "options": LOCAL}
    # The command that was not acknowledged comes again, and runs first.
    wait_until(lambda: backend.ask("backup", again)["status"] == 204, what="a backup to be accepted")
    assert backend.ended("again")["state"] == "BACKUP_FINISHED"
    assert backend.run("restore", "back", LOCAL)["state"] == "RESTORE_FINISHED"


def test_an_agent_that_does_nothing_notices_too(watched: AgentProcess) -> None:
    remove_all(watched.storage)
    assert watched.process
    assert watched.process.wait(60) == 1


def test_what_was_kept_is_not_lost_with_the_name_of_the_log(watched: AgentProcess, backend: Backend) -> None:
    """The log has what was committed last; the agent still holds it, and puts it into the journal."""
    remove_log(watched.storage)
    assert watched.process
    assert watched.process.wait(60) == 1
    with closing(sqlite3.connect(watched.storage / "journal.db")) as db:
        assert db.execute("SELECT correlation_id, state FROM jobs").fetchall() == [("before", "FINISHED")]


def test_the_log_of_a_journal_that_is_gone_is_not_taken_for_that_of_a_new_one(
    watched: AgentProcess, backend: Backend
) -> None:
    """Somebody resets the journal after a crash and forgets its log: old pages must not come back."""
    watched.kill()
    (watched.storage / "journal.db").unlink()
    backend.messages.clear()
    watched.start()
    backend.announced()
    assert backend.run("restore", "back", LOCAL)["state"] == "RESTORE_FINISHED"
    with closing(sqlite3.connect(watched.storage / "journal.db")) as db:
        assert db.execute("SELECT correlation_id FROM jobs").fetchall() == [("back",)]
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
