"""The content of an archive on its way in: small entries travel in batches, big files block by block."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from agent.formats.entries import DIR, LINK, Entry
from agent.formats.zip import records
from agent.formats.zip.deflate import BLOCK_BYTES, HISTORY_BYTES, LAST_BLOCK
from agent.formats.zip.metadata import common_extra, dos_time, is_utf8, own_extra
from agent.formats.zip.records import Member

_MEMBER_BYTES = 1 << 10  # memory of a member without content: names, fields, objects


class Batch:
    """Small members with their whole content, which are compressed together."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.contents: list[bytes] = []
        self.size_bytes = 0
        """The memory that the batch takes, roughly."""

    def add(self, member: Member, content: bytes) -> None:
        self.members.append(member)
        self.contents.append(content)
        self.size_bytes += len(content) + _MEMBER_BYTES

    def pack(self, compressed: Sequence[tuple[bytes, int]]) -> tuple[bytes, list[int]]:
        """Return the batch's bytes and each member's offset; `compressed` is from `Deflater.wholes`."""
        parts: list[bytes] = []
        offsets: list[int] = []
        offset = 0
        for member, content, (data, crc) in zip(self.members, self.contents, compressed, strict=True):
            member.crc = crc
            member.size_bytes, member.compressed_bytes = len(content), len(data) + len(LAST_BLOCK)
            if data and member.compressed_bytes < member.size_bytes:
                member.method = records.DEFLATED
                header = records.local_header(member)
                parts += (header, data, LAST_BLOCK)
            else:
                member.compressed_bytes = member.size_bytes
                header = records.local_header(member)
                parts += (header, content)
            offsets.append(offset)
            offset += len(header) + member.compressed_bytes
        return b"".join(parts), offsets


def skipped_reason(entry: Entry, dialect: str) -> str:
    """Return why an archive in this dialect skips `entry`; empty when it does not.

    Kanto's restore makes a file of a link, and a path of a name with a backslash: it fails where the path has
    no directory (unzipDir in its client/archive.go).
    """
    if dialect != "kanto":
        return ""
    if "\\" in entry.name:
        return "name with a backslash, which Kanto cannot restore"
    return "link, which Kanto cannot restore" if entry.kind is LINK else ""


def member_of(entry: Entry, dialect: str) -> Member:
    """Return the member of `entry`, without its content; `dialect` as in ArchiveOptions."""
    name = os.fsencode(entry.name)
    status = entry.stat
    external = status.st_mode << 16
    if entry.kind is DIR:
        name += b"\\" if dialect == "kanto" else b"/"
        external |= records.DOS_DIRECTORY
    link_to = entry.hard_link_to
    if dialect == "kanto" and link_to and "\\" in link_to:
        link_to = None  # it was skipped
    first = os.fsencode(link_to) if link_to is not None else None
    return Member(
        name,
        0 if name.isascii() or not is_utf8(name) else records.UTF8,
        dos_time(status.st_mtime_ns // 1_000_000_000),
        external,
        common_extra(status),
        own_extra(status.st_mtime_ns, first, entry.xattrs),
    )


def only_root(dialect: str) -> Member:
    """Return the only member of an empty archive: the root, without metadata."""
    name = b".\\" if dialect == "kanto" else b"./"
    return Member(name, 0, 0, records.DOS_DIRECTORY, b"", b"", system=records.SYSTEM_FAT)


@dataclass(slots=True)
class Block:
    """A part of a big file. `Blocks.give_back` takes its memory back."""

    memory: bytearray
    size_bytes: int

    @property
    def data(self) -> memoryview:
        return memoryview(self.memory)[: self.size_bytes]

    def end(self) -> bytes:
        """Return a copy of the last 32 KiB, the dictionary of the next block."""
        return bytes(self.data[-HISTORY_BYTES:])


class Blocks:
    """Reads big files into memory that is used again: fresh memory would cost as much as reading does."""

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
