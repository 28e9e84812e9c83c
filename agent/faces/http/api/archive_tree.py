"""Lists one directory of an archive, and finds one file in it, for every format and order of entries."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from agent.base.errors import NotInArchive
from agent.base.text import printable, readable
from agent.base.times import EPOCH, format_time
from agent.formats.base import ListedTree
from agent.formats.entries import DIR, FILE, Item
from agent.transfer.cancel import CancelToken

_MOST_REMEMBERED = 20_000
"""Directories that are remembered; beyond it, one without an entry of its own may be listed twice."""


def page_of(
    tree: ListedTree, path: str, after: int, limit: int, token: CancelToken, *, deep: bool = False
) -> Mapping[str, Any]:
    """Return what is directly in the directory `path`, in the order of the archive; empty for the top.

    With `deep`, everything below it, with checksums.

    `next` is there when more is left; given back as `after`, it continues. Raises `NotInArchive`.
    """
    path = path.strip("/")
    page: dict[str, Any] = {"path": path, "entries": []}
    is_there, last = not path, after
    below = _below(tree, path, token)
    for number, shown, item in below if deep else _directly_below(below, path):
        is_there = True
        if shown == path or number <= after:
            continue
        if len(page["entries"]) == limit:
            return {**page, "next": last}
        page["entries"].append(_facts(tree, shown, item, with_checksum=deep))
        last = number
    if not is_there:
        raise _absent(path)
    return page


def file_at(tree: ListedTree, path: str, token: CancelToken) -> Item:
    """Return the file with this name, as `page_of` shows it. Raises `NotInArchive`."""
    for item in tree.items():
        token.check()
        if path in (item.name, printable(item.name)):
            if item.kind is not FILE:
                raise _absent(path, f"is a {item.kind.value}, which has no content")
            return item
    raise _absent(path)


def _below(tree: ListedTree, path: str, token: CancelToken) -> Iterator[tuple[int, str, Item]]:
    """Yield `path` itself and every item below it: its number in the archive, its name as shown, the item."""
    prefix = _prefix(path)
    for number, item in enumerate(tree.items(), 1):
        token.check()
        shown = printable(item.name)
        if shown == path or shown.startswith(prefix):
            yield number, shown, item


def _directly_below(
    below: Iterator[tuple[int, str, Item]], path: str
) -> Iterator[tuple[int, str, Item | None]]:
    """Yield `path` and its direct members; None as the item of a directory without an entry of its own."""
    prefix, seen = _prefix(path), set[str]()
    for number, shown, item in below:
        if shown == path:
            yield number, shown, item
            continue
        name, is_deeper, _ = shown[len(prefix) :].partition("/")
        if name in seen:
            continue
        if (is_deeper or item.kind is DIR) and len(seen) < _MOST_REMEMBERED:
            seen.add(name)
        yield number, prefix + name, None if is_deeper else item


def _prefix(path: str) -> str:
    return f"{path}/" if path else ""


def _facts(tree: ListedTree, shown: str, item: Item | None, *, with_checksum: bool) -> Mapping[str, Any]:
    if item is None:
        return {"name": shown, "kind": DIR.value, "sizeBytes": 0}
    return item_facts(item, tree.checksum(item) if with_checksum else None)


def _absent(path: str, why: str = "is not in the archive") -> NotInArchive:
    return NotInArchive(f"'{readable(path)}' {why}")


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
