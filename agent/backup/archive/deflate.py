"""Raw Deflate at the levels that people choose, whole files at once or big ones block by block.

The blocks of one file are compressed on any thread and joined afterwards, as pigz does it: each has the
end of the one before as its dictionary, and ends at a byte border (Z_SYNC_FLUSH) without being the last.
What does not shrink is not compressed: already compressed content costs zlib-ng as much time as text.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

BLOCK_BYTES = 1 << 20
HISTORY_BYTES = 1 << 15
"""How far back Deflate can refer (RFC 1951, 2): the dictionary of the next block."""
LAST_BLOCK = b"\x03\x00"
"""An empty block that is marked as the last one (RFC 1951, 3.2.3): it ends a file made of blocks."""

LEVELS = ("store", "fast", "balanced", "small")

_RAW = -15  # wbits: a window of 32 KiB, neither header nor checksum
_STORED = struct.Struct("<BHH")
_STORED_BYTES = 65_535
_LITTLE_BYTES = 1 << 13
_SAMPLED_FROM_BYTES = 1 << 16
_SAMPLE_BYTES = 1 << 13
_WORTH_IT = 0.97


def _isal() -> ModuleType:
    """ISA-L, the fastest in both directions where there is a wheel; zlib elsewhere."""
    try:
        from isal import isal_zlib
    except ImportError:
        import zlib

        return zlib
    return isal_zlib


def _zlib_ng() -> ModuleType:
    try:
        from zlib_ng import zlib_ng
    except ImportError:
        import zlib

        return zlib
    return zlib_ng


_fast = _isal()

crc32: Callable[[bytes, int], int] = _fast.crc32
"""CRC-32 (APPNOTE 4.4.7) of more bytes, continuing the given one."""
InflateError: type[Exception] = _fast.error


@dataclass(frozen=True, slots=True)
class Deflater:
    """One level of compression. Keeps no state between calls: any thread may use it."""

    library: ModuleType
    number: int
    little: int = 0
    """The level of the fast library for whole files up to 8 KiB, 0 for none. With so little to look at,
    ISA-L 3 packs 2 to 6 % less tightly than zlib-ng 5 and takes a third of its time, most of which goes
    into setting itself up."""

    def whole(self, data: bytes) -> bytes | None:
        """A complete raw Deflate stream, or None when `data` is best kept as it is."""
        if not self.number or (len(data) >= _SAMPLED_FROM_BYTES and _looks_compressed(data)):
            return None
        if self.little and len(data) <= _LITTLE_BYTES:
            compressed: bytes = _fast.compress(data, self.little, _RAW)
        else:
            compressed = self.library.compress(data, self.number, _RAW)
        return compressed if len(compressed) < len(data) else None

    def block(self, data: bytes, history: bytes) -> bytes:
        """A part of a stream, complete up to a byte border; `history` is what came before, at most 32 KiB.

        What does not shrink goes into stored blocks. So a big file is always method 8, which every tool
        reads from a stream; method 0 with sizes that follow the data is what some cannot read.
        """
        if not self.number or _looks_compressed(data):
            return _stored(data)
        stream = self.library.compressobj(self.number, 8, _RAW, 8, 0, *((history,) if history else ()))
        compressed: bytes = stream.compress(data) + stream.flush(self.library.Z_SYNC_FLUSH)
        return compressed if len(compressed) < len(data) else _stored(data)


def deflater(level: str) -> Deflater:
    """The compressor of one of `LEVELS`. Raises KeyError for any other."""
    return {
        "store": Deflater(_fast, 0),
        "fast": Deflater(_fast, 1),
        "balanced": Deflater(_zlib_ng(), 5, little=3),
        "small": Deflater(_zlib_ng(), 7),
    }[level]


class Inflater(Protocol):
    """zlib's decompression object, as far as it is used here."""

    eof: bool
    unconsumed_tail: bytes
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def inflater() -> Inflater:
    """For one raw Deflate stream. `decompress` raises `InflateError`."""
    stream: Inflater = _fast.decompressobj(_RAW)
    return stream


def _looks_compressed(data: bytes) -> bool:
    """Whether four samples spread over `data` do not shrink by 3 %."""
    step = max(len(data) // 4, 1)
    sample = b"".join(data[start : start + _SAMPLE_BYTES] for start in range(0, len(data), step))
    return len(_fast.compress(sample, 1, _RAW)) > len(sample) * _WORTH_IT


def _stored(data: bytes) -> bytes:
    """Deflate's stored blocks (RFC 1951, 3.2.4), none the last. They begin at the byte border left before."""
    parts: list[bytes] = []
    for start in range(0, len(data), _STORED_BYTES):
        part = data[start : start + _STORED_BYTES]
        parts += (_STORED.pack(0, len(part), len(part) ^ 0xFFFF), part)
    return b"".join(parts)
