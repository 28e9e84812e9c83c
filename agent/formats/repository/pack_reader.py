"""Reads blobs by ranges of packs, each range once, whatever the order in which the blobs are asked for.

The snapshots of many nights lie in many packs, and a file that changes in places takes its chunks from all
of them in turn. So what was fetched stays in memory for a while, and then on the disk, until it was read as
often as was noted in the index.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from agent.base.errors import RepositoryBroken
from agent.formats.repository.blob_index import BLOCK_BYTES, Block, Needed, Place, parts_of
from agent.formats.repository.spool import Spool
from providers.errors import NotFound, TargetAbsent

_RECENT_BLOCKS = 4

GetRange = Callable[[str, int, int], bytes]
"""(pack, offset, size in bytes) -> the bytes there; fewer at the end of the pack. Raises StorageError."""


class _Fetched(NamedTuple):
    """A part of a block, in memory."""

    begin: int
    content: bytes


class PackReader:
    """Reads parts of packs; neighbours come with one request. Used by one thread at a time."""

    def __init__(self, fetch: GetRange, needed: Callable[[Block], Needed], spool: Spool) -> None:
        self._fetch, self._needed, self._spool = fetch, needed, spool
        self._recent: OrderedDict[Block, _Fetched] = OrderedDict()
        self._left: dict[Block, int] = {}
        """How often the blocks in memory and in the spool will be read."""

    def read(self, place: Place) -> bytes:
        """Return the encrypted blob. Raises `RepositoryBroken` when the pack is too short, and OSError."""
        parts = [self._part(place.pack, *part) for part in parts_of(place)]
        found = b"".join(parts) if len(parts) > 1 else parts[0]
        if len(found) != place.length:
            raise RepositoryBroken(f"the pack {place.pack[:8]} of the repository was cut")
        return found

    def close(self) -> None:
        self._spool.close()

    def _part(self, pack: str, block: Block, begin: int, end: int) -> bytes:
        if block not in self._left:
            self._get(pack, block)
        if fetched := self._recent.get(block):
            self._recent.move_to_end(block)
            part = fetched.content[begin - fetched.begin : end - fetched.begin]
        else:
            part = self._spool.read(block, begin, end - begin)
        self._count(block)
        return part

    def _get(self, pack: str, block: Block) -> None:
        needed = self._needed(block)
        content = self._fetched(pack, block.number * BLOCK_BYTES + needed.begin, needed.end - needed.begin)
        while len(self._recent) >= _RECENT_BLOCKS:
            oldest, held = self._recent.popitem(last=False)
            if not self._spool.keep(oldest, held.begin, held.content):
                del self._left[oldest]
        self._recent[block] = _Fetched(needed.begin, content)
        self._left[block] = needed.times

    def _count(self, block: Block) -> None:
        self._left[block] -= 1
        if not self._left[block]:
            del self._left[block]
            self._recent.pop(block, None)
            self._spool.drop(block)

    def _fetched(self, pack: str, offset: int, size_bytes: int) -> bytes:
        try:
            return self._fetch(pack, offset, size_bytes)
        except TargetAbsent:
            raise
        except NotFound as error:
            raise RepositoryBroken(f"the pack {pack[:8]}, which an index names, is not there") from error


def whole_block(_block: Block) -> Needed:
    """Need all of every block, and that for good: nobody knows which trees follow."""
    return Needed(0, BLOCK_BYTES, 1 << 62)
