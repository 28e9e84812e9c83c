"""`backup`: its steps in reading order, in a worker's thread.

It is one straight synchronous function. It talks back only through the callbacks of its `Context` and
listens only to its cancel token; it returns a result, or raises a `JobError` or a `StorageError`.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from agent.base.durable import sync_directory
from agent.base.errors import NoSpace, SourceChanged, disk_errors
from agent.formats.base import Entry
from agent.formats.manifest import Origin
from agent.formats.survey import ArchiveLimits
from agent.formats.walk_report import Report
from agent.formats.zip.manifest_block import manifest_block
from agent.formats.zip.writer import ArchiveOptions, write_archive
from agent.save.change_detection import Kept, Looker, is_still_there
from agent.save.walk import Part, walk
from agent.transfer.context import Context, Destination, RunHook
from agent.transfer.put import put
from agent.transfer.streams import (
    FileSource,
    StreamSource,
    private,
)
from providers.api import Stored
from providers.free_space import Room
from providers.writeback import WriteBack

Encryption = Callable[[Iterator[bytes]], Generator[bytes, None, None]]
"""Makes a encrypted archive of a plain one."""


@dataclass(frozen=True, slots=True)
class BackupOrder:
    """Archive the `parts` and keep that at `place`; without one, stage it as `staged`."""

    parts: tuple[Part, ...]
    """At least one; in the order in which they are archived."""
    own_storage: Path
    staged: Path
    destination: Destination | None
    options: ArchiveOptions
    strict: bool
    checksum: bool
    skip_unchanged: bool = False
    """Nothing is made while the tree looks as it did when `last` was made, and that is still at `place`."""
    last: Kept | None = None
    expected_bytes: int | None = None
    """How much content there probably is: as much as the last time."""
    reserve_bytes: int = 0
    """Free space that has to be left where archives are staged."""
    collect: RunHook | None = None
    """Kanto's `backupCmd`: it collects what is archived in the directory of the one part, made for it."""
    encrypt: Encryption | None = None
    origin: Origin | None = None
    """What the archive's manifest says beside what is in it; None for an archive without one."""


@dataclass(frozen=True, slots=True)
class BackupResult:
    report: Report
    size_bytes: int
    sha256: str
    stored: Stored | None
    """None when the archive was staged."""
    kept: Kept | None = None
    """What is to be remembered for the next time, with `skip_unchanged`."""
    skipped: bool = False
    """Nothing had changed: `stored` is the archive of an earlier job."""


def backup(order: BackupOrder, context: Context) -> BackupResult:
    """Make an archive and store it, or stage it.

    With a place that takes a stream there is no copy on the device's disk. Returned means stored and
    readable, or complete and durable in staging; raised means that neither is left behind.
    """
    if order.destination is None or order.destination.needs_size:
        with disk_errors(f"cannot look at '{order.staged.parent}'"):
            _room(order.staged, order.reserve_bytes).check()
    with _collected(order, context):
        if order.destination is None or not order.skip_unchanged:
            return _archived(order, context)
        return _unless_unchanged(order, order.destination, context)


def _unless_unchanged(order: BackupOrder, destination: Destination, context: Context) -> BackupResult:
    context.phase("comparing")
    looker = Looker(f"{order.options.level} {order.options.dialect}")
    with closing(_entries(order, looker.report, context.token.check)) as entries:
        look = looker.at(entries)
    last = order.last
    if last and last.look == look.digest and not (order.strict and look.report.failures):
        there = is_still_there(destination.storage, last)
        context.token.check()
        if there:
            stored = Stored(last.name, last.size_bytes, last.etag, replace(destination, name=last.name).shown)
            return BackupResult(look.report, last.size_bytes, "", stored, last, skipped=True)
    result = _archived(order, context)
    # What changed while the archive was made is in it as it was at some moment, and looks different by now.
    whole = look.settled and result.report.reasons == look.report.reasons
    if whole and (made := result.stored):
        return replace(result, kept=Kept(look.digest, made.name, made.size_bytes, made.etag))
    return result


def _room(path: Path, reserve_bytes: int) -> Room:
    return Room(path.parent, f"the storage '{path.parent}'", reserve_bytes, NoSpace)


@contextmanager
def _collected(order: BackupOrder, context: Context) -> Iterator[None]:
    if order.collect is None:
        yield
        return
    context.phase("collecting")
    (part,) = order.parts
    with work_directory(part.root.directory):
        order.collect(part.root.directory, context.token)
        yield


