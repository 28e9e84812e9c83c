"""Saving, restoring and verifying know a format by its seam alone: a second one needs no change there."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.base.roots import Root
from agent.formats.archive_names import NamedArchive, OwnArchives
from agent.formats.base import Format, Freed, Removal, Saved, SavedTree, SaveOrder, Unlock
from agent.formats.entries import FILE, Entry, Item
from agent.formats.entry_checks import ArchiveLimits
from agent.formats.manifest import Manifest
from agent.formats.walk_report import Report
from agent.restore.choice import Choice
from agent.restore.find import Search
from agent.restore.flow import RestoreOrder, preview, restore
from agent.restore.root import RestoreOptions
from agent.restore.target import RestoreTarget
from agent.restore.verify import VerifyOrder, verify
from agent.save.pipeline import BackupOrder, backup
from agent.save.walk import WalkRoot
from agent.transfer.archive_files import Fetch
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Context, Destination
from agent.transfer.guarded_storage import GuardedStorage
from agent.transfer.retry import RetryLimits
from providers.api import Stored
from providers.testing.streams import content
from tests.support.fakes import MemoryStorage
from tests.support.trees import Dir, File, Link, Spec, differences, make_tree, snapshot

NAME = "snapshot-1"
LIMITS = ArchiveLimits(max_files=1000, max_bytes=1 << 30, max_ratio=1000)
TREE: Spec = {
    "closed": Dir(0o500),
    "closed/file": File(b"in a closed directory", 0o400),
    "empty": Dir(),
    "large": File(content(3_000_000)),
    "link": Link("closed/file"),
    "zeros": File(bytes(1 << 20)),
    **{f"small-{number}": File(b"%d" % number) for number in range(200)},
}


@dataclass(frozen=True)
class MemoryTree:
    """A saved tree whose items have their content with them."""

    saved: Sequence[Item]
    check: Callable[[], None] = lambda: None

    def manifest(self) -> Manifest | None:
        return None

    def items(self) -> Iterator[Item]:
        for item in self.saved:
            self.check()
            yield item

    def read(self, item: Item, write: Callable[[bytes], object]) -> None:
        for start in range(0, item.size, 1000):
            write(item.location[start : start + 1000])

    def contents(self, items: Sequence[Item]) -> Iterator[bytes]:
        return (item.location for item in items)

    def span_bytes(self, first: Item, last: Item) -> int:
        return 0

    @property
    def reads_quickly(self) -> bool:
        return True

    def checksum(self, item: Item) -> str:
        return ""


@dataclass(frozen=True)
class MemoryArchive:
    stored: Stored
    saved: Sequence[Item]
    check: Callable[[], None]

    def sha256(self, token: CancelToken) -> str:
        return ""

    def tree(self, unlock: Unlock) -> SavedTree:
        return MemoryTree(self.saved, self.check)

    def verify(self, tree: SavedTree, passed: Callable[[int], object]) -> int:
        for item in tree.items():
            tree.read(item, lambda piece: passed(len(piece)))
        return self.stored.size_bytes


@dataclass
class MemoryFormat:
    """Keeps archives as lists of items, and uses no storage at all."""

    archives: dict[str, list[Item]] = field(default_factory=dict)
    settings: str = "memory"

    def skipped_reason(self, entry: Entry) -> str:
        return ""

    def check_room(self, order: SaveOrder, destination: Destination | None) -> None:
        """There is always room."""

    def save(
        self,
        entries: Iterable[Entry],
        report: Report,
        order: SaveOrder,
        destination: Destination | None,
        context: Context,
    ) -> Saved:
        self.archives[NAME] = [_item(entry) for entry in entries]
        return Saved(1, "", Stored(NAME, 1, "", "memory"))

    @contextmanager
    def fetched(self, order: Fetch, context: Context) -> Iterator[MemoryArchive]:
        name = order.destination.name or NAME
        yield MemoryArchive(Stored(name, 1, "", "memory"), self.archives[name], context.token.check)

    def listed(self, destination: Destination, own: OwnArchives) -> list[NamedArchive]:
        return [
            NamedArchive(name, "backup", datetime(2026, 1, 1, tzinfo=UTC), own.device_tag)
            for name in self.archives
        ]

    def manifest(self, destination: Destination, name: str, unlock: Unlock) -> None:
        return None

    def remove(self, removal: Removal) -> Freed:
        for name in removal.names:
            del self.archives[name]
            removal.removed(name)
        return Freed(0)

    def open(self, destination: Destination, name: str, unlock: Unlock) -> SavedTree:
        return MemoryTree(self.archives[name])


def _item(entry: Entry) -> Item:
    data = os.pread(entry.fd, entry.stat.st_size, 0) if entry.kind is FILE else entry.target
    return Item(
        entry.name,
        entry.kind,
        stat.S_IMODE(entry.stat.st_mode),
        entry.stat.st_mtime_ns,
        entry.stat.st_uid,
        entry.stat.st_gid,
        len(data),
        len(data),
        entry.xattrs,
        entry.hard_link_to,
        data,
    )


@dataclass(frozen=True)
class Work:
    root: Path
    archives: Format
    context: Context

    @property
    def destination(self) -> Destination:
        storage = GuardedStorage(MemoryStorage(), RetryLimits(attempts=1), self.context.token)
        return Destination(storage, False, NAME)

    @property
    def search(self) -> Search:
        return Search(OwnArchives("0a1b2c3d", {}), lambda: datetime.now(UTC))

    def restore_order(self, target: Path) -> RestoreOrder:
        root = Root("", target)
        options = RestoreOptions(limits=LIMITS, mode="replace")
        return RestoreOrder(
            RestoreTarget({0: root}, [], options),
            self.root / "download",
            self.destination,
            self.search,
            Choice((root,)),
            self.archives,
            Unlock(),
        )


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """A tree that was saved in the format of this test."""
    root = tmp_path.resolve()
    make_tree(root / "data", TREE)
    os.link(root / "data/large", root / "data/second name")
    done = Work(root, MemoryFormat(), Context("job-1", CancelToken(), {}))
    order = BackupOrder(
        roots=(WalkRoot(Root("", root / "data")),),
        own=(),
        staged=root / "staged",
        destination=done.destination,
        format=done.archives,
    )
    result = backup(order, done.context)
    assert result.stored
    assert result.stored.name == NAME
    return done


def test_what_another_format_saved_is_restored_all_of_it(work: Work) -> None:
    target = make_tree(work.root / "target", {"gone": File(), "closed": Dir()})
    amount = restore(work.restore_order(target), work.context)
    assert (amount.files, amount.archive, amount.place) == (204, NAME, "memory")
    found, wanted = snapshot(target), snapshot(work.root / "data")
    assert [each for each in differences(found, wanted) if not each.startswith("''")] == []
    assert os.path.samefile(target / "large", target / "second name")


def test_a_preview_of_another_format_is_counted(work: Work) -> None:
    found = preview(work.restore_order(make_tree(work.root / "target", {"gone": File()})), work.context)
    assert (found.difference.removed, found.files) == (1, 204)


def test_every_byte_of_another_format_is_verified(work: Work) -> None:
    fetch = Fetch(work.destination, work.root / "download", 0)
    verified = verify(VerifyOrder(fetch, work.search, work.archives, Unlock(), LIMITS, {}), work.context)
    assert verified.damage is None
    assert verified.survey
    assert (verified.survey.files, verified.survey.links) == (204, 1)


def test_save_and_restore_load_no_format() -> None:
    """Which one there is, the settings say: one place picks it."""
    code = (
        "import sys, agent.restore.flow, agent.restore.verify, agent.save.pipeline, agent.save.retention;"
        "print([name for name in sys.modules if name.startswith(('agent.formats.zip', 'agent.formats.age'))])"
    )
    root = Path(__file__).parents[2]
    loaded = subprocess.check_output([sys.executable, "-c", code], cwd=root, text=True, timeout=60)
    assert loaded == "[]\n"
