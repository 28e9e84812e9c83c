"""Raw Deflate at the levels that people choose, whole files at once or big ones block by block.

The blocks of one file are compressed on any thread and joined afterwards, as pigz does it: each has the
end of the one before as its dictionary, and ends at a byte border (Z_SYNC_FLUSH) without being the last.
What does not shrink is not compressed: already compressed content costs zlib-ng as much time as text.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from agent.formats.zip.compressors import RAW, Bytes, Compressors, isal, zlib_ng

BLOCK_BYTES = 1 << 20
HISTORY_BYTES = 1 << 15
"""The reach of Deflate (RFC 1951, 2): the dictionary of the next block."""
LAST_BLOCK = b"\x03\x00"
"""An empty block that is marked as the last one (RFC 1951, 3.2.3): it ends what was made of blocks."""

_STORED = struct.Struct("<BHH")
_STORED_BYTES = 65_535
_LITTLE_BYTES = 1 << 13
_SAMPLED_FROM_BYTES = 1 << 15
_SAMPLE_BYTES = 1 << 12
_WORTH_IT = 0.97

_fast = isal()

crc32: Callable[[Bytes, int], int] = _fast.crc32
"""CRC-32 (APPNOTE 4.4.7) of more bytes, continuing the given one."""
InflateError: type[Exception] = _fast.error


class Deflater:
    """One level of compression. Keeps nothing between calls but memory; any thread may use it."""

    def __init__(self, compressors: Compressors | None, little: Compressors | None = None) -> None:
        """None does not compress. `little` is for whole files up to 8 KiB."""
        self._compressors, self._little = compressors, little or compressors
        self._quick = Compressors(isal(), 1, _room_bytes(4 * _SAMPLE_BYTES))

    def wholes(self, contents: Sequence[bytes]) -> list[tuple[bytes, int]]:
        """Return for each a raw Deflate stream without `LAST_BLOCK`, empty when not tried, and the CRC-32.

        The loop does nothing but compress the little ones: the thread that reads files and puts the
        archive together waits for Python's lock as long as this one has it.
        """
        if self._little is None:
            return [(b"", crc32(content, 0)) for content in contents]
        with self._little.lent() as compress:
            return [
                compress(content, b"") if 0 < len(content) <= _LITTLE_BYTES else self._whole(content)
                for content in contents
            ]

    def _whole(self, content: bytes) -> tuple[bytes, int]:
        if self._compressors is None or not self._is_worth_it(content):
            return b"", crc32(content, 0)
        with self._compressors.lent() as compress:
            return compress(content, b"")

    def block(self, data: Bytes, history: Bytes) -> bytes | None:
        """A part of a stream, complete up to a byte border; `history` is what came before, at most 32 KiB.

        None for what does not shrink: it becomes `stored` blocks. So a big file is always method 8, which
        every tool reads from a stream; method 0 with sizes that follow the data is what some cannot read.
        """
        if self._compressors is None or not self._is_worth_it(data):
            return None
        compressed = self._compressors.next_part(data, history)
        return compressed if len(compressed) < len(data) else None

    def _is_worth_it(self, data: Bytes) -> bool:
        """Return True when four samples spread over `data` shrink by 3 %. Short data is tried at once."""
        if len(data) < _SAMPLED_FROM_BYTES:
            return bool(data)
        step = len(data) // 4
        sample = b"".join(data[start : start + _SAMPLE_BYTES] for start in range(0, 4 * step, step))
        with self._quick.lent() as compress:
            return len(compress(sample, b"")[0]) < len(sample) * _WORTH_IT


def deflater(level: str) -> Deflater:
    """The compressor of `store`, `fast`, `balanced` or `small`. Raises ValueError for any other."""
    if level == "store":
        return Deflater(None)
    if level == "fast":
        return Deflater(Compressors(isal(), 1, _room_bytes(BLOCK_BYTES)))
    if level == "balanced":
        # With so little to look at, ISA-L packs 4 % less tightly than zlib-ng 5, in a third of its time.
        little = Compressors(isal(), 1, _room_bytes(_LITTLE_BYTES))
        return Deflater(Compressors(zlib_ng(), 5, _room_bytes(BLOCK_BYTES)), little)
    if level == "small":
        return Deflater(Compressors(zlib_ng(), 7, _room_bytes(BLOCK_BYTES)))
    raise ValueError(f"there is no compressor '{level}'")


def _room_bytes(size_bytes: int) -> int:
    """More than any library makes of so much that does not shrink."""
    return size_bytes + (size_bytes >> 3) + 1024


class Inflater(Protocol):
    """zlib's decompression object, as far as it is used here."""

    eof: bool
    unconsumed_tail: bytes
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def inflater() -> Inflater:
    """Return an inflater of one raw Deflate stream. Its `decompress` raises `InflateError`."""
    stream: Inflater = _fast.decompressobj(RAW)
    return stream


def stored(data: Bytes) -> Iterator[bytes]:
    """Deflate's stored blocks (RFC 1951, 3.2.4), none the last. They begin at the byte border left before."""
    for start in range(0, len(data), _STORED_BYTES):
        part = data[start : start + _STORED_BYTES]
        yield b"".join((_STORED.pack(0, len(part), len(part) ^ 0xFFFF), part))
