"""A job's surroundings for one step of it: directories, orders, and a record of its words."""

import io
import zipfile
from collections.abc import MutableMapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from agent.base.roots import Root
from agent.formats.archive_names import OwnArchives
from agent.formats.base import Unlock
from agent.formats.entry_checks import ArchiveLimits
from agent.formats.zip.format import Zip
from agent.formats.zip.writer import ArchiveOptions
from agent.restore.choice import Choice
from agent.restore.directories import missing
from agent.restore.find import Search
from agent.restore.flow import RestoreOrder
from agent.restore.root import RestoreOptions
from agent.restore.target import RestoreTarget
from agent.save.pipeline import BackupOrder, backup
from agent.save.result import BackupResult
from agent.save.walk import WalkRoot
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Context, Destination
from agent.transfer.guarded_storage import GuardedStorage
from agent.transfer.retry import RetryLimits
from providers.api import Storage
from providers.testing.streams import content
from tests.support.fakes import Fault
from tests.support.trees import Dir, File, Link, Spec

QUICK = RetryLimits(attempts=4, total_s=60, longest_pause_s=0.001)
NAME, TAG = "backup-2026-11-21-22.28.08.388-0a1b2c3d.zip", "0a1b2c3d"
TREE: Spec = {
    "config": Dir(0o750),
    "config/app.json": File(b'{"interval": 30}\n', 0o600),
    "config/current": Link("app.json"),
    "random": File(content(300_000)),
}
EVERY_PLACE = pytest.mark.parametrize("needs_size", [False, True], ids=["streamed", "by file"])


@dataclass
class Work:
    """A job's surroundings: its directories, and what it said."""

    root: Path
    token: CancelToken = field(default_factory=CancelToken)
    checkpoint: MutableMapping[str, str] = field(default_factory=dict)
    phases: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    expected: list[int] = field(default_factory=list)
    cancelled_in: str = ""
    """A phase that is cancelled as it begins."""

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    @property
    def context(self) -> Context:
        return Context(
            "job-1",
            self.token,
            self.checkpoint,
            progress=self.done.append,
            phase=self._entered,
            expect=self.expected.append,
            skipped=self._skipped,
        )

    def guarded(self, destination: Destination) -> Destination:
        """The destination, for this job's token."""
        return replace(destination, storage=GuardedStorage(destination.storage, QUICK, self.token))

    def _entered(self, phase: str) -> None:
        self.phases.append(phase)
        if phase == self.cancelled_in:
            self.token.cancel("enough")

    def _skipped(self, name: str, reason: str) -> None:
        self.skipped.append((name, reason))

    def backup_order(self, destination: Destination | None = None, **changes: Any) -> BackupOrder:
        settings: dict[str, Any] = {"strict": False, "checksum": False, "format": Zip(ArchiveOptions("fast"))}
        return BackupOrder(
            roots=(WalkRoot(Root("", self.data)),),
            own=(self.root / "storage",),
            staged=self.staging / NAME,
            destination=destination and self.guarded(destination),
            **(settings | changes),
        )

    def restore_order(self, destination: Destination) -> RestoreOrder:
        limits = ArchiveLimits(max_files=1000, max_bytes=1 << 30, max_ratio=1000)
        download = self.staging / "job-1.part"
        options = RestoreOptions(limits=limits)
        return RestoreOrder(
            RestoreTarget({0: Root("", self.data)}, missing(self.data), options),
            download,
            self.guarded(destination),
            Search(OwnArchives(TAG, {}), lambda: datetime.now(UTC)),
            self.whole,
            Zip(ArchiveOptions()),
            Unlock(),
        )

    @property
    def whole(self) -> Choice:
        return Choice((Root("", self.data),))

    def save(self, destination: Destination | None = None, **changes: Any) -> BackupResult:
        return backup(self.backup_order(destination, **changes), self.context)

    def assert_nothing_left(self) -> None:
        assert list(self.staging.iterdir()) == []


def destination(storage: Storage, *, needs_size: bool = False, name: str | None = NAME) -> Destination:
    """Where a job of `Work` may go: it guards the storage."""
    return Destination(cast(GuardedStorage, storage), needs_size, name, {"device": "edge:device"})


def names_in(archive: bytes) -> set[str]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        return set(opened.namelist())


ALL_NAMES = {"config/", "config/app.json", "config/current", "random"}


def cancelling(work: Work, error: Exception | None = None, after_bytes: int = 0) -> Fault:
    return Fault(error, after_bytes, act=lambda: work.token.cancel("enough"))
