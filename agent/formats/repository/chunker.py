"""Cuts files into chunks: where the content says so, or every 64 KiB.

A cut that depends on the content moves with it: a line in the middle of a log changes one chunk. Files that
are changed in place (databases, disk images) are cut at fixed offsets, which costs less and finds more.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from agent.base.sqlite_files import MAGIC

MEAN_BYTES = 64 << 10
SMALLEST_BYTES, _LARGEST_BYTES = MEAN_BYTES // 4, MEAN_BYTES * 4
"""The shortest chunk, but for the last one of a file, and the longest."""
_BUFFER_BYTES = 1 << 20
_IMAGES = (b"QFI\xfb", b"KDMV", b"vhdxfile", b"conectix")
"""The first bytes of qcow2, VMDK, VHDX and VHD images."""
_MBR_MARK = slice(510, 512)

Read = Callable[[memoryview], int]
"""Reads into memory and returns the number of bytes, 0 at the end."""


class FileKind:
    """The facts about a file's content that later snapshots need: bits of an integer.

    Not an enumeration: for each of many files, Python takes longer for its operators than for all else.
    """

    NONE = 0
    BY_CONTENT = 1
    FIXED = 2
    """The cut of a file stays what it was in the first snapshot."""
    SQLITE = 4
    WRITTEN_AHEAD = 8
    """The database had changes in a file beside it."""
    RACY = 16
    """The entry changed while it was read, or is so young that a later change may leave no trace."""


def kind_of(head: bytes, before: int) -> int:
    """Return the kind of a file that begins with `head`; `before` is its kind in the last snapshot."""
    is_sqlite = head.startswith(MAGIC)
    cut = before & (FileKind.BY_CONTENT | FileKind.FIXED)
    if not cut:
        is_image = head.startswith(_IMAGES) or head[_MBR_MARK] == b"\x55\xaa"
        cut = FileKind.FIXED if is_sqlite or is_image or not has_chunker() else FileKind.BY_CONTENT
    return cut | (FileKind.SQLITE if is_sqlite else FileKind.NONE)


@cache
def chunker() -> Any:
    """Return the class of the library; None where there is no wheel of it."""
    try:
        import pyfastcdc
    except ImportError:
        return None
    return pyfastcdc.FastCDC


def has_chunker() -> bool:
    """Return False where there is no wheel of the chunker: every file is cut at fixed offsets."""
    return chunker() is not None


class Chunker:
    """Cuts the contents of files. Used by one thread: it has one buffer for all of them."""

    def __init__(self, seed: int) -> None:
        """`seed` moves the cuts, so that the sizes of chunks do not tell which file it is."""
        found = chunker()
        self._cdc: Any = (
            found(MEAN_BYTES, min_size=SMALLEST_BYTES, max_size=_LARGEST_BYTES, seed=seed) if found else None
        )
        self._buffer = bytearray(_BUFFER_BYTES)

    def chunks(self, read: Read, kind: int) -> Iterator[memoryview]:
        """Yield the chunks of a content; each is valid until the next one."""
        cut = self._by_content if self._cdc and not kind & FileKind.FIXED else _fixed
        buffer, held, ended = memoryview(self._buffer), 0, False
        while not ended:
            while held < len(buffer) and not ended:
                count = read(buffer[held:])
                held, ended = held + count, not count
            begin = 0
            for length in cut(buffer[:held]):
                # The last one may go on behind the end of the buffer.
                if begin + length == held and not ended:
                    break
                yield buffer[begin : begin + length]
                begin += length
            buffer[: held - begin] = bytes(buffer[begin:held])
            held -= begin

    def _by_content(self, content: memoryview) -> Iterator[int]:
        return (chunk.length for chunk in self._cdc.cut_buf(content))


def _fixed(content: memoryview) -> Iterator[int]:
    for begin in range(0, len(content), MEAN_BYTES):
        yield min(MEAN_BYTES, len(content) - begin)
