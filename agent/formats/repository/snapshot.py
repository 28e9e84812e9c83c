"""Writes one snapshot of a device into its repository."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from agent.formats.base import Entry
from agent.formats.manifest import Origin
from agent.formats.repository.objects import Objects
from agent.formats.walk_report import Report
from agent.transfer.context import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotOrder:
    """The order to write one snapshot."""

    origin: Origin
    """The device's id becomes the snapshot's host; the roots lead from the names of entries to paths."""
    password: str = field(repr=False)
    state: Path
    """The SQLite file with the local state of this repository; it is made when it is missing."""
    trust_for: timedelta = timedelta(days=14)
    """The age up to which the last snapshot is trusted without being seen (`repository.trustFor`)."""
    strict: bool = False
    """Fail when an entry was skipped."""
    expected_bytes: int | None = None
    """The probable size of the content, for the progress."""


@dataclass(frozen=True, slots=True)
class SavedSnapshot:
    """A snapshot that was written."""

    id: str
    """64 hexadecimal digits."""
    added_bytes: int
    """All bytes that this job stored: packs, indexes, the snapshot and its lock."""
    files_new: int
    files_changed: int
    files_unmodified: int
    notes: tuple[str, ...] = ()
    """Sentences for people, for the message of the job."""


def save_snapshot(
    objects: Objects, entries: Iterable[Entry], report: Report, order: SnapshotOrder, context: Context
) -> SavedSnapshot:
    """Write a snapshot of `entries` and count in `report`; make the repository where there is none.

    When it returns, the snapshot is stored and everything it needs. When it raises, at most packs and indexes
    without a snapshot and a lock are left. Raises `RepositoryBusy` while another program holds the exclusive
    lock, `WrongKey` for a wrong password, `RepositoryLost` when the local state is gone and the device may not
    read the repository, `RepositoryBroken`, `ClockWrong`, `SourceChanged` with `order.strict`, NoSpace,
    IoError, Cancelled and StorageError.
    """
    raise NotImplementedError
