"""Reads an archive by its central directory, block by block, and trusts nothing in it.

It reads archives of this agent, of Kanto's, of Info-ZIP, Python and Go: methods stored and deflated, Zip64,
data descriptors, bytes in front of the archive, gaps in it and any order. Everything that an archive says is
checked before it is used; a contradiction is an `ArchiveError`, never another exception.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import BinaryIO

from agent.base.errors import ArchiveError
from agent.formats.attributes import AttributeBudget
from agent.formats.entries import Item
from agent.formats.entry_names import bad_entry
from agent.formats.manifest import Manifest
from agent.formats.zip import records
from agent.formats.zip.deflate import InflateError, crc32, inflater
from agent.formats.zip.entry import parse_entry
from agent.formats.zip.listing import central_records, find_end, positional
from agent.formats.zip.manifest_block import read_manifest
from agent.formats.zip.records import CentralHeader

_CHUNK_BYTES = 1 << 17  # beyond 192 KiB, the allocator asks the kernel for each buffer: a third slower
_REMEMBERED_BYTES = 8 << 20  # about 12,000 entries with ordinary names
_ENTRY_BYTES = 1 << 9  # what one takes in memory besides its name and attributes
_ATTRIBUTE_BYTES = 200  # and what an attribute does besides its bytes
_MOST_UNORDERED = 200_000  # entries that are sorted in memory, in about 25 MiB
_LOCAL_EXTRA_BYTES = 256  # read along with the header; a longer extra field costs a second read


class ArchiveReader:
    """An archive in a file that can seek. Any number of threads may list and extract at the same time."""

    def __init__(self, file: BinaryIO, check: Callable[[], None] = lambda: None) -> None:
        """Find the central directory. The file stays the caller's to close.

        `check` is called for each record that is listed, and ends the listing by raising. Raises ArchiveError
        for no archive, one that was cut off, or a part of one; this and all methods raise OSError when the
        file cannot be read.
        """
        self._read_at, self._cancel_point = positional(file), check
        self._known: list[Item] | None = None
        self._end = find_end(self._read_at, file.seek(0, io.SEEK_END))

    def manifest(self) -> Manifest | None:
        return read_manifest(self._read_at, self._end.offset)

    def items(self) -> Iterator[Item]:
        """Yield the entries in the order of the central directory, without one for the root itself (`./`).

        Keeps one block of 256 KiB in memory, and up to 8 MiB of entries: a small archive is not parsed twice.
        Raises ArchiveError for damage, as `parse_entry`, and for entries that overlap, as those of bombs do.
        """
        if self._known is not None:
            for item in self._known:
                self._cancel_point()
                yield item
            return
        known, known_bytes = list[Item](), 0
        data_end, are_apart, attributes = 0, False, AttributeBudget()
        for central, raw_name, extra in self._records():
            item = parse_entry(central, raw_name, extra, self._end.moved_by, attributes)
            offset = item.location.offset
            if offset < data_end and not are_apart:
                self._check_apart()
                are_apart = True
            data_end = offset + records.LOCAL_BYTES + len(raw_name) + item.packed_size
            if data_end > self._end.offset:
                raise _beyond(item)
            if item.name:
                known_bytes += _remembered_bytes(item, len(raw_name) + len(extra))
                if known_bytes <= _REMEMBERED_BYTES:
                    known.append(item)
                yield item
        if known_bytes <= _REMEMBERED_BYTES:
            self._known = known

    def _records(self) -> Iterator[tuple[CentralHeader, bytes, bytes]]:
        for record in central_records(self._read_at, self._end):
            self._cancel_point()
            yield record

    def _check_apart(self) -> None:
        """Raise ArchiveError when entries overlap, in an archive that does not list them by offset."""
        spans, attributes = list[tuple[int, int]](), AttributeBudget()
        for central, raw_name, extra in self._records():
            item = parse_entry(central, raw_name, extra, self._end.moved_by, attributes)
            spans.append((item.location.offset, _data_end(item)))
            if len(spans) > _MOST_UNORDERED:
                raise ArchiveError(f"the archive has more than {_MOST_UNORDERED} entries, and out of order")
        spans.sort()
        if any(begin < end for (_, end), (begin, _) in pairwise(spans)):
            raise ArchiveError("the archive is damaged or hostile: one of its entries overlaps another")

    def read(self, item: Item, write: Callable[[bytes], object]) -> None:
        chunks = self._compressed(item)
        size = crc = 0
        for piece in chunks if item.location.method == records.STORED else _inflated(chunks, item):
            size += len(piece)
            if size > item.size:
                break
            crc = crc32(piece, crc)
            write(piece)
        _check(item, size, crc)

    def contents(self, items: Sequence[Item]) -> Iterator[bytes]:
        start = min(item.location.offset for item in items)
        last = max(items, key=lambda item: item.location.offset)
        window = self._read_at(start, last.location.offset - start + _header_bytes(last) + last.packed_size)
        for item in items:
            yield self._content(item, window, item.location.offset - start)

    def span_bytes(self, first: Item, last: Item) -> int:
        begin: int = first.location.offset
        end: int = last.location.offset
        return end + last.packed_size - begin if begin <= end else begin + first.packed_size - end

    @property
    def reads_quickly(self) -> bool:
        return True

    def checksum(self, item: Item) -> str:
        return f"{item.location.crc32:08x}"

    def _content(self, item: Item, window: bytes, at: int) -> bytes:
        begin = at + _checked_header(item, window, at)
        end = begin + item.packed_size
        if end > len(window) or item.location.offset - at + end > self._end.offset:
            # The last item has a very long extra field, or reaches beyond the archive.
            parts: list[bytes] = []
            self.read(item, parts.append)
            return b"".join(parts)
        content = window[begin:end]
        if item.location.method != records.STORED:
            content = _inflated_whole(content, item)
        _check(item, len(content), crc32(content, 0))
        return content

    def _compressed(self, item: Item) -> Iterator[bytes]:
        """Yield the item's data as it is in the archive. A small file takes one read with its header."""
        head = self._read_at(item.location.offset, _header_bytes(item) + min(item.packed_size, _CHUNK_BYTES))
        begin = _checked_header(item, head)
        position, end = item.location.offset + begin, item.location.offset + begin + item.packed_size
        if end > self._end.offset:
            raise _beyond(item)
        chunk = head[begin : begin + item.packed_size]
        while position < end:
            if chunk:
                yield chunk
                position += len(chunk)
            if position == end:
                return
            chunk = self._read_at(position, min(_CHUNK_BYTES, end - position))
            if not chunk:
                raise bad_entry(item.name, "was cut off while it was being read")


