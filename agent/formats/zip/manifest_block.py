"""The block of an archive that holds its manifest, between the last entry and the central directory.

Other tools do not see the block: they find the directory by the end record, and the entries by the directory
(docs/decisions/0012-manifest.md). Its layout, with numbers in little-endian:

    8   magic "EdgeMnf1"
    4   length n of the JSON
    n   the JSON, in UTF-8
    4   CRC-32 of the JSON
    4   n again
    8   the magic again; the central directory follows
"""

import struct
from datetime import UTC, datetime

from agent.base.errors import ManifestBroken
from agent.base.times import format_time
from agent.formats.manifest import MAX_BYTES, Manifest, Origin
from agent.formats.walk_report import Report
from agent.formats.zip.deflate import crc32
from agent.formats.zip.listing import ReadAt

_MAGIC = b"EdgeMnf1"
_HEAD, _TAIL = struct.Struct("<8sL"), struct.Struct("<LL8s")


def manifest_block(origin: Origin, report: Report) -> bytes:
    """Return the block of an archive that was made with this origin and report."""
    ended = format_time(datetime.now(UTC))  # this is written when everything was read
    data = origin.manifest(report).model_copy(update={"ended": ended}).to_json()
    return _HEAD.pack(_MAGIC, len(data)) + data + _TAIL.pack(crc32(data, 0), len(data), _MAGIC)


def read_manifest(read_at: ReadAt, end: int) -> Manifest | None:
    """Return the manifest of the archive whose central directory begins at `end`; None when it has none.

    Raises `ManifestBroken`, `NewerFormat` as `Manifest.from_json`, and what `read_at` raises.
    """
    tail = read_at(max(0, end - _TAIL.size), min(end, _TAIL.size))
    if not tail.endswith(_MAGIC) or len(tail) < _TAIL.size:
        return None
    crc, size_bytes, _ = _TAIL.unpack(tail)
    begin = end - _TAIL.size - size_bytes - _HEAD.size
    if size_bytes > MAX_BYTES or begin < 0:
        raise ManifestBroken("the archive's manifest is damaged: it cannot have the length that it says")
    head = read_at(begin, _HEAD.size)
    data = read_at(begin + _HEAD.size, size_bytes)
    if head != _HEAD.pack(_MAGIC, size_bytes) or len(data) != size_bytes or crc32(data, 0) != crc:
        raise ManifestBroken("the archive's manifest is damaged: its checksum or its length is wrong")
    return Manifest.from_json(data)
