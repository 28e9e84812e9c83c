"""ZIP archives, plain or encrypted, behind the seam of `agent.formats.base`."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from agent.base.errors import disk_errors
from agent.formats.archive_file import open_archive
from agent.formats.archive_names import NamedArchive, OwnArchives
from agent.formats.base import Entry, Saved, SavedTree, SaveOrder, Unlock
from agent.formats.walk_report import Report
from agent.formats.zip.manifest_block import manifest_block
from agent.formats.zip.store import room, store
from agent.formats.zip.writer import ArchiveOptions, write_archive
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Context, Destination
from agent.transfer.get import Fetch, fetch
from agent.transfer.guarded_storage import GuardedStorage
from agent.transfer.ranged import RangedFile
from agent.transfer.streams import file_digest
from providers.api import Stored


@dataclass(frozen=True, slots=True)
class DownloadedArchive:
    """An archive in a file of ours."""

    stored: Stored
    path: Path
    file: BinaryIO
    check: Callable[[], None]
    """The cancel point of the job."""

    def sha256(self, token: CancelToken) -> str:
        with disk_errors(f"cannot read the download in '{self.path.parent}'"):
            return file_digest(self.path, "sha256", token).hex()

    def tree(self, unlock: Unlock) -> SavedTree:
        return open_archive(self.file, unlock, self.check)


@dataclass(frozen=True, slots=True)
class Zip:
    """The format; `options` are for archives that it makes."""

    options: ArchiveOptions

    @property
    def settings(self) -> str:
        return f"{self.options.level} {self.options.dialect}"

    def check_room(self, order: SaveOrder, destination: Destination | None) -> None:
        if destination is None or destination.needs_size:
            with disk_errors(f"cannot look at '{order.staged.parent}'"):
                room(order.staged, order.reserve_bytes).check()

    def save(
        self,
        entries: Iterable[Entry],
        report: Report,
        order: SaveOrder,
        destination: Destination | None,
        context: Context,
    ) -> Saved:
        manifest = partial(manifest_block, order.origin) if order.origin else None
        with closing(write_archive(entries, report, self.options, context.token.check, manifest)) as archive:
            return store(archive, report, order, destination, context)

    @contextmanager
    def fetched(self, order: Fetch, context: Context) -> Iterator[DownloadedArchive]:
        try:
            context.phase("fetching")
            stored = fetch(order, context)
            with order.to.open("rb") as file:
                yield DownloadedArchive(stored, order.to, file, context.token.check)
        finally:
            with suppress(OSError):  # what a failing disk keeps, the next start removes
                order.to.unlink()

    def listed(self, storage: GuardedStorage, own: OwnArchives) -> list[NamedArchive]:
        names = (stored.name for stored in storage.list("", lambda name: own.parse(name) is not None))
        return [archive for name in names if (archive := own.parse(name))]

    def remove(self, storage: GuardedStorage, name: str) -> None:
        storage.delete(name)

    def open(self, destination: Destination, name: str, unlock: Unlock) -> SavedTree:
        storage = destination.storage
        file = RangedFile(lambda offset, size_bytes: storage.read_range(name, offset, size_bytes))
        return open_archive(cast(BinaryIO, file), unlock)
