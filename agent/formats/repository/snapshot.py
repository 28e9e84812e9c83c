"""Writes one snapshot of a device into its repository: packs, then indexes, then the snapshot."""

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from agent import RELEASED
from agent.base.errors import Cancelled, ClockWrong, RepositoryBroken, RepositoryBusy
from agent.base.times import format_time, parse_time
from agent.formats.base import Changes
from agent.formats.entries import Entry
from agent.formats.repository.blobs import BlobWriter
from agent.formats.repository.chunker import Chunker
from agent.formats.repository.content import Contents
from agent.formats.repository.document import snapshot_json, tags_of
from agent.formats.repository.golang import time_text
from agent.formats.repository.last_snapshot import can_see, is_trusted, last_snapshot, rebuild
from agent.formats.repository.node import forget_owners
from agent.formats.repository.objects import Kind, Objects
from agent.formats.repository.packs import encoded_indexes
from agent.formats.repository.paths import SnapshotPaths
from agent.formats.repository.session import (
    Session,
    SnapshotOrder,
    count_pending,
    session,
    take_back,
    take_lock,
)
from agent.formats.repository.tree import Trees
from agent.formats.repository.unpacked import put_unpacked
from agent.formats.repository.writer import EntryWriter
from agent.formats.walk_report import Report
from agent.transfer.context import Context
from providers.errors import AccessDenied, StorageError
from providers.errors import NoSpace as StoreFull

log = structlog.get_logger(__name__)

_MOST_THREADS = 2
_SECOND = timedelta(seconds=1)
_LAST_TIME = datetime.max.replace(tzinfo=UTC) - _SECOND


@dataclass(frozen=True, slots=True)
class SavedSnapshot:
    id: str
    changes: Changes
    """All stored bytes are in it: packs, indexes, the snapshot and its lock."""


def save_snapshot(
    objects: Objects, entries: Iterable[Entry], report: Report, order: SnapshotOrder, context: Context
) -> SavedSnapshot:
    """Write a snapshot of `entries` and count in `report`; make the repository where there is none.

    When it returns, the snapshot is stored and everything it needs. When it raises, at most packs and indexes
    without a snapshot and a lock are left; in a store that is full, no packs. Raises `RepositoryBusy` while
    another program holds the exclusive lock, `WrongKey` for a wrong password, `RepositoryLost` when the local
    state is gone and the device may not read the repository, `RepositoryBroken`, `ClockWrong`,
    `SourceChanged` with `order.strict`, NoSpace, IoError, Cancelled and StorageError.
    """
    now = order.origin.created
    if now < RELEASED:
        raise ClockWrong(
            f"the device's clock says {format_time(now)}, and this agent was released later: a snapshot waits"
            " until the clock is right"
        )
    if order.expected_bytes is not None:
        context.expect(order.expected_bytes)
    paths = SnapshotPaths(order.origin.sources)
    with session(objects, order, paths, context.token.check) as found:
        try:
            take_lock(found)
            return _Job(found, paths, report, order, context).run(entries)
        except StoreFull:
            take_back(found)
            raise
        finally:
            found.lock.release()


