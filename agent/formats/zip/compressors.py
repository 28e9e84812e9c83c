"""The libraries that compress: ISA-L, the fastest, zlib-ng, the thorough one, zlib without their wheels."""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Protocol

Bytes = bytes | bytearray | memoryview

_WINDOW_BYTES = 1 << 16  # what zlib-ng looks at in one go
RAW = -15  # wbits: a window of 32 KiB, neither header nor checksum


def isal() -> ModuleType:
    """Return ISA-L, or zlib without its wheel; also the fastest at inflating."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


def zlib_ng() -> ModuleType:
    try:
        from zlib_ng import zlib_ng
    except ImportError:
        return zlib
    return zlib_ng


class Compressor(Protocol):
    """Works on one piece of content after the other; they have nothing to do with each other."""

    def compress_and_crc(self, data: Bytes, history: Bytes, /) -> tuple[bytes, int]:
        """The next part of a raw Deflate stream, up to a byte border, and the CRC-32 of `data`.

        `history` is what came before in the same stream, at most 32 KiB.
        """


class _ZlibCompressor:
    def __init__(self, level: int) -> None:
        self._level = level

    def compress_and_crc(self, data: Bytes, history: Bytes, /) -> tuple[bytes, int]:
        dictionary = (bytes(history),) if history else ()
        stream = zlib.compressobj(self._level, zlib.DEFLATED, RAW, 8, zlib.Z_DEFAULT_STRATEGY, *dictionary)
        return stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH), zlib.crc32(data)


class Compressors:
    """One level of one library, for any number of threads: each borrows a compressor while it works.

    isal and zlib-ng have one that was made for their own programs with several threads. It keeps its
    memory, which takes longer to set up than a small file to compress, and gives Python's lock away once
    for each piece.
    """

    def __init__(self, library: ModuleType, level: int, room_bytes: int) -> None:
        """`room_bytes`: more than the largest piece becomes."""
        reusable = getattr(library, "_ParallelCompress", None)
        self._new: Callable[[], Compressor] = (
            partial(reusable, room_bytes, level) if reusable else partial(_ZlibCompressor, level)
        )
        self._idle: list[Compressor] = []
        self._zeros = bytes(_WINDOW_BYTES) if reusable and library is zlib_ng() else b""

    @contextmanager
    def lent(self) -> Iterator[Callable[[Bytes, Bytes], tuple[bytes, int]]]:
        """`Compressor.compress_and_crc` of one that is nobody else's while inside."""
        try:
            compressor = self._idle.pop()
        except IndexError:
            compressor = self._new()
        yield compressor.compress_and_crc
        self._idle.append(compressor)

    def next_part(self, data: Bytes, history: Bytes) -> bytes:
        """Return the next part of a stream: equal bytes, whatever was compressed before.

        Where there is a history, zlib-ng compares beyond the end of a piece, with what an earlier one left
        there. The result is right either way, but not always the same: so there are zeros.
        """
        with self.lent() as compress:
            if history and self._zeros:
                compress(self._zeros, b"")
            return compress(data, history)[0]
