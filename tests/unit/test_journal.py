"""The journal survives a power cut, and never holds a secret."""

import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from agent.base.job import COMMITTED, WORKING, Job, Kind
from agent.faces.ditto.redelivery import Redeliveries, Repeated
from agent.journal import KEPT_JOBS, Journal
from agent.journal.commands import CommandId
from tests.support.filled_journal import DIRECTORY, JOB, START, fill, fill_new
from tests.support.journals import opened_connections, sql


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal(path)
    yield journal
    journal.close()


def test_what_is_written_is_there_after_reopening(path: Path) -> None:
    fill_new(path)
    journal = Journal(path)
    (unfinished,) = journal.jobs.unfinished()
    assert (unfinished.job, unfinished.directory, unfinished.made) == (JOB, DIRECTORY, [DIRECTORY])
    assert [row[1:] for row in journal.outbox.kept()] == [
        ("e", b'{"value":{"state":"SUCCESS"}}', "lastUpload")
    ]
    assert journal.outbox.last_values() == {"lastUpload": {"state": "UPLOADING"}}
    journal.close()


def test_what_is_committed_survives_a_kill(path: Path) -> None:
    """Also without any orderly end: nothing is left to an exit handler."""
    script = (
        "import os, sys; from pathlib import Path; from agent.journal import Journal;"
        " journal = Journal(Path(sys.argv[1])); journal.outbox.keep('e', b'1', 'p'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False, timeout=60)
    journal = Journal(path)
    assert [row[1:] for row in journal.outbox.kept()] == [("e", b"1", "p")]
    journal.close()


def test_every_commit_is_synced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WAL with `synchronous=FULL`; with NORMAL a power cut takes the last transactions back."""
    connections = opened_connections(monkeypatch)
    with closing(Journal(path)):
        assert connections[0].execute("PRAGMA synchronous").fetchall() == [(2,)]
        assert connections[0].execute("PRAGMA journal_mode").fetchall() == [("wal",)]


def test_only_the_agent_s_user_can_read_it(journal: Journal, path: Path) -> None:
    fill(journal)
    files = sorted(path.parent.glob("journal.db*"))
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_transaction_is_all_or_nothing(journal: Journal) -> None:
    with suppress(KeyError), journal.unit():
        journal.jobs.started(JOB, Path("/data"), [])
        journal.outbox.keep("e", b"1", "p")
        raise KeyError
    assert journal.jobs.unfinished() == []
    assert journal.outbox.kept() == []
    journal.outbox.keep("e", b"2", "p")
    assert len(journal.outbox.kept()) == 1


def test_nothing_of_a_transaction_is_seen_before_its_end(journal: Journal, path: Path) -> None:
    """The command, its job and its first state are in the journal together, or not at all."""
    other = sqlite3.connect(path)
    with journal.unit():
        journal.outbox.keep("e", b"1", "p")
        journal.jobs.started(JOB, Path("/data"), [])
        assert other.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
    assert other.execute("SELECT count(*) FROM outbox").fetchone() == (1,)
    other.close()


def test_after_a_full_disk_the_journal_can_be_written_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed transaction must not stay open, or nothing would ever be committed again."""
    connections, journal = opened_connections(monkeypatch), Journal(path)
    (pages,) = connections[0].execute("PRAGMA page_count").fetchone()
    connections[0].execute(f"PRAGMA max_page_count={pages + 2}")
    with suppress(sqlite3.OperationalError), journal.unit():
        journal.outbox.keep("e", b"lost", "p")
        journal.outbox.keep("e", bytes(1000000), "p")
    assert journal.outbox.kept() == []
    journal.outbox.keep("e", b"2", "p")
    other = sqlite3.connect(journal.path)
    assert other.execute("SELECT payload FROM outbox").fetchall() == [(b"2",)]
    other.close()
    journal.close()


def test_a_remembered_text_is_random_and_stays(path: Path) -> None:
    """The client id has to be the same after a restart, and another one on every device."""
    texts = []
    for journal_path in (path, path, path.with_name("other.db")):
        journal = Journal(journal_path)
        texts.append(journal.notes.random("client_id"))
        assert journal.notes.random("client_id") == texts[-1] != journal.notes.random("digest_key")
        journal.close()
    assert texts[0] == texts[1] != texts[2]


def test_a_job_that_has_ended_is_not_unfinished(journal: Journal) -> None:
    journal.jobs.started(JOB, Path("/data"), [])
    journal.jobs.ended(JOB.finished(START + timedelta(seconds=1)))
    assert journal.jobs.unfinished() == []


def test_old_jobs_are_forgotten_and_running_ones_are_not(journal: Journal) -> None:
    """The journal does not grow for ever."""
    with journal.unit():
        journal.jobs.started(JOB, Path("/data"), [])
        for number in range(KEPT_JOBS + 5):
            job = Job(f"j{number}", Kind.BACKUP, "c", START)
            journal.jobs.started(job, Path("/data"), [])
            journal.jobs.ended(job.failed(START, "x", ""))
    assert sql(journal.path, "SELECT count(*) FROM jobs WHERE state != 'STARTED'") == [(KEPT_JOBS,)]
    assert [unfinished.job.id for unfinished in journal.jobs.unfinished()] == ["job-1"]


def test_a_setting_says_how_many_ended_jobs_are_kept(path: Path) -> None:
    journal = Journal(path, kept_jobs=3)
    for number in range(5):
        job = Job(f"j{number}", Kind.BACKUP, "c", START)
        journal.jobs.started(job, Path("/data"), [])
        journal.jobs.ended(job.failed(START, "x", ""))
    assert sql(path, "SELECT id FROM jobs ORDER BY id") == [("j2",), ("j3",), ("j4",)]
    journal.close()


@pytest.mark.slow
@pytest.mark.parametrize("text_bytes", [100, 5_000, 200_000])
def test_the_journal_stays_small_whatever_is_written_to_it(path: Path, text_bytes: int) -> None:
    """Ids may be as long as a command, and messages as long as the paths of a device."""
    journal = Journal(path)
    seen, long = Redeliveries(journal, 120), "x" * text_bytes
    largest_bytes = 0
    for number in range(1200 if text_bytes < 10_000 else 200):
        with journal.unit():
            job = Job(f"j{number}", Kind.RESTORE, long, START)
            journal.jobs.started(job, Path("/data"), [])
            command = CommandId("edge:device", f"{number}", "restore", long)
            seen.remember(command, b"", False, ("t", long.encode()), job.id)
            journal.jobs.ended(job.failed(START, "x", long))
        largest_bytes = max(largest_bytes, sum(file.stat().st_size for file in path.parent.iterdir()))
    assert largest_bytes < 16 << 20
    assert seen.judge(command, b"", short=False, dup=False) == Repeated("t", long.encode())
    journal.close()


def test_the_end_of_a_restore_forgets_all_but_what_is_still_to_be_tidied_up(journal: Journal) -> None:
    """How far a failed download came is of no use any more, and must not add up over the years."""
    journal.jobs.started(JOB, Path("/data"), [])
    mine, staged = journal.checkpoint(JOB.id), journal.checkpoint("staged-1")
    mine[COMMITTED], mine[WORKING], mine["https.validator"], staged["s3.upload_id"] = "yes", "[]", "e", "id"
    journal.jobs.ended(JOB.failed(START, "unreachable", ""))
    assert (dict(mine), dict(staged)) == ({WORKING: "[]"}, {"s3.upload_id": "id"})
    assert journal.checkpoints.abandoned() == []
    mine.close()
    staged.close()


def test_what_a_backup_left_at_a_provider_is_remembered_until_the_job_is_forgotten(journal: Journal) -> None:
    """An upload id is removed there first, or it costs money; but a place may never come back."""
    first = Job("first", Kind.BACKUP, "c", START)
    journal.jobs.started(first, Path("/data"), [])
    checkpoint = journal.checkpoint(first.id)
    checkpoint["s3.upload_id"] = "id"
    journal.jobs.ended(first.failed(START, "unreachable", ""))
    assert journal.checkpoints.abandoned() == ["first"]
    with journal.unit():
        for number in range(KEPT_JOBS):
            job = Job(f"j{number}", Kind.BACKUP, "c", START)
            journal.jobs.started(job, Path("/data"), [])
            journal.jobs.ended(job.failed(START, "x", ""))
    assert journal.checkpoints.abandoned() == []
    assert dict(checkpoint) == {}
    checkpoint.close()


def test_the_last_value_of_a_property_is_the_newest_that_was_delivered(journal: Journal) -> None:
    numbers = [journal.outbox.keep("e", b'{"value":%d}' % value, "p") for value in range(3)]
    assert journal.outbox.last_values() == {}
    for number in numbers:
        journal.outbox.delivered(number)
    assert journal.outbox.last_values() == {"p": 2}


def test_a_message_without_a_property_leaves_no_value(journal: Journal) -> None:
    """The upload request sets nothing in the twin, so the announcement must not repeat it."""
    journal.outbox.delivered(journal.outbox.keep("e", b'{"value":{}}', ""))
    assert journal.outbox.last_values() == {}
    assert journal.outbox.kept() == []


# Checkpoints


def test_a_checkpoint_is_a_mapping(journal: Journal) -> None:
    checkpoint = journal.checkpoint("X#1")
    checkpoint["a"], checkpoint["b"] = "1", "2"
    checkpoint["a"] = "3"
    del checkpoint["b"]
    assert (dict(checkpoint), len(checkpoint), "b" in checkpoint) == ({"a": "3"}, 1, False)
    with pytest.raises(KeyError):
        checkpoint["b"]
    with pytest.raises(KeyError):
        del checkpoint["b"]
    checkpoint.close()


def test_a_worker_s_checkpoint_is_durable_at_once_and_seen_by_others(journal: Journal, path: Path) -> None:
    """Written in the worker's thread, over a connection of its own, beside the main thread's."""
    written = threading.Event()
    finish = threading.Event()

    def work() -> None:
        checkpoint = journal.checkpoint("X#1")
        checkpoint["part"] = "1"
        written.set()
        finish.wait(10)
        checkpoint.close()

    worker = threading.Thread(target=work)
    worker.start()
    assert written.wait(10)
    other = sqlite3.connect(path)
    assert other.execute("SELECT owner, key, value FROM checkpoints").fetchall() == [("X#1", "part", "1")]
    other.close()
    mine = journal.checkpoint("X#1")
    assert dict(mine) == {"part": "1"}
    mine.close()
    finish.set()
    worker.join(10)


def test_only_the_delivery_of_a_message_is_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything else is on the disk when the call returns; `PRAGMA synchronous` 2 is FULL, 1 is NORMAL."""
    connections = opened_connections(monkeypatch)
    with closing(Journal(tmp_path / "journal.db")) as journal:
        levels: list[tuple[str, int]] = []

        def note(statement: str) -> None:
            if statement == "COMMIT":
                (level,) = connections[0].execute("PRAGMA synchronous").fetchone()
                levels.append((doing, level))

        connections[0].set_trace_callback(note)
        doing = "keep"
        number = journal.outbox.keep("e", b"{}", "p")
        doing = "delivered"
        journal.outbox.delivered(number)
        doing = "note"
        journal.notes.keep("key", "value")
    assert levels == [("keep", 2), ("delivered", 1), ("note", 2)]
