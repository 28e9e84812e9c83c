"""ZIP archives, plain or encrypted, behind the seam of `agent.formats.base`."""

import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from agent.base.durable import sync_directory
from agent.base.errors import NoSpace, disk_errors
from agent.formats.age import encrypt
from agent.formats.archive_file import open_archive
from agent.formats.archive_names import NamedArchive, OwnArchives
from agent.formats.base import Freed, Removal, Saved, SavedTree, SaveOrder, Unlock
from agent.formats.entries import Entry
from agent.formats.manifest import Manifest
from agent.formats.walk_report import Report
from agent.formats.zip.manifest_block import manifest_block
from agent.formats.zip.packing import skipped_reason
from agent.formats.zip.writer import ArchiveOptions, write_archive
from agent.transfer.archive_files import Fetch, fetch
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Context, Destination
from agent.transfer.ranged import RangedFile
from agent.transfer.streams import FileSource, StreamSource, file_digest, private
from providers.api import Stored
from providers.free_space import Room
from providers.writeback import WriteBack


@dataclass(frozen=True, slots=True)
class DownloadedArchive:
    """A `FetchedArchive` in a file of the agent."""

    stored: Stored
    path: Path
    file: BinaryIO
    check: Callable[[], None]

    def sha256(self, token: CancelToken) -> str:
        with disk_errors(f"cannot read the download in '{self.path.parent}'"):
            return file_digest(self.path, "sha256", token).hex()

    def tree(self, unlock: Unlock) -> SavedTree:
        return open_archive(self.file, unlock, self.check)

    def verify(self, tree: SavedTree, passed: Callable[[int], object]) -> int:
        for item in tree.items():
            tree.read(item, lambda piece: passed(len(piece)))
        return self.stored.size_bytes


@dataclass(frozen=True, slots=True)
class Zip:
    """The format; `options` are for archives that it makes."""

    options: ArchiveOptions

    @property
    def settings(self) -> str:
        return f"{self.options.level} {self.options.dialect}"

    def skipped_reason(self, entry: Entry) -> str:
        return skipped_reason(entry, self.options.dialect)

    def check_room(self, order: SaveOrder, destination: Destination | None) -> None:
        if destination is None or destination.needs_size:
            with disk_errors(f"cannot look at '{order.staged.parent}'"):
                _room(order.staged, order.reserve_bytes).check()

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
            return _store(archive, report, order, destination, context)

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

    def listed(self, destination: Destination, own: OwnArchives) -> list[NamedArchive]:
        found = destination.storage.list("", lambda name: own.parse(name) is not None)
        named = ((own.parse(stored.name), stored.size_bytes) for stored in found)
        return [replace(archive, size_bytes=size) for archive, size in named if archive]

    def manifest(self, destination: Destination, name: str, unlock: Unlock) -> Manifest | None:
        return self.open(destination, name, unlock).manifest()

    def remove(self, removal: Removal) -> Freed:
        for name in removal.names:
            removal.context.token.check()
            if not removal.dry_run:
                removal.destination.storage.delete(name)
            removal.removed(name)
        return Freed(sum(removal.names.values()))

    def open(self, destination: Destination, name: str, unlock: Unlock) -> SavedTree:
        storage = destination.storage
        file = RangedFile(lambda offset, size_bytes: storage.read_range(name, offset, size_bytes))
        return open_archive(cast(BinaryIO, file), unlock)


def _store(
    archive: Iterator[bytes],
    report: Report,
    order: SaveOrder,
    destination: Destination | None,
    context: Context,
) -> Saved:
    """Encrypt the archive if need be, and store or stage it, as `Format.save` promises.

    A destination that takes a stream needs no copy on the device's disk.
    """
    with (
        closing(_watched(archive, report, order, context)) as plain,
        closing(encrypt(plain, order.encryption) if order.encryption else plain) as chunks,
    ):
        if destination is None:
            size, digests = _write_file(chunks, order.staged, order.reserve_bytes, checksum=False)
            return Saved(size, digests["sha256"], None)
        if destination.needs_size:
            return _store_by_file(chunks, order, destination, context)
        source = StreamSource(chunks, context.token, rate=context.rate())
        stored = destination.put(source, context)
        return Saved(stored.size_bytes, source.sha256, stored)


def _room(path: Path, reserve_bytes: int) -> Room:
    return Room(path.parent, f"the storage '{path.parent}'", reserve_bytes, NoSpace)


def _watched(
    chunks: Iterator[bytes], report: Report, order: SaveOrder, context: Context
) -> Generator[bytes, None, None]:
    """Yield the chunks, and tell the progress.

    With `order.strict` SourceChanged is raised in the stream, so that the provider discards what it got.
    """
    if order.expected_bytes is not None:
        context.expect(order.expected_bytes)
    for chunk in chunks:
        context.progress(report.read_bytes)
        yield chunk
    if order.strict:
        report.refuse_failures()


def _store_by_file(
    chunks: Iterator[bytes], order: SaveOrder, destination: Destination, context: Context
) -> Saved:
    """Store by way of a temporary file, for a destination that must know the length."""
    part = order.staged.with_suffix(".direct")
    try:
        size, digests = _write_file(chunks, part, order.reserve_bytes, checksum=order.checksum)
        context.phase("uploading")
        context.expect(size)
        md5 = bytes.fromhex(digests["md5"]) if order.checksum else None
        source = FileSource(part, context.token, context.progress, rate=context.rate(), md5=md5)
        with closing(source):
            stored = destination.put(source, context)
    finally:
        with suppress(OSError):  # what a failing disk keeps, the next start removes
            part.unlink()
    return Saved(size, digests["sha256"], stored)


def _write_file(
    chunks: Iterator[bytes], path: Path, reserve_bytes: int, *, checksum: bool
) -> tuple[int, dict[str, str]]:
    """Write the archive to `path`, durably and in one step; return its size and its hashes by algorithm."""
    hashes = {"sha256": hashlib.sha256()}
    if checksum:
        hashes["md5"] = hashlib.md5(usedforsecurity=False)
    part = path.with_name(f"{path.name}.part")
    try:
        with disk_errors(f"cannot write the archive to '{path.parent}'"):
            size = 0
            with open(part, "xb", opener=private) as file:
                write_back = WriteBack(file.fileno())
                left = _room(path, reserve_bytes)
                for chunk in chunks:
                    left.take(len(chunk))
                    file.write(chunk)
                    size += len(chunk)
                    write_back.reached(size)
                    for digest in hashes.values():
                        digest.update(chunk)
                file.flush()
                os.fsync(file.fileno())  # before the final name says that it is complete
            part.rename(path)
            sync_directory(path.parent)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    return size, {name: digest.hexdigest() for name, digest in hashes.items()}
