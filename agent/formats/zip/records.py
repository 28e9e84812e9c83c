"""The records of a ZIP file (PKWARE's APPNOTE.TXT 6.3.10, section 4.3), written and parsed.

Nothing here knows about files or streams: bytes in, values out, and back.
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple

from agent.formats.zip.metadata import ZIP64_ID

STORED, DEFLATED = 0, 8
ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
"""Flag bits (APPNOTE 4.4.4): encrypted, strongly encrypted, masked headers."""
PATCHED = 1 << 5
DESCRIPTOR = 1 << 3
"""CRC and sizes follow the data, as they are not known before it is streamed."""
UTF8 = 1 << 11

SYSTEM_FAT, SYSTEM_UNIX, SYSTEM_DARWIN = 0, 3, 19
DOS_DIRECTORY = 0x10

LOCAL_BYTES = 30
CENTRAL_BYTES = 46
END_BYTES = 22

LOCAL_MAGIC, CENTRAL_MAGIC, END_MAGIC = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_DESCRIPTOR_MAGIC, _END64_MAGIC, _LOCATOR_MAGIC = b"PK\x07\x08", b"PK\x06\x06", b"PK\x06\x07"

_LOCAL = struct.Struct("<4s3HL3L2H")
_CENTRAL = struct.Struct("<4s4HL3L5H2L")
_CENTRAL_READ = struct.Struct("<4xH2x2H4L4H2x2L")  # without magic, needed version, text or binary
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_DESCRIPTOR = struct.Struct("<4s3L")
_DESCRIPTOR64 = struct.Struct("<4sL2Q")
_ZIP64_SIZES = struct.Struct("<HH2Q")
END64_BYTES, LOCATOR_BYTES = _END64.size, _LOCATOR.size

_MAX16, _MAX32 = 0xFFFF, 0xFFFF_FFFF
_NEEDS_DEFLATE, _NEEDS_ZIP64 = 20, 45  # versions (APPNOTE 4.4.3.2)
_MADE_BY = SYSTEM_UNIX << 8 | _NEEDS_ZIP64


@dataclass(slots=True)
class Member:
    """An entry of a new archive. The fields from `method` on are known once its data was compressed."""

    name: bytes
    flags: int
    dos_time: int
    external: int
    """External attributes (APPNOTE 4.4.15): the Unix mode in the upper half, DOS's directory bit."""
    common_extra: bytes
    own_extra: bytes
    zip64: bool = False
    """Streamed, and may turn out too large for 32 bits."""
    system: int = SYSTEM_UNIX
    method: int = STORED
    crc: int = 0
    size_bytes: int = 0
    compressed_bytes: int = 0


def local_header(member: Member) -> bytes:
    """Return the local header (APPNOTE 4.3.7), without CRC and sizes for a streamed member."""
    crc, compressed, size = member.crc, member.compressed_bytes, member.size_bytes
    extra, needs = member.common_extra, _NEEDS_DEFLATE
    if member.flags & DESCRIPTOR:
        crc = compressed = size = 0
    if member.zip64:
        # The field says that the descriptor has 64 bits (4.3.9.2); its own values are open too.
        compressed = size = _MAX32
        extra, needs = _ZIP64_SIZES.pack(ZIP64_ID, 16, 0, 0) + extra, _NEEDS_ZIP64
    name = member.name
    return b"".join((
        _LOCAL.pack(
            LOCAL_MAGIC, needs, member.flags, member.method, member.dos_time,
            crc, compressed, size, len(name), len(extra),
        ),
        name,
        extra,
    ))  # fmt: skip


def descriptor(member: Member) -> bytes:
    """Return the data descriptor (APPNOTE 4.3.9), with the signature that readers expect."""
    layout = _DESCRIPTOR64 if member.zip64 else _DESCRIPTOR
    return layout.pack(_DESCRIPTOR_MAGIC, member.crc, member.compressed_bytes, member.size_bytes)


def central_header(member: Member, offset: int) -> bytes:
    """Return the central record (APPNOTE 4.3.12), with a Zip64 field (4.5.3) for values that need it."""
    size, compressed, large = member.size_bytes, member.compressed_bytes, b""
    if size >= _MAX32:
        large, size = struct.pack("<Q", size), _MAX32
    if compressed >= _MAX32:
        large, compressed = large + struct.pack("<Q", compressed), _MAX32
    if offset >= _MAX32:
        large, offset = large + struct.pack("<Q", offset), _MAX32
    needs = _NEEDS_ZIP64 if large or member.zip64 else _NEEDS_DEFLATE
    extra = member.common_extra + member.own_extra
    if large:
        extra = struct.pack("<HH", ZIP64_ID, len(large)) + large + extra
    name = member.name
    return b"".join((
        _CENTRAL.pack(
            CENTRAL_MAGIC, member.system << 8 | _NEEDS_ZIP64, needs, member.flags, member.method,
            member.dos_time, member.crc, compressed, size, len(name), len(extra), 0, 0, 0,
            member.external, offset,
        ),
        name,
        extra,
    ))  # fmt: skip


