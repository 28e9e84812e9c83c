"""Makes an archive as a stream of bytes that never seeks back.

The caller's thread walks, reads and assembles the output; a few others compress. Small files travel in
batches and have CRC and sizes in their local header, because they are compressed before it is written. Big
files are cut into blocks and followed by a data descriptor. Any number of threads makes equal bytes.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from agent.formats.entries import FILE, LINK, Entry, read_whole
from agent.formats.ordered import OrderedPool
from agent.formats.walk_report import Report, reason_of
from agent.formats.zip import packing, records
from agent.formats.zip.deflate import BLOCK_BYTES, LAST_BLOCK, Deflater, crc32, stored
from agent.formats.zip.directory import CentralDirectory
from agent.formats.zip.effort import Effort
from agent.formats.zip.packing import Block, Streamed

R = TypeVar("R")

_BATCH_FILES = 64
_BATCH_BYTES = 1 << 18
_BUDGET_BYTES = 4 << 20  # content that is being compressed or waits for its turn to go out
_ZIP64_FROM_BYTES = 0xF000_0000  # what does not shrink grows a little: 5 bytes in 65,535


@dataclass(frozen=True, slots=True)
class ArchiveOptions:
    """Options of new archives, as the settings `archive.*` have them."""

    level: str = "balanced"
    dialect: str = "standard"
    """`kanto`: what Kanto's own restore can restore. Names of directories end in a backslash; links and names
    with a backslash are skipped."""
    threads: int = 2
    scratch: str | None = None
    """Directory for temporary files; None for the process' own."""


def write_archive(
    entries: Iterable[Entry],
    report: Report,
    options: ArchiveOptions,
    check: Callable[[], None],
    manifest: Callable[[Report], bytes] | None = None,
) -> Generator[bytes, None, None]:
    """Yield the archive of `entries`, in chunks of up to about a MiB; count in `report` what went in.

    `manifest` makes the block before the central directory from the complete report. Raises what `entries`
    and `check` raise, and NoSpace or IoError when there is no room for the temporary file of a very large
    central directory. A file that cannot be read is skipped and reported, even when a part of it has gone
    out: the central directory does not name it. A file that changes meanwhile is archived up to the size
    that it had when it was opened, and reported. Closing the iterator ends the threads, not `entries`.
    """
    writer = _Writer(report, options, check, manifest)
    back_s = time.monotonic()
    try:
        for chunk in writer.run(entries):
            given_s, before_s = time.monotonic(), back_s
            yield chunk
            back_s = time.monotonic()
            writer.effort.taken(len(chunk), back_s - given_s, back_s - before_s)
    finally:
        writer.close()


