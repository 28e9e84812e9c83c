"""The facts of an archive's entry as JSON."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from agent.base.text import printable
from agent.base.times import EPOCH, format_time
from agent.formats.base import Item


def item_facts(item: Item, checksum: str | None = None) -> Mapping[str, Any]:
    """Return what the archive says of an entry; names are printable."""
    facts = {
        "name": printable(item.name),
        "kind": item.kind.value,
        "sizeBytes": item.size,
        "compressedBytes": item.packed_size,
        "mode": None if item.mode is None else f"{item.mode:04o}",
        "modified": modified(item),
        "uid": item.uid,
        "gid": item.gid,
        "crc32": checksum,
        "hardLinkTo": item.hard_link_to and printable(item.hard_link_to),
    }
    return {key: value for key, value in facts.items() if value is not None}


def modified(item: Item) -> str | None:
    """Format the time of the last change; None also for one that no calendar has."""
    try:
        micros = None if item.mtime_ns is None else item.mtime_ns // 1000
        return None if micros is None else format_time(EPOCH + timedelta(microseconds=micros))
    except OverflowError:
        return None
