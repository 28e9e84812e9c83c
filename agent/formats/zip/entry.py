"""Makes an item of a record of the central directory, and checks everything that the record says."""

import os
import stat
from typing import NamedTuple

from agent.base.errors import ArchiveError
from agent.formats.attributes import AttributeBudget
from agent.formats.entries import DIR, FILE, LINK, EntryKind, Item
from agent.formats.entry_names import bad_entry, safe_name
from agent.formats.zip import records
from agent.formats.zip.deflate import crc32
from agent.formats.zip.metadata import Extra, from_dos_time, is_utf8, parse_extra
from agent.formats.zip.records import CentralHeader

_MAX_LINK_BYTES = 4095  # Linux: PATH_MAX without its NUL
_MAX_EXPANSION = 1032  # Deflate cannot shrink more: 258 bytes in two bits
_UNIX_SYSTEMS = (records.SYSTEM_UNIX, records.SYSTEM_DARWIN)


class Location(NamedTuple):
    """The place of an item's content in the archive, and the facts that its local header must repeat."""

    offset: int
    """Where the local header begins."""
    method: int
    crc32: int
    raw_name: bytes


def parse_entry(
    central: CentralHeader, raw_name: bytes, extra_fields: bytes, moved_by: int, attributes: AttributeBudget
) -> Item:
    """Return the item of a record of the central directory; its name is "" for the root itself.

    `moved_by` is added to the offset in the record; `attributes` bounds those of the archive. Raises
    ArchiveError for an unsafe name, for an entry that is encrypted, not stored or compressed by Deflate,
    or no file, directory or link, and for contradictions.
    """
    extra = parse_extra(extra_fields)
    if extra.attributes_cost and not attributes.take(extra.attributes_cost):
        raise _bad(raw_name, "has more extended attributes than any backup keeps")
    central = _complete(central, extra, raw_name)
    unix = central.made_by >> 8 in _UNIX_SYSTEMS
    mode = central.external >> 16 if unix else 0  # other systems use the upper half otherwise
    name = _name(central, raw_name, extra, unix=unix)
    kind = _kind(central, name, mode, unix=unix)
    _check_content(central, kind, raw_name)
    safe, first = safe_name(name, unix=unix, directory=kind is DIR), extra.hard_link_to
    if not safe and kind is not DIR:
        raise _bad(raw_name, "has no usable name: it is the directory to restore to")
    return Item(
        safe,
        kind,
        stat.S_IMODE(mode) if mode else None,
        _mtime_ns(central, extra),
        extra.uid,
        extra.gid,
        central.size_bytes,
        central.compressed_bytes,
        extra.xattrs,
        safe_name(first, unix=True) if first is not None and kind is FILE else None,
        Location(central.offset + moved_by, central.method, central.crc, raw_name),
    )


def _name(central: CentralHeader, raw_name: bytes, extra: Extra, *, unix: bool) -> bytes:
    """Return the name in UTF-8; a name from Unix without a mark stays as it is.

    Other systems write the code page of MS-DOS (APPNOTE appendix D) unless the name is marked as UTF-8; some
    of their programs forget the mark.
    """
    if raw_name.isascii() and not extra.unicode_name:
        return raw_name
    if extra.unicode_name and extra.unicode_name[0] == crc32(raw_name, 0):
        return extra.unicode_name[1]
    if unix or central.flags & records.UTF8 or is_utf8(raw_name):
        return raw_name
    return raw_name.decode("cp437").encode()


def _bad(raw_name: bytes, problem: str) -> ArchiveError:
    return bad_entry(os.fsdecode(raw_name), problem)


def _complete(central: CentralHeader, extra: Extra, raw_name: bytes) -> CentralHeader:
    try:
        central = records.with_zip64(central, extra.zip64)
    except ValueError as error:
        raise _bad(raw_name, "is damaged: its Zip64 field is too short") from error
    if central.disk not in (0, 0xFFFF):
        raise _bad(raw_name, "is in another part of the archive")
    if central.flags & (records.ENCRYPTED | records.PATCHED):
        raise _bad(raw_name, "is encrypted or a patch; neither can be restored")
    if central.method not in (records.STORED, records.DEFLATED):
        raise _bad(
            raw_name, f"is compressed by method {central.method}; only 0 and 8 (Deflate) can be restored"
        )
    return central


def _kind(central: CentralHeader, raw_name: bytes, mode: int, *, unix: bool) -> EntryKind:
    named_directory = raw_name.endswith(b"/" if unix else (b"/", b"\\"))
    form = stat.S_IFMT(mode)
    if form == stat.S_IFLNK:
        return LINK
    if form == stat.S_IFDIR or named_directory or (not unix and central.external & records.DOS_DIRECTORY):
        return DIR
    if form in (stat.S_IFREG, 0):
        return FILE
    raise _bad(raw_name, "is a device, FIFO or socket; these are not restored")


def _check_content(central: CentralHeader, kind: EntryKind, raw_name: bytes) -> None:
    size, compressed = central.size_bytes, central.compressed_bytes
    if kind is DIR and size:
        raise _bad(raw_name, "is a directory, but has content")
    if kind is LINK and not 0 < size <= _MAX_LINK_BYTES:
        raise _bad(raw_name, f"is a link whose target has {size} bytes")
    possible = size == compressed if central.method == records.STORED else size <= compressed * _MAX_EXPANSION
    if not possible:
        raise _bad(raw_name, f"cannot hold the {size} bytes that it announces")


def _mtime_ns(central: CentralHeader, extra: Extra) -> int | None:
    if extra.mtime_ns is not None:
        return extra.mtime_ns
    seconds = from_dos_time(central.dos_time)
    return None if seconds is None else seconds * 1_000_000_000