class _Writer:
    def __init__(
        self,
        report: Report,
        options: ArchiveOptions,
        check: Callable[[], None],
        manifest: Callable[[Report], bytes] | None,
    ) -> None:
        self._report, self._options, self._check, self._manifest = report, options, check, manifest
        self.effort = Effort(options.level, options.threads)
        self._pool = OrderedPool(options.threads, _BUDGET_BYTES)
        self._blocks = packing.Blocks()
        self._directory = CentralDirectory(options.scratch)
        self._offset = 0
        self._batch = packing.Batch()

    def run(self, entries: Iterable[Entry]) -> Iterator[bytes]:
        for entry in entries:
            if entry.kind is not FILE:
                self._add_other(entry)
            elif entry.stat.st_size <= BLOCK_BYTES:
                self._add_file(entry)
            else:
                yield from self._stream(entry)
            if self._batch.size_bytes >= _BATCH_BYTES or len(self._batch.members) >= _BATCH_FILES:
                self._check()
                self._flush()
                yield from self._pool.ready()
        self._flush()
        yield from self._pool.drain()
        yield from self._end()

    def close(self) -> None:
        self._pool.close()
        self._directory.close()

    def _add_file(self, entry: Entry) -> None:
        """Put a small file into the batch."""
        try:
            content = read_whole(entry.fd, entry.stat.st_size)
        except OSError as error:
            self._report.skip(entry.name, reason_of(error))
            return
        self._report.read_bytes += len(content)
        self._count_file(entry, len(content))
        self._batch.add(packing.member_of(entry, self._options.dialect), content)

    def _add_other(self, entry: Entry) -> None:
        if entry.kind is LINK:
            self._report.links += 1
        else:
            self._report.directories += 1
        self._batch.add(packing.member_of(entry, self._options.dialect), entry.target)

    def _flush(self) -> None:
        batch = self._batch
        if batch.members:
            wholes = partial(Deflater.wholes, contents=batch.contents)
            self._submit(wholes, partial(self._emit_batch, batch), batch.size_bytes, in_turn=True)
            self._batch = packing.Batch()

    def _submit(
        self,
        work: Callable[[Deflater], R],
        emit: Callable[[R], Iterator[bytes]],
        size_bytes: int,
        *,
        in_turn: bool = False,
    ) -> None:
        step = self.effort.step

        def timed() -> tuple[R, float]:
            began_s = time.monotonic()
            return work(step.deflater), time.monotonic() - began_s

        def counted(result: tuple[R, float]) -> Iterator[bytes]:
            begin = self._offset
            yield from emit(result[0])
            step.did(size_bytes, self._offset - begin, result[1])

        self._pool.submit(timed, counted, size_bytes, in_turn=in_turn)

    def _emit_batch(self, batch: packing.Batch, compressed: Sequence[tuple[bytes, int]]) -> Iterator[bytes]:
        data, offsets = batch.pack(compressed)
        for member, offset in zip(batch.members, offsets, strict=True):
            self._directory.add(records.central_header(member, self._offset + offset))
        yield self._emit(data)

    def _stream(self, entry: Entry) -> Iterator[bytes]:
        """Send a big file through the pool block by block, after what is in the batch."""
        left = entry.stat.st_size
        block = self._read_block(entry, left)
        if block is None:
            return
        self._flush()
        member = packing.member_of(entry, self._options.dialect)
        member.flags |= records.DESCRIPTOR
        member.method, member.zip64 = records.DEFLATED, left >= _ZIP64_FROM_BYTES
        streamed, history = Streamed(member), b""
        self._pool.then(partial(self._emit_header, streamed))
        while block is not None and block.size_bytes:
            self._check()
            # On this thread: it costs next to nothing, and the parts need no combining.
            member.crc = crc32(block.data, member.crc)
            compress = partial(Deflater.block, data=block.data, history=history)
            self._submit(compress, partial(self._emit_block, streamed, block), block.size_bytes)
            self._report.read_bytes += block.size_bytes
            member.size_bytes, left = member.size_bytes + block.size_bytes, left - block.size_bytes
            history = block.end()
            yield from self._pool.ready()
            block = self._read_block(entry, left)
        streamed.sound = block is not None
        self._pool.then(partial(self._emit_end, streamed))
        if streamed.sound:
            self._count_file(entry, member.size_bytes)

    def _read_block(self, entry: Entry, left_bytes: int) -> Block | None:
        """Return the next block, empty at the end of the file; None when it cannot be read (reported)."""
        try:
            return self._blocks.read(entry.fd, min(BLOCK_BYTES, left_bytes))
        except OSError as error:
            self._report.skip(entry.name, reason_of(error))
            return None

    def _emit_header(self, streamed: Streamed) -> Iterator[bytes]:
        streamed.offset = self._offset
        yield self._emit(records.local_header(streamed.member))

    def _emit_block(self, streamed: Streamed, block: Block, compressed: bytes | None) -> Iterator[bytes]:
        parts = stored(block.data) if compressed is None else (compressed,)
        for part in parts:
            streamed.member.compressed_bytes += len(part)
            yield self._emit(part)
        self._blocks.give_back(block)

    def _emit_end(self, streamed: Streamed) -> Iterator[bytes]:
        member = streamed.member
        member.compressed_bytes += len(LAST_BLOCK)
        if streamed.sound:
            self._directory.add(records.central_header(member, streamed.offset))
        yield self._emit(LAST_BLOCK + records.descriptor(member))

    def _emit(self, data: bytes) -> bytes:
        self._offset += len(data)
        return data

    def _end(self) -> Iterator[bytes]:
        if self._manifest:
            if not self._directory.entries:
                yield self._root()
            yield self._emit(self._manifest(self._report))
        yield from self._directory.chunks()
        entries, size_bytes = self._directory.entries, self._directory.size_bytes
        yield records.end_of_archive(entries, size_bytes, self._offset)

    def _root(self) -> bytes:
        """Return an entry for the root: unzip and 7-Zip take a manifest in an empty archive for damage."""
        member = packing.only_root(self._options.dialect)
        self._directory.add(records.central_header(member, self._offset))
        return self._emit(records.local_header(member))

    def _count_file(self, entry: Entry, size_bytes: int) -> None:
        self._report.files += 1
        self._report.size_bytes += size_bytes
        if entry.has_changed(size_bytes):
            self._report.skip(entry.name, "changed while read")