class _Job:
    """One snapshot, once the lock is taken."""

    def __init__(
        self,
        found: Session,
        paths: SnapshotPaths,
        report: Report,
        order: SnapshotOrder,
        context: Context,
    ) -> None:
        self._session, self._paths, self._report = found, paths, report
        self._order, self._context, self._now = order, context, order.origin.created
        self._notes: list[str] = []
        self._added_bytes = 0

    def run(self, entries: Iterable[Entry]) -> SavedSnapshot:
        found = self._session
        self._distrust()
        forget_owners()
        blobs = BlobWriter(
            found.objects, found.opened.keys, found.pending, found.lock.refresh,
            threads=min(os.cpu_count() or 1, _MOST_THREADS),
        )  # fmt: skip
        with closing(blobs):
            chunker = Chunker(found.opened.seed)
            trees = Trees(found.state, blobs, found.scratch, self._paths)
            contents = Contents(found.state, blobs, chunker, self._report, self._context)
            writer = EntryWriter(trees, contents, self._paths, self._report, self._context)
            tree = writer.write(entries)
            if self._order.strict:
                self._report.refuse_failures()
            blobs.finish()
        self._put_indexes()
        summary = _summary(writer, trees, blobs, self._report, self._now)
        name = self._put_snapshot(tree, summary)
        files = writer.files
        self._added_bytes += blobs.added.bytes + found.lock.stored_bytes
        changes = Changes(self._added_bytes, files.new, files.changed, files.unmodified, tuple(self._notes))
        return SavedSnapshot(name, changes)

    def _distrust(self) -> None:
        """Forget the last snapshot when its blobs may be gone."""
        found, order = self._session, self._order
        if is_trusted(found.objects, found.state, self._now, order.trust_for):
            return
        had_one = bool(found.state.fact("snapshot_id"))
        found.state.forget_all()
        if not found.is_new and not self._rebuilt() and had_one:
            self._notes.append("the last snapshot is gone, or too old to be trusted: all is sent again")
        count_pending(found)

    def _rebuilt(self) -> bool:
        """Make the state from the last snapshot that exists; return False where that is not possible."""
        found = self._session
        try:
            last = last_snapshot(found, self._order.origin.device, self._paths.saved)
            # The time of a forgotten one counts no more: that of a clock which was ahead would stay.
            latest = format_time(last.time) if last else ""
            found.state.remember(latest=latest)
            found.pending.remember(latest=latest)
            if last:
                rebuild(found, last, self._now)
        except (AccessDenied, RepositoryBroken) as error:
            log.warning("last snapshot not readable", error=str(error))
            found.state.forget_all()
            return False
        return last is not None

    def _put_indexes(self) -> None:
        pending = self._session.pending
        for names, json in encoded_indexes(pending.not_indexed()):
            self._put(Kind.INDEX, *json)
            pending.indexed(names)

    def _put(self, kind: Kind, *json: bytes) -> str:
        """Store an index or the snapshot while the lock holds; return its name."""
        found = self._session
        self._context.token.check()
        found.lock.refresh()
        name, size_bytes = put_unpacked(found.objects, found.cryptor, kind, *json)
        self._added_bytes += size_bytes
        try:
            found.lock.check()
        except RepositoryBusy:
            # The device slept meanwhile. What names packs that are gone is worse than nothing.
            with suppress(AccessDenied):
                found.objects.delete(kind, name)
            raise
        return name

    def _put_snapshot(self, tree: bytes, summary: dict[str, Any]) -> str:
        found, state = self._session, self._session.state
        time = self._time()
        document = snapshot_json(
            time=time,
            parent=state.fact("snapshot_id"),
            tree=tree,
            paths=self._paths.saved,
            origin=self._order.origin,
            summary=summary,
            tags=tags_of(self._order.origin, self._report),
        )
        # Before the snapshot: the next one is later even if this job is cut off now.
        found.pending.remember(latest=format_time(time))
        name = self._put(Kind.SNAPSHOT, document)
        # From here on the job has succeeded, whatever the device's disk or the network do.
        state.remember(
            snapshot_id=name,
            snapshot_seen=format_time(self._now),
            latest=format_time(time),
            can_see=self._can_see(name),
        )
        try:
            state.commit()
            found.pending.clear()
        except sqlite3.Error as error:
            log.error("state of the repository not kept", error=str(error))
            self._notes.append("the device's disk did not keep the state of the repository")
        return name

    def _can_see(self, name: str) -> str:
        """Return "1" when the device may see its snapshots, "" when it may not."""
        try:
            return "1" if can_see(self._session.objects, name) else ""
        except (StorageError, Cancelled):
            return self._session.state.fact("can_see")

    def _time(self) -> datetime:
        """Return the time of the snapshot: the clock, and always later than the last one.

        `restic forget` keeps the latest ones. After a clock was set back, the new ones would be the oldest.
        """
        found = self._session
        known = max(found.state.fact("latest"), found.pending.fact("latest"))
        if not known:
            return self._now
        last = min(parse_time(known), _LAST_TIME)
        moment = last + _SECOND
        if self._now >= moment:
            return self._now
        if self._now < last:
            self._notes.append(
                f"the device's clock is behind its last snapshot: this one has the time {format_time(moment)}"
            )
        return moment


def _summary(
    writer: EntryWriter, trees: Trees, blobs: BlobWriter, report: Report, begun: datetime
) -> dict[str, Any]:
    """Return the counts of a snapshot, in restic's words."""
    files, directories, added = writer.files, trees.directories, blobs.added
    return {
        "backup_start": time_text(begun),
        "backup_end": time_text(datetime.now(UTC)),
        "files_new": files.new,
        "files_changed": files.changed,
        "files_unmodified": files.unmodified,
        "dirs_new": directories.new,
        "dirs_changed": directories.changed,
        "dirs_unmodified": directories.unmodified,
        "data_blobs": added.data_blobs,
        "tree_blobs": added.tree_blobs,
        "data_added": added.plain_bytes,
        "data_added_packed": added.bytes,
        "total_files_processed": report.files,
        "total_bytes_processed": report.size_bytes,
    }
