"""Entries become members of an archive, and small ones travel in batches."""

import os
from collections.abc import Sequence

from agent.formats.base import DIR, Entry
from agent.formats.zip import records
from agent.formats.zip.deflate import LAST_BLOCK
from agent.formats.zip.metadata import common_extra, dos_time, is_utf8, own_extra
from agent.formats.zip.records import Member

_MEMBER_BYTES = 1 << 10  # what an empty one costs all the same: names, fields, objects


class Batch:
    """Small members with their whole content, on their way to be compressed together."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.contents: list[bytes] = []
        self.size_bytes = 0
        """About the memory that it takes."""

    def add(self, member: Member, content: bytes) -> None:
        self.members.append(member)
        self.contents.append(content)
        self.size_bytes += len(content) + _MEMBER_BYTES

    def pack(self, compressed: Sequence[tuple[bytes, int]]) -> tuple[bytes, list[int]]:
        """Return the bytes that go out, and each member's offset; `compressed` is from `Deflater.wholes`."""
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


def member_of(entry: Entry, dialect: str) -> Member:
    """Return the member of `entry` before its content is known; `dialect` as in ArchiveOptions."""
    name = os.fsencode(entry.name)
    status = entry.stat
    external = status.st_mode << 16
    if entry.kind is DIR:
        name += b"\\" if dialect == "kanto" else b"/"
        external |= records.DOS_DIRECTORY
    first = os.fsencode(entry.hard_link_to) if entry.hard_link_to is not None else None
    return Member(
        name,
        0 if name.isascii() or not is_utf8(name) else records.UTF8,
        dos_time(status.st_mtime_ns // 1_000_000_000),
        external,
        common_extra(status),
        own_extra(status.st_mtime_ns, first, entry.xattrs),
    )


def only_root(dialect: str) -> Member:
    """Return the member of an archive that has no other: the directory itself, of which it says nothing."""
    name = b".\\" if dialect == "kanto" else b"./"
    return Member(name, 0, 0, records.DOS_DIRECTORY, b"", b"", system=records.SYSTEM_FAT)
