"""Snapshots in a repository, behind the seam of `agent.formats.base`."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from agent.base.clock_times import DailyWindow
from agent.base.errors import NoSpace, disk_errors
from agent.formats.base import Saved, SaveOrder
from agent.formats.entries import Entry
from agent.formats.repository.objects import StoredObjects
from agent.formats.repository.session import SnapshotOrder, state_directory
from agent.formats.repository.snapshot import save_snapshot
from agent.formats.walk_report import Report
from agent.transfer.context import Context, Destination
from providers.api import Stored
from providers.free_space import Room


@dataclass(frozen=True, slots=True)
class Repository:
    """The format for backups; reading is in `snapshots`."""

    password: str = field(repr=False)
    states: Path
    """The directory with the local state of each repository."""
    trust_for: timedelta
    closed: DailyWindow | None
    """Times at which nothing is stored."""

    @property
    def settings(self) -> str:
        return "repository"

    def skipped_reason(self, _entry: Entry) -> str:
        return ""

    def check_room(self, order: SaveOrder, _destination: Destination | None) -> None:
        with disk_errors(f"cannot look at '{self.states.parent}'"):
            shown = f"the storage '{self.states.parent}'"
            Room(self.states.parent, shown, order.reserve_bytes, NoSpace).check()

    def save(
        self,
        entries: Iterable[Entry],
        report: Report,
        order: SaveOrder,
        destination: Destination | None,
        context: Context,
    ) -> Saved:
        assert destination
        assert order.origin
        objects = StoredObjects(destination.storage, destination.prefix, context.rate(), self.closed)
        snapshot = SnapshotOrder(
            origin=order.origin,
            password=self.password,
            state=state_directory(self.states, destination.repository),
            trust_for=self.trust_for,
            strict=order.strict,
            expected_bytes=order.expected_bytes,
            reserve_bytes=order.reserve_bytes,
        )
        saved = save_snapshot(objects, entries, report, snapshot, context)
        added_bytes = saved.changes.added_bytes
        stored = Stored(saved.id, added_bytes, place=destination.shown)
        return Saved(added_bytes, "", stored, saved.changes)
