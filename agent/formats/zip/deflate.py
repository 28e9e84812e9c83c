"""Raw Deflate at the levels that people choose, whole files at once or big ones block by block.

The blocks of one file are compressed on any thread and joined afterwards, as pigz does it: each block has
the end of the block before as its dictionary, and ends at a byte border (Z_SYNC_FLUSH). Content that does not
shrink is stored: zlib-ng would need as much time for it as for text.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Protocol

Bytes = bytes | bytearray | memoryview

BLOCK_BYTES = 1 << 20
HISTORY_BYTES = 1 << 15
"""Deflate looks back this far (RFC 1951, 2): the size of the dictionary of the next block."""
LAST_BLOCK = b"\x03\x00"
"""An empty block that is marked as the last one (RFC 1951, 3.2.3): it ends a stream of blocks."""

_STORED = struct.Struct("<BHH")
_STORED_BYTES = 65_535
_LITTLE_BYTES = 1 << 13
_SAMPLED_FROM_BYTES = 1 << 15
_SAMPLE_BYTES = 1 << 12
_WORTH_IT = 0.97
_RAW = -15  # wbits: a window of 32 KiB, neither header nor checksum
_WINDOW_BYTES = 1 << 16  # what zlib-ng looks at in one go


def isal() -> ModuleType:
    """Return ISA-L, the fastest, also at inflating; zlib where the wheel of isal is not installed."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


def _zlib_ng() -> ModuleType:
    """Return zlib-ng, the thorough one; zlib where its wheel is not installed."""
    try:
        from zlib_ng import zlib_ng
    except ImportError:
        return zlib
    return zlib_ng


_fast = isal()

crc32: Callable[[Bytes, int], int] = _fast.crc32
"""Takes bytes and the CRC-32 of all before them; returns the CRC-32 (APPNOTE 4.4.7) of all."""
InflateError: type[Exception] = _fast.error


class _Compressor(Protocol):
    """Compresses pieces of content, each independent of the others."""

    def compress_and_crc(self, data: Bytes, history: Bytes, /) -> tuple[bytes, int]:
        """Return the next part of a raw Deflate stream, up to a byte border, and the CRC-32 of `data`.

        `history` is the end of the stream so far, at most 32 KiB.
        """


class _ZlibCompressor:
    def __init__(self, level: int) -> None:
        self._level = level

    def compress_and_crc(self, data: Bytes, history: Bytes, /) -> tuple[bytes, int]:
        dictionary = (bytes(history),) if history else ()
        stream = zlib.compressobj(self._level, zlib.DEFLATED, _RAW, 8, zlib.Z_DEFAULT_STRATEGY, *dictionary)
        return stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH), zlib.crc32(data)


class Compressors:
    """One level of one library, for any number of threads: each borrows a compressor while it works.

    isal and zlib-ng have a compressor that keeps its memory: setting it up takes longer than compressing a
    small file. It releases Python's lock once for each piece.
    """

    def __init__(self, library: ModuleType, level: int, largest_bytes: int) -> None:
        """`largest_bytes` is the size of the largest piece."""
        room_bytes = largest_bytes + (largest_bytes >> 3) + 1024  # for a piece that does not shrink
        reusable = getattr(library, "_ParallelCompress", None)
        self._new: Callable[[], _Compressor] = (
            partial(reusable, room_bytes, level) if reusable else partial(_ZlibCompressor, level)
        )
        self._idle: list[_Compressor] = []
        self._zeros = bytes(_WINDOW_BYTES) if reusable and library is _zlib_ng() else b""

    @contextmanager
    def lent(self) -> Iterator[Callable[[Bytes, Bytes], tuple[bytes, int]]]:
        """Yield the `compress_and_crc` of a compressor that no other thread uses meanwhile."""
        try:
            compressor = self._idle.pop()
        except IndexError:
            compressor = self._new()
        yield compressor.compress_and_crc
        self._idle.append(compressor)

    def next_part(self, data: Bytes, history: Bytes) -> bytes:
        """Return the next part of a stream: equal bytes for equal arguments.

        With a history, zlib-ng looks beyond the end of a piece, at what an earlier piece left in its memory.
        The result is right either way, but not always equal: so zeros are put there first.
        """
        with self.lent() as compress:
            if history and self._zeros:
                compress(self._zeros, b"")
            return compress(data, history)[0]


class Deflater:
    """One level of compression, for any number of threads."""

    def __init__(self, compressors: Compressors | None, little: Compressors | None = None) -> None:
        """`compressors`: None stores everything. `little` is for whole files up to 8 KiB."""
        self._compressors, self._little = compressors, little or compressors
        self._quick = Compressors(isal(), 1, 4 * _SAMPLE_BYTES)

    def wholes(self, contents: Sequence[bytes]) -> list[tuple[bytes, int]]:
        """Return for each content a raw Deflate stream without `LAST_BLOCK` and the CRC-32.

        The stream is empty for content that is not worth compressing.

        The loop does as little as possible while it holds Python's lock: the thread that reads files and
        puts the archive together waits for it.
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
        """Return the next part of a stream, up to a byte border; None for a block that does not shrink.

        `history` is the end of the block before. A block that does not shrink becomes `stored` blocks: so a
        big file always has method 8, because some tools cannot read method 0 with sizes after the data.
        """
        if self._compressors is None or not self._is_worth_it(data):
            return None
        compressed = self._compressors.next_part(data, history)
        return compressed if len(compressed) < len(data) else None

    def _is_worth_it(self, data: Bytes) -> bool:
        """Return True when four samples spread over `data` shrink by 3 %, and for short data."""
        if len(data) < _SAMPLED_FROM_BYTES:
            return bool(data)
        step = len(data) // 4
        sample = b"".join(data[start : start + _SAMPLE_BYTES] for start in range(0, 4 * step, step))
        with self._quick.lent() as compress:
            return len(compress(sample, b"")[0]) < len(sample) * _WORTH_IT


def deflater(level: str) -> Deflater:
    """Return the deflater of `store`, `fast`, `balanced` or `small`."""
    if level == "store":
        return Deflater(None)
    if level == "fast":
        return Deflater(Compressors(isal(), 1, BLOCK_BYTES))
    if level == "balanced":
        # On little files ISA-L packs 4 % less tightly than zlib-ng 5, in a third of its time.
        little = Compressors(isal(), 1, _LITTLE_BYTES)
        return Deflater(Compressors(_zlib_ng(), 5, BLOCK_BYTES), little)
    return Deflater(Compressors(_zlib_ng(), 7, BLOCK_BYTES))


class Inflater(Protocol):
    """The part of zlib's decompression object that is used here."""

    eof: bool
    unconsumed_tail: bytes
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def inflater() -> Inflater:
    """Return an inflater of one raw Deflate stream. Its `decompress` raises `InflateError`."""
    stream: Inflater = _fast.decompressobj(_RAW)
    return stream


def stored(data: Bytes) -> Iterator[bytes]:
    """Yield `data` as stored blocks (RFC 1951, 3.2.4), none marked as the last."""
    for start in range(0, len(data), _STORED_BYTES):
        part = data[start : start + _STORED_BYTES]
        yield b"".join((_STORED.pack(0, len(part), len(part) ^ 0xFFFF), part))
