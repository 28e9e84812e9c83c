"""Stores an archive while it is being made, or stages it."""

import hashlib
import os
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path

from agent.base.durable import sync_directory
from agent.base.errors import NoSpace, disk_errors
from agent.formats.age.files import encrypt
from agent.formats.base import Saved, SaveOrder
from agent.formats.walk_report import Report
from agent.transfer.context import Context, Destination
from agent.transfer.put import put
from agent.transfer.streams import FileSource, StreamSource, private
from providers.free_space import Room
from providers.writeback import WriteBack


def store(
    archive: Iterator[bytes],
    report: Report,
    order: SaveOrder,
    destination: Destination | None,
    context: Context,
) -> Saved:
    """Encrypt an archive if need be, and store or stage it, as `Format.save` promises.

    With a destination that takes a stream there is no copy on the device's disk.
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
        stored = put(destination, source, context)
        return Saved(stored.size_bytes, source.sha256, stored)


def room(path: Path, reserve_bytes: int) -> Room:
    """Return the room where `path` is staged."""
    return Room(path.parent, f"the storage '{path.parent}'", reserve_bytes, NoSpace)


def _watched(
    chunks: Iterator[bytes], report: Report, order: SaveOrder, context: Context
) -> Generator[bytes, None, None]:
    """Yield the chunks; tell how much of the content has been read for them.

    What `strictBackup` refuses is raised in the stream, so that the provider takes back what it was given.
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
    """Store by way of a file, which is gone again afterwards, where the destination must know the length."""
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
    return Saved(size, digests["sha256"], stored)


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
                left = room(path, reserve_bytes)
                for chunk in chunks:
                    left.take(len(chunk))
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
