"""Metadata of files as ZIP extra fields.

Three fields are written. Info-ZIP's 0x5455 ("UT", the modification time in whole seconds) and 0x7875
("ux", owner and group) are understood by other tools. One of our own keeps what has no place in ZIP:

    u16  id 0x4245 ("EB")     u16  length of what follows
    4    magic "Edge"; a field with our id and another magic is not ours and is ignored
    then records of           u8 tag, u16 length, payload; unknown tags are skipped
        1  modification time: i64 seconds since 1970, u32 nanoseconds
        2  name of an earlier entry that this one was a hard link to
        3  an extended attribute: its name, a NUL, its value

All numbers are little-endian, as everywhere in ZIP (APPNOTE 4.4.1.1). Our field stands in the central
directory only, and only for files that need it.
"""

import os
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from agent.formats.attributes import attribute_cost

ZIP64_ID = 0x0001
_TIME_ID = 0x5455
_OWNER_ID = 0x7875
_OWN_ID = 0x4245
_UNICODE_NAME_ID = 0x7075
_OWN_MAGIC = b"Edge"
_TAG_TIME, _TAG_HARD_LINK, _TAG_ATTRIBUTE = 1, 2, 3

_FIELD = struct.Struct("<HH")
_OWNER = struct.Struct("<HHBBLBL")
_TIME_AND_OWNER = struct.Struct("<HHBiHHBBLBL")
_RECORD = struct.Struct("<BH")
_NANOSECONDS = struct.Struct("<qL")
_ONLY_TIME = struct.Struct("<HH4sBHqL")
"""Our field with a time only, as most files have it."""
_USUAL = struct.Struct("<5s4x6sLcL11sqL")
_USUAL_SIGNS = (b"UT\5\0\1", b"ux\x0b\0\1\4", b"\4", b"EB\x13\0Edge\1\x0c\0")
"""All three fields, ours with a time only, as most files have them: read in one go."""

_DOS_FIRST_S = 315_532_800  # 1980-01-01 UTC, the first time that a DOS date can say
_DOS_LAST_S = 4_354_819_198  # 2107-12-31 23:59:58 UTC, the last one
_NS = 1_000_000_000
_NO_ID = b"\xff" * 4
_NO_ID_NUMBER = 0xFFFF_FFFF


@lru_cache(maxsize=1024)  # the files of a tree were often written together
def dos_time(seconds: int) -> int:
    """Return the MS-DOS date and time (APPNOTE 4.4.6) of a time since 1970, limited to 1980..2107.

    In local time: Info-ZIP writes it, and tools that know no extended timestamp show it.
    """
    when = time.localtime(min(max(seconds, _DOS_FIRST_S), _DOS_LAST_S))
    if when.tm_year < 1980:
        return 0x0021_0000  # 1980-01-01 00:00, west of Greenwich
    if when.tm_year > 2107:
        return 0xFF9F_BF7D  # 2107-12-31 23:59:58, east of it
    date = (when.tm_year - 1980) << 9 | when.tm_mon << 5 | when.tm_mday
    return date << 16 | when.tm_hour << 11 | when.tm_min << 5 | when.tm_sec // 2


def from_dos_time(value: int) -> int | None:
    """Return the seconds since 1970 of an MS-DOS date and time; None for no valid day (0, month 15)."""
    date, clock = value >> 16, value & 0xFFFF
    month, day = date >> 5 & 15, date & 31
    if not (1 <= month <= 12 and day):
        return None
    parts = ((date >> 9) + 1980, month, day, clock >> 11, clock >> 5 & 63, (clock & 31) * 2, 0, 0, -1)
    return int(time.mktime(parts))


def common_extra(stat: os.stat_result) -> bytes:
    """Return the fields that other tools know, for the local header and the central directory."""
    seconds, uid, gid = stat.st_mtime_ns // _NS, stat.st_uid, stat.st_gid
    if not _fits(seconds):
        return _OWNER.pack(_OWNER_ID, 11, 1, 4, uid, 4, gid)
    return _TIME_AND_OWNER.pack(_TIME_ID, 5, 1, seconds, _OWNER_ID, 11, 1, 4, uid, 4, gid)


