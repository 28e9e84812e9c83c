"""`backup`: its steps in reading order, in a worker's thread.

One synchronous function, which tells its progress through its `Context` and obeys the cancel token in there.
"""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agent.base.durable import remove_tree
from agent.base.errors import disk_errors
from agent.formats.base import SaveFormat, SaveOrder
from agent.formats.entries import Entry
from agent.formats.walk_report import Report
from agent.save.change_detection import Fingerprinter, LastArchive, is_still_there
from agent.save.databases import Copies, DatabaseOrder, database_copies
from agent.save.result import BackupResult
from agent.save.shared import Slot
from agent.save.walk import WalkRoot, walk
from agent.transfer.archive_files import UploadOrder, upload
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Context, Destination, RunHook
from providers.api import Stored

_PATIENCE_S = 0.4
"""The time that a cancelled job waits for the removal of its working directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupOrder(SaveOrder):
    """Save the `roots` at the destination; without one, stage the archive."""

    roots: tuple[WalkRoot, ...]
    """At least one, in the order of the archive."""
    own: tuple[Path, ...]
    destination: Destination | None
    format: SaveFormat
    skip_unchanged: bool = False
    """Make no archive while the tree has the fingerprint of `last`, and that archive is still there."""
    last: LastArchive | None = None
    databases: DatabaseOrder | None = None
    """None to save SQLite databases as they are found."""
    shared: Slot | None = None
    """For an archive that other stores get as well; `staged` is in it."""
    collect: RunHook | None = None
    """Kanto's `backupCmd`: it collects the content in the directory of the only root, made for it."""


def backup(order: BackupOrder, context: Context) -> BackupResult:
    """Make an archive and store it, or stage it, as `Format.save`. Raises `JobError` and `StorageError`."""
    slot = order.shared
    if slot:
        slot.clear()
    order.format.check_room(order, None if slot else order.destination)
    made = _made(order, context)
    if slot is None or made.unchanged:
        return made
    slot.keep(order.staged, made)
    return send(order, made, context)


def send(order: BackupOrder, made: BackupResult, context: Context) -> BackupResult:
    """Store the archive that was made for several stores. Raises `JobError` and `StorageError`."""
    assert order.destination
    context.phase("uploading")
    context.expect(made.size_bytes)
    stored = upload(UploadOrder(order.staged, order.destination, order.checksum), context)
    return replace(made, stored=stored)


def _made(order: BackupOrder, context: Context) -> BackupResult:
    with _collected(order, context):
        if order.destination is None or not order.skip_unchanged:
            return _archived(order, context)
        return _unless_unchanged(order, order.destination, context)


def _unless_unchanged(order: BackupOrder, destination: Destination, context: Context) -> BackupResult:
    context.phase("comparing")
    fingerprinter = Fingerprinter(order.format.settings)
    with closing(_entries(order, fingerprinter.report, context.token.check)) as entries:
        found = fingerprinter.of(entries)
    last = order.last
    if last and last.fingerprint == found.digest and not (order.strict and found.report.failures):
        there = is_still_there(destination.storage, last)
        context.token.check()
        if there:
            stored = Stored(last.name, last.size_bytes, last.etag, replace(destination, name=last.name).shown)
            return BackupResult(found.report, last.size_bytes, "", stored, last.fingerprint, unchanged=True)
    result = _archived(order, context)
    # A file that changed while the archive was made is in it as it was at some moment before.
    whole = found.settled and result.report.reasons == found.report.reasons
    return replace(result, fingerprint=found.digest if whole else "")


@contextmanager
def _collected(order: BackupOrder, context: Context) -> Iterator[None]:
    if order.collect is None:
        yield
        return
    context.phase("collecting")
    (root,) = order.roots
    with work_directory(root.root.directory, context.token):
        order.collect(root.root.directory, context.token)
        yield


@contextmanager
def work_directory(path: Path, token: CancelToken) -> Iterator[None]:
    """Make an empty private directory, and remove it afterwards.

    A cancelled job does not wait for the end of that: the next start removes what is left.
    """
    with disk_errors(f"cannot make the directory '{path}'"):
        path.mkdir(mode=0o700)
    try:
        yield
    finally:
        removal = threading.Thread(target=remove_tree, args=(path,), name="removal", daemon=True)
        removal.start()
        removal.join(_PATIENCE_S if token.event.is_set() else None)


def _archived(order: BackupOrder, context: Context) -> BackupResult:
    report = Report(context.skipped)
    context.phase("archiving")
    check = context.token.check
    with (
        database_copies(order.databases, check) as copies,
        closing(_entries(order, report, check, copies)) as entries,
    ):
        destination = None if order.shared else order.destination
        saved = order.format.save(entries, report, order, destination, context)
    return BackupResult(report, saved.size_bytes, saved.sha256, saved.stored, changes=saved.changes)


def _entries(
    order: BackupOrder, report: Report, check: Callable[[], None], copies: Copies | None = None
) -> Generator[Entry, None, None]:
    for root in order.roots:
        with disk_errors(f"cannot read '{root.root.directory}'"):
            yield from saved_entries(root, order.format, report, order.own, check, copies=copies)


def saved_entries(
    root: WalkRoot,
    save_format: SaveFormat,
    report: Report,
    own: tuple[Path, ...],
    check: Callable[[], None],
    *,
    copies: Copies | None = None,
) -> Generator[Entry, None, None]:
    """Yield the entries of `walk` that go into an archive of this format; the others are skipped."""
    with closing(walk(root, report, own, check, copies)) as entries:
        for entry in entries:
            if reason := save_format.skipped_reason(entry):
                report.skip(entry.name, reason)
            else:
                yield entry