def _remembered_bytes(item: Item, record_bytes: int) -> int:
    return _ENTRY_BYTES + 3 * record_bytes + _ATTRIBUTE_BYTES * len(item.xattrs)


def _data_end(item: Item) -> int:
    """Return where the data ends at the earliest: the local header may be longer."""
    location = item.location
    return int(location.offset) + records.LOCAL_BYTES + len(location.raw_name) + item.packed_size


def _header_bytes(item: Item) -> int:
    """Return how many bytes to read for the local header, which is rarely longer."""
    return records.LOCAL_BYTES + len(item.location.raw_name) + _LOCAL_EXTRA_BYTES


def _checked_header(item: Item, window: bytes, at: int = 0) -> int:
    """Return the length of the local header (APPNOTE 4.3.7). Raises ArchiveError when it does not match."""
    local = records.parse_local(window, at)
    same = (
        local is not None
        and local.name_bytes == len(item.location.raw_name)
        and window.startswith(item.location.raw_name, at + records.LOCAL_BYTES)
        and local.method == item.location.method
        and not local.flags & records.ENCRYPTED
    )
    if local is None or not same:
        raise bad_entry(item.name, "is damaged: its two headers differ")
    return records.LOCAL_BYTES + local.name_bytes + local.extra_bytes


def _check(item: Item, size_bytes: int, crc: int) -> None:
    if size_bytes != item.size:
        raise bad_entry(item.name, "has not the size that it announces")
    if crc != item.location.crc32:
        raise bad_entry(item.name, "is damaged: its checksum is wrong")


def _inflated_whole(data: bytes, item: Item) -> bytes:
    """Inflate at once, at most one byte more than announced, by which the caller finds the excess."""
    stream = inflater()
    try:
        content = stream.decompress(data, item.size + 1)
    except InflateError as error:
        raise _damaged(item) from error
    if len(content) <= item.size and (not stream.eof or stream.unused_data):
        raise _damaged(item)
    return content


def _inflated(chunks: Iterator[bytes], item: Item) -> Iterator[bytes]:
    """Inflate in pieces of bounded size. Raises ArchiveError unless the data ends where Deflate ends."""
    stream = inflater()
    for chunk in chunks:
        if stream.eof:
            raise _damaged(item)
        rest, piece = chunk, b""
        # A full piece may not have been all: more can come without more input.
        while not stream.eof and (rest or len(piece) == _CHUNK_BYTES):
            try:
                piece = stream.decompress(rest, _CHUNK_BYTES)
            except InflateError as error:
                raise _damaged(item) from error
            if piece:
                yield piece
            rest = stream.unconsumed_tail
    if not stream.eof or stream.unused_data:
        raise _damaged(item)


def _damaged(item: Item) -> ArchiveError:
    return bad_entry(item.name, "is damaged: it cannot be inflated")


def _beyond(item: Item) -> ArchiveError:
    return bad_entry(item.name, "reaches beyond the archive's data")