def end_of_archive(entries: int, size_bytes: int, offset: int) -> bytes:
    """Return the end record (APPNOTE 4.3.16), after the Zip64 ones (4.3.14, 4.3.15) where needed."""
    large = b""
    if entries >= _MAX16 or size_bytes >= _MAX32 or offset >= _MAX32:
        large = _END64.pack(
            _END64_MAGIC, _END64.size - 12, _MADE_BY, _NEEDS_ZIP64, 0, 0, entries, entries, size_bytes, offset
        ) + _LOCATOR.pack(_LOCATOR_MAGIC, 0, offset + size_bytes, 1)
    entries, size_bytes, offset = min(entries, _MAX16), min(size_bytes, _MAX32), min(offset, _MAX32)
    return large + _END.pack(END_MAGIC, 0, 0, entries, entries, size_bytes, offset, 0)


class End(NamedTuple):
    several_disks: bool
    entries: int
    size_bytes: int
    offset: int
    comment_bytes: int = 0
    moved_by: int = 0
    """Bytes that were put in front of the archive: all offsets are too small by so many."""


def parse_end(data: bytes) -> End | None:
    """Parse the end record at the beginning of `data`; None when it is cut short."""
    if len(data) < END_BYTES:
        return None
    _, disk, first_disk, here, entries, size_bytes, offset, comment = _END.unpack_from(data)
    several = disk not in (0, _MAX16) or first_disk not in (0, _MAX16) or here != entries
    return End(several, entries, size_bytes, offset, comment)


def needs_zip64(end: End) -> bool:
    return end.entries == _MAX16 or _MAX32 in (end.size_bytes, end.offset)


def parse_locator(data: bytes) -> int | None:
    """Return the offset of the Zip64 end record, from the bytes before the end record; None without one."""
    if len(data) != LOCATOR_BYTES or not data.startswith(_LOCATOR_MAGIC):
        return None
    offset: int = _LOCATOR.unpack(data)[2]
    return offset


def parse_end64(data: bytes) -> End | None:
    """Parse a Zip64 end record; None when `data` is none."""
    if len(data) != _END64.size or not data.startswith(_END64_MAGIC):
        return None
    _, _, _, _, disk, first_disk, here, entries, size_bytes, offset = _END64.unpack(data)
    return End(bool(disk or first_disk or here != entries), entries, size_bytes, offset)


class CentralHeader(NamedTuple):
    """The fixed part of a central directory record."""

    made_by: int
    flags: int
    method: int
    dos_time: int
    crc: int
    compressed_bytes: int
    size_bytes: int
    name_bytes: int
    extra_bytes: int
    comment_bytes: int
    disk: int
    external: int
    offset: int


def parse_central(data: bytes) -> CentralHeader | None:
    """Parse the fixed part of a central record; None when `data` is none."""
    return CentralHeader._make(_CENTRAL_READ.unpack(data)) if data.startswith(CENTRAL_MAGIC) else None


def with_zip64(central: CentralHeader, field: bytes) -> CentralHeader:
    """Return `central` with its open values from the Zip64 field, in the order of APPNOTE 4.5.3.

    Raises ValueError when the field is too short.
    """
    values = [central.size_bytes, central.compressed_bytes, central.offset]
    if _MAX32 not in values:
        return central
    position = 0
    for index, value in enumerate(values):
        if value == _MAX32:
            if position + 8 > len(field):
                raise ValueError("Zip64 field too short")
            values[index] = int.from_bytes(field[position : position + 8], "little")
            position += 8
    size, compressed, offset = values
    return central._replace(size_bytes=size, compressed_bytes=compressed, offset=offset)


class LocalHeader(NamedTuple):
    """The part of a local header that must agree with the central directory, and its length."""

    flags: int
    method: int
    name_bytes: int
    extra_bytes: int


def parse_local(data: bytes, at: int = 0) -> LocalHeader | None:
    """Parse the local header at the offset `at`; None when there is none."""
    if len(data) < at + LOCAL_BYTES:
        return None
    magic, _, flags, method, _, _, _, _, name, extra = _LOCAL.unpack_from(data, at)
    return LocalHeader(flags, method, name, extra) if magic == LOCAL_MAGIC else None