@contextmanager
def work_directory(path: Path) -> Iterator[None]:
    """An empty private directory, gone again afterwards."""
    with disk_errors(f"cannot make the directory '{path}'"):
        path.mkdir(mode=0o700)
    try:
        yield
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _archived(order: BackupOrder, context: Context) -> BackupResult:
    report, check = Report(context.left_out), context.token.check
    manifest = partial(manifest_block, order.origin) if order.origin else None
    context.phase("archiving")
    with (
        closing(_entries(order, report, check)) as entries,
        closing(write_archive(entries, report, order.options, check, manifest)) as archive,
        closing(_watched(archive, report, order.expected_bytes, context)) as watched,
        closing(_strict(watched, report, order.strict)) as whole,
        closing(order.encrypt(whole) if order.encrypt else whole) as chunks,
    ):
        if order.destination is None:
            size, digests = _write_file(chunks, order.staged, order.reserve_bytes, checksum=False)
            return BackupResult(report, size, digests["sha256"], None)
        if order.destination.needs_size:
            return _store_by_file(chunks, order.destination, order, report, context)
        source = StreamSource(chunks, context.token, rate=context.rate())
        stored = put(order.destination, source, context)
        return BackupResult(report, stored.size_bytes, source.sha256, stored)


def _entries(order: BackupOrder, report: Report, check: Callable[[], None]) -> Generator[Entry, None, None]:
    for part in order.parts:
        with disk_errors(f"cannot read '{part.root.directory}'"):
            yield from walk(part, report, order.own_storage, check)


def _watched(
    chunks: Iterator[bytes], report: Report, expected_bytes: int | None, context: Context
) -> Generator[bytes, None, None]:
    """The same chunks; tells how much of the content has been read for them."""
    if expected_bytes is not None:
        context.expect(expected_bytes)
    for chunk in chunks:
        context.progress(report.read_bytes)
        yield chunk


def _strict(chunks: Iterator[bytes], report: Report, strict: bool) -> Generator[bytes, None, None]:
    """The same chunks; with `strictBackup`, an error instead of an end when something was left out.

    Raised in the stream, so that the provider takes back what it was given.
    """
    yield from chunks
    if strict and report.failures:
        raise SourceChanged(f"strictBackup is set, and {summary(report)}")


def about(result: BackupResult, limits: ArchiveLimits) -> str:
    """Return what people should know of a backup that ended well; empty when there is nothing to say.

    `limits` are those of a restore on this device.
    """
    parts = [summary(result.report), _beyond(result.report, limits)]
    if result.skipped and result.stored:
        parts.insert(0, f"nothing has changed since '{result.stored.name}' was stored: no archive was made")
    return "; ".join(filter(None, parts))


def _beyond(report: Report, limits: ArchiveLimits) -> str:
    """Return which settings the restore of an archive needs that is larger than they allow now."""
    entries = report.files + report.directories + report.links
    needed = {
        f"restore.maxSize {report.size_bytes}": report.size_bytes > limits.max_bytes,
        f"restore.maxFiles {entries}": entries > limits.max_files,
    }
    names = " and ".join(name for name, is_beyond in needed.items() if is_beyond)
    return f"a restore needs a higher setting: at least {names}" if names else ""


def summary(report: Report) -> str:
    """How much was left out and why, for people; empty when everything was saved."""
    if not report.left_out:
        return ""
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(report.reasons.items()))
    noun = "entry" if report.left_out == 1 else "entries"
    return f"{report.left_out} {noun} left out: {reasons}"


def _store_by_file(
    chunks: Iterator[bytes], destination: Destination, order: BackupOrder, report: Report, context: Context
) -> BackupResult:
    """For a place that must know the length: a file that is gone again afterwards, whatever happens."""
    part = order.staged.with_suffix(".direct")
    try:
        size, digests = _write_file(chunks, part, order.reserve_bytes, checksum=order.checksum)
        context.phase("uploading")
        context.expect(size)
        md5 = bytes.fromhex(digests["md5"]) if order.checksum else None
        with closing(
            FileSource(part, context.token, context.progress, rate=context.rate(), md5=md5)
        ) as source:
            stored = put(destination, source, context)
    finally:
        with suppress(OSError):  # what a failing disk keeps, the next start removes
            part.unlink()
    return BackupResult(report, size, digests["sha256"], stored)


def _write_file(
    chunks: Iterator[bytes], path: Path, reserve_bytes: int, *, checksum: bool
) -> tuple[int, dict[str, str]]:
    """Write the archive to `path` in one step: whoever sees the name sees all of it, on the disk."""
    hashes = {"sha256": hashlib.sha256()}
    if checksum:
        hashes["md5"] = hashlib.md5(usedforsecurity=False)
    part = path.with_name(f"{path.name}.part")
    try:
        with disk_errors(f"cannot write the archive to '{path.parent}'"):
            size = 0
            with open(part, "xb", opener=private) as file:
                write_back = WriteBack(file.fileno())
                room = _room(path, reserve_bytes)
                for chunk in chunks:
                    room.take(len(chunk))
                    file.write(chunk)
                    size += len(chunk)
                    write_back.reached(size)
                    for digest in hashes.values():
                        digest.update(chunk)
                file.flush()
                # The content must be on the disk before the name says that it is complete.
                os.fsync(file.fileno())
            part.rename(path)
            sync_directory(path.parent)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    return size, {name: digest.hexdigest() for name, digest in hashes.items()}
