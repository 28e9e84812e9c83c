"""A journal that cannot be used: refused, left alone, or set aside, whatever bytes it has."""

import os
import sqlite3
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agent.base.job import Job, Kind
from agent.faces.ditto.redelivery import Redeliveries
from agent.journal import Journal
from agent.journal.commands import CommandId
from agent.journal.intact import JournalBroken
from agent.journal.schema import NewerJournal
from tests.support.filled_journal import START, fill, fill_new

ANY_BYTES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed journal with something in it."""
    path = tmp_path_factory.mktemp("good") / "journal.db"
    fill_new(path)
    return path


def read_everything(journal: Journal) -> None:
    """As the agent does at its start."""
    journal.jobs.unfinished()
    journal.outbox.kept()
    journal.outbox.last_values()
    Redeliveries(journal, 60).judge(CommandId("d", "r", "s", "c"), b"p", short=False, dup=False)
    checkpoint = journal.checkpoint("X#1")
    dict(checkpoint)
    checkpoint.close()


def test_a_newer_journal_is_refused_and_left_alone(path: Path) -> None:
    """A downgrade must not destroy what the newer release knows."""
    fill_new(path)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(NewerJournal, match="version 99") as caught:
        Journal(path)
    assert "install the release that wrote it" in str(caught.value)
    assert path.read_bytes() == before


def test_a_corrupt_journal_is_set_aside_with_an_error_line(path: Path) -> None:
    """The agent starts with a new journal, and keeps the corrupt file for an administrator to examine."""
    path.write_bytes(b"no database, but some text that is long enough to look like one" * 100)
    with capture_logs() as lines:
        journal = Journal(path)
    fill(journal)
    journal.close()
    (line,) = [line for line in lines if line["log_level"] == "error"]
    aside = Path(line["set_aside"])
    assert line["event"] == "journal corrupt, new one started"
    assert aside.parent == path.parent
    assert aside.read_bytes().startswith(b"no database")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def opened(path: Path, content: bytes) -> Journal:
    for file in path.parent.iterdir():
        file.unlink()
    path.write_bytes(content)
    return Journal(path)


@ANY_BYTES
@given(random_bytes=st.binary(max_size=5000))
def test_any_bytes_leave_a_usable_journal(path: Path, random_bytes: bytes) -> None:
    journal = opened(path, random_bytes)
    fill(journal)
    read_everything(journal)
    journal.close()


@ANY_BYTES
@given(length=st.integers(0, 70_000))
def test_a_truncated_journal_leaves_a_usable_one(path: Path, good: Path, length: int) -> None:
    """A file system may have lost its end in a power cut."""
    check_usable(path, good.read_bytes()[:length])


@pytest.mark.parametrize(
    ("offset", "bit"),
    [(18, 0), (18, 3), (19, 3), (40, 0), (44, 2), (47, 0), (60, 7), (63, 3)],
    ids=str,
)
def test_a_flipped_bit_in_the_header_leaves_a_usable_journal(
    path: Path, good: Path, offset: int, bit: int
) -> None:
    """Write and read version, schema cookie and format, our own version (SQLite file format 1.3)."""
    spoilt = bytearray(good.read_bytes())
    spoilt[offset] ^= 1 << bit
    check_usable(path, bytes(spoilt))


@ANY_BYTES
@given(flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), min_size=1, max_size=20))
def test_flipped_bytes_anywhere_leave_a_usable_journal(
    path: Path, good: Path, flips: list[tuple[int, int]]
) -> None:
    """Flash goes bad in the middle of names, statements and values as well as in the tree itself."""
    spoilt = bytearray(good.read_bytes())
    used = [offset for offset in range(100, len(spoilt)) if spoilt[offset]]
    for destination, mask in flips:
        spoilt[used[destination % len(used)]] ^= mask
    check_usable(path, bytes(spoilt))


def check_usable(path: Path, content: bytes) -> None:
    """Open a journal with this content, read all of it, and write as the next command does."""
    journal = opened(path, content)
    try:
        read_everything(journal)
        with journal.unit():
            job = Job(os.urandom(8).hex(), Kind.BACKUP, "c", START)
            journal.jobs.started(job, Path("/data"), [])
            journal.outbox.keep("e", b'{"value":{}}', "lastOperation")
            journal.jobs.ended(job.finished(START))
    finally:
        journal.close()


def test_a_journal_on_a_disk_that_refuses_is_not_taken_for_corrupt(path: Path) -> None:
    """Set aside, a good journal would be forgotten for a wrong permission."""
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        Journal(path)
    assert path.is_dir()


def test_a_log_that_is_cut_during_a_unit_is_noticed_afterwards(path: Path) -> None:
    """SQLite writes on where it was: the log is as long as before, and its beginning is a hole."""
    journal = Journal(path)
    fill(journal)
    with journal.unit():
        journal.outbox.keep("topic", b"payload", "")
        os.truncate(f"{path}-wal", 0)
    assert Path(f"{path}-wal").stat().st_size > 32
    with pytest.raises(JournalBroken, match="db-wal' was cut or overwritten"):
        journal.check()
    journal.close()
