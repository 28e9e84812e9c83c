"""Parts of packs that are needed again later, on the device's disk."""

import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO
from weakref import finalize

from agent.base.errors import NoSpace
from agent.formats.repository.blob_index import BLOCK_BYTES, Block
from providers.free_space import Room


class Spool:
    """Parts of blocks, in a file without a name. Used by one thread at a time. Methods raise OSError."""

    def __init__(self, directory: Path, reserve_bytes: int) -> None:
        """Take the directory for the file, which is made at the first need; so much stays free there."""
        self._directory, self._reserve_bytes = directory, reserve_bytes
        self._file: IO[bytes] | None = None
        self._places: dict[Block, int] = {}
        self._free: list[int] = []
        self._end = 0

    def __contains__(self, block: Block) -> bool:
        return block in self._places

    def keep(self, block: Block, begin: int, content: bytes) -> bool:
        """Keep what lies at `begin` in a block; return False where the disk has no room for it."""
        with suppress(NoSpace):
            file = self._opened()
            Room(file.fileno(), "the storage", self._reserve_bytes, NoSpace).check(BLOCK_BYTES)
            place = self._free.pop() if self._free else self._end
            self._end = max(self._end, place + BLOCK_BYTES)
            self._places[block] = place
            os.pwrite(file.fileno(), content, place + begin)
            return True
        return False

    def read(self, block: Block, begin: int, size_bytes: int) -> bytes:
        return os.pread(self._opened().fileno(), size_bytes, self._places[block] + begin)

    def drop(self, block: Block) -> None:
        """Give the room of a block to others, if it is kept."""
        place = self._places.pop(block, None)
        if place is not None:
            self._free.append(place)

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self._file = TemporaryFile(dir=self._directory, suffix=".part", buffering=0)  # noqa: SIM115
            finalize(self, self._file.close)
        return self._file