def own_extra(mtime_ns: int, hard_link_to: bytes | None, xattrs: Mapping[str, bytes]) -> bytes:
    """Return our own field; empty when the common fields say it all."""
    seconds, nanoseconds = divmod(mtime_ns, _NS)
    if nanoseconds and hard_link_to is None and not xattrs:
        return _ONLY_TIME.pack(_OWN_ID, 19, _OWN_MAGIC, _TAG_TIME, 12, seconds, nanoseconds)
    payload = b""
    if nanoseconds or not _fits(seconds):
        payload = _record(_TAG_TIME, _NANOSECONDS.pack(seconds, nanoseconds))
    if hard_link_to is not None:
        payload += _record(_TAG_HARD_LINK, hard_link_to)
    for name, value in xattrs.items():
        payload += _record(_TAG_ATTRIBUTE, os.fsencode(name) + b"\0" + value)
    return _FIELD.pack(_OWN_ID, len(payload) + 4) + _OWN_MAGIC + payload if payload else b""


def _fits(seconds: int) -> bool:
    return -0x8000_0000 <= seconds <= 0x7FFF_FFFF


def _record(tag: int, payload: bytes) -> bytes:
    return _RECORD.pack(tag, len(payload)) + payload


@dataclass(slots=True)
class Extra:
    """The known extra fields of a central directory record; None for those that are absent."""

    mtime_ns: int | None = None
    uid: int | None = None
    gid: int | None = None
    hard_link_to: bytes | None = None
    xattrs: dict[str, bytes] = field(default_factory=dict)
    attributes_cost: int = 0
    """As `attribute_cost` has it, of all records: also of a name that comes again, and of unknown tags."""
    zip64: bytes = b""
    unicode_name: tuple[int, bytes] | None = None
    """The name in UTF-8, and the CRC-32 of the one that it stands for."""


def parse_extra(data: bytes) -> Extra:
    """Read the known fields. Never raises: fields that are cut short or foreign are ignored."""
    if len(data) == _USUAL.size:
        time_sign, uid_sign, uid, gid_sign, gid, own_sign, seconds, nanoseconds = _USUAL.unpack(data)
        signs = (time_sign, uid_sign, gid_sign, own_sign)
        if signs == _USUAL_SIGNS and nanoseconds < _NS and _NO_ID_NUMBER not in (uid, gid):
            return Extra(seconds * _NS + nanoseconds, uid, gid)
    extra = Extra()
    end = 0
    while end + 4 <= len(data):
        field_id, length = _FIELD.unpack_from(data, end)
        begin, end = end + 4, end + 4 + length
        if end > len(data):
            break
        value = data[begin:end]
        if field_id == _TIME_ID and len(value) >= 5 and value[0] & 1 and extra.mtime_ns is None:
            extra.mtime_ns = int.from_bytes(value[1:5], "little", signed=True) * _NS
        elif field_id == _OWNER_ID:
            _parse_owner(value, extra)
        elif field_id == _UNICODE_NAME_ID and len(value) > 5 and value[0] == 1 and is_utf8(value[5:]):
            extra.unicode_name = int.from_bytes(value[1:5], "little"), value[5:]
        elif field_id == ZIP64_ID:
            extra.zip64 = value
        elif field_id == _OWN_ID and value[:4] == _OWN_MAGIC:
            _parse_own(value, extra)
    return extra


def _parse_owner(value: bytes, extra: Extra) -> None:
    """Read Info-ZIP's 0x7875: version 1, then uid and gid, each after its size in bytes."""
    if len(value) < 3 or value[0] != 1:
        return
    middle = 2 + value[1]
    uid, gid = value[2:middle], value[middle + 1 : middle + 1 + value[middle]] if middle < len(value) else b""
    # Linux gives out no id of more than 32 bits, nor the one that means "leave it" in chown(2).
    if 0 < len(uid) <= 4 and 0 < len(gid) <= 4 and _NO_ID not in (uid, gid):
        extra.uid, extra.gid = int.from_bytes(uid, "little"), int.from_bytes(gid, "little")


def _parse_own(value: bytes, extra: Extra) -> None:
    position = 4
    while position + 3 <= len(value):
        tag, length = _RECORD.unpack_from(value, position)
        position += 3
        payload = value[position : position + length]
        position += length
        if tag == _TAG_TIME and len(payload) == _NANOSECONDS.size:
            seconds, nanoseconds = _NANOSECONDS.unpack(payload)
            if nanoseconds < _NS:  # otherwise it is no time, and time_t may not hold it
                extra.mtime_ns = seconds * _NS + nanoseconds
        elif tag == _TAG_HARD_LINK:
            extra.hard_link_to = payload
        else:
            name, _, content = payload.partition(b"\0")
            extra.attributes_cost += attribute_cost(len(name), len(content))
            if tag == _TAG_ATTRIBUTE and b"\0" in payload:
                extra.xattrs[os.fsdecode(name)] = content


def is_utf8(name: bytes) -> bool:
    """Return True for a name in valid UTF-8. Info-ZIP and this agent write other names unmarked."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
