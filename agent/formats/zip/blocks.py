"""Big files are read block by block, into memory that is used again."""

import os
from dataclasses import dataclass

from agent.formats.zip.deflate import BLOCK_BYTES, HISTORY_BYTES


@dataclass(slots=True)
class Block:
    """The next part of a big file. Its memory may not be looked at after `Blocks.give_back`."""

    memory: bytearray
    size_bytes: int

    @property
    def data(self) -> memoryview:
        return memoryview(self.memory)[: self.size_bytes]

    def end(self) -> bytes:
        """Return a copy of the last 32 KiB, the dictionary of the next block."""
        return bytes(self.data[-HISTORY_BYTES:])


class Blocks:
    """Blocks whose memory is used again: fresh memory for each would cost as much as reading the file."""

    def __init__(self) -> None:
        self._idle: list[bytearray] = []

    def read(self, fd: int, size_bytes: int) -> Block:
        """Read `size_bytes`, at most `BLOCK_BYTES`; fewer only at the end of the file. Raises OSError."""
        memory = self._idle.pop() if self._idle else bytearray(BLOCK_BYTES)
        done, room = 0, memoryview(memory)
        while done < size_bytes and (count := os.readv(fd, [room[done:size_bytes]])):
            done += count
        return Block(memory, done)

    def give_back(self, block: Block) -> None:
        self._idle.append(block.memory)
