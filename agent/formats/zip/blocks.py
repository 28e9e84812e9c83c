"""Files are read: small ones whole, big ones block by block, into memory that is used again."""

import os
from dataclasses import dataclass

from agent.formats.base import Entry
from agent.formats.zip.deflate import BLOCK_BYTES, HISTORY_BYTES
from agent.formats.zip.records import Member


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


@dataclass(slots=True)
class Streamed:
    """A big file on its way out."""

    member: Member
    offset: int = 0
    sound: bool = True


def read_whole(fd: int, size_bytes: int) -> bytes:
    """Return `size_bytes`, fewer at the end of the file. Raises OSError."""
    data = os.read(fd, size_bytes)
    while len(data) < size_bytes and (more := os.read(fd, size_bytes - len(data))):
        data += more
    return data


def has_changed(entry: Entry, size_bytes: int) -> bool:
    """Return True when the file is not any more as the walk found it; `size_bytes` were read of it."""
    try:
        after = os.fstat(entry.fd)
    except OSError:
        return True  # ESTALE: its server has replaced it
    return after.st_mtime_ns != entry.stat.st_mtime_ns or after.st_size != size_bytes
