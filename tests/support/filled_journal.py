"""A journal with something of each kind in it."""

from datetime import UTC, datetime
from pathlib import Path

from agent.base.job import Job, Kind
from agent.faces.ditto.redelivery import Redeliveries
from agent.journal import Journal
from agent.journal.commands import CommandId

START = datetime(2026, 11, 21, 22, 28, 8, 388229, UTC)
JOB = Job("job-1", Kind.RESTORE, "c\n#1", START)
DIRECTORY = Path("/data/\udcff ü")
"""File names need not be UTF-8."""


def fill_new(path: Path) -> None:
    journal = Journal(path)
    fill(journal)
    journal.close()


def fill(journal: Journal) -> None:
    journal.jobs.started(JOB, DIRECTORY, [DIRECTORY])
    first = journal.outbox.keep("e", b'{"value":{"state":"UPLOADING"}}', "lastUpload")
    journal.outbox.delivered(first)
    journal.outbox.keep("e", b'{"value":{"state":"SUCCESS"}}', "lastUpload")
    checkpoint = journal.checkpoint("X#1")
    checkpoint["upload"] = "id"
    checkpoint.close()
    Redeliveries(journal, 60).remember(CommandId("d", "r", "s", "c"), b"p", False, ("t", b"a"), "job-1")
