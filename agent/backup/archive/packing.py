"""Entries become members of an archive, and small ones are packed a batch at a time."""

import os
from dataclasses import dataclass

from agent.backup.archive import records
from agent.backup.archive.deflate import Deflater
from agent.backup.archive.found import Entry
from agent.backup.archive.metadata import Kind, common_extra, dos_time, own_extra
from agent.backup.archive.records import Member

Batch = list[tuple[Entry, bytes]]
"""Entries and their whole content."""


@dataclass(slots=True)
class Packed:
    """A batch after compression: its bytes, its members, and where in the bytes each of them begins."""

    data: bytes
    members: list[tuple[Member, int]]


def member_of(entry: Entry, dialect: str) -> Member:
    """All that the archive says of `entry` before its content is known; `dialect` as in ArchiveOptions."""
    name = os.fsencode(entry.name)
    status = entry.stat
    external = status.st_mode << 16
    if entry.kind is Kind.DIR:
        name += b"\\" if dialect == "kanto" else b"/"
        external |= records.DOS_DIRECTORY
    first = os.fsencode(entry.hard_link_to) if entry.hard_link_to is not None else None
    return Member(
        name,
        0 if name.isascii() or not _is_utf8(name) else records.UTF8,
        dos_time(status.st_mtime_ns // 1_000_000_000),
        external,
        common_extra(status),
        own_extra(status.st_mtime_ns, first, entry.xattrs),
    )


def _is_utf8(name: bytes) -> bool:
    # Names that are not go in as they are, unmarked: so Info-ZIP writes them, and reads them back.
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def pack(batch: Batch, deflater: Deflater, dialect: str) -> Packed:
    """Make a member of each entry of a batch; runs on a thread."""
    parts: list[bytes] = []
    members: list[tuple[Member, int]] = []
    offset = 0
    for entry, content in batch:
        member, data = member_of(entry, dialect), content
        if content:
            compressed, member.crc = deflater.whole(content)
            if compressed is not None:
                member.method, data = records.DEFLATED, compressed
            member.size_bytes, member.compressed_bytes = len(content), len(data)
        header = records.local_header(member)
        members.append((member, offset))
        parts += (header, data)
        offset += len(header) + len(data)
    return Packed(b"".join(parts), members)
