"""Lists one directory of an archive, and finds one file in it, for every format and order of entries."""

from collections.abc import Iterator, Mapping
from typing import Any

from agent.base.errors import NotInArchive
from agent.base.text import printable, readable
from agent.formats.base import DIR, FILE, Item, ListedTree
from agent.formats.item_facts import item_facts
from agent.transfer.cancel import CancelToken

_MOST_REMEMBERED = 20_000
"""Directories that are remembered; beyond it, one without an entry of its own may be listed twice."""

Facts = Mapping[str, Any]


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
    for number, facts in _all_below(tree, path, token) if deep else _below(tree, path, token):
        is_there = True
        if facts is None or number <= after:
            continue
        if len(page["entries"]) == limit:
            return {**page, "next": last}
        page["entries"].append(facts)
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


def _below(tree: ListedTree, path: str, token: CancelToken) -> Iterator[tuple[int, Facts | None]]:
    """Yield the facts of what is directly in `path`, and None for `path` itself, with the number of the item.

    A directory without an entry of its own is one all the same.
    """
    prefix, seen = f"{path}/" if path else "", set[str]()
    for number, item in enumerate(tree.items(), 1):
        token.check()
        shown = printable(item.name)
        if shown == path:
            yield number, None
        elif shown.startswith(prefix):
            name, is_deeper, _ = shown[len(prefix) :].partition("/")
            if name in seen:
                continue
            if (is_deeper or item.kind is DIR) and len(seen) < _MOST_REMEMBERED:
                seen.add(name)
            implied = {"name": prefix + name, "kind": DIR.value, "sizeBytes": 0}
            yield number, implied if is_deeper else item_facts(item)


def _all_below(tree: ListedTree, path: str, token: CancelToken) -> Iterator[tuple[int, Facts | None]]:
    """Yield as `_below`, but every entry below `path`."""
    prefix = f"{path}/" if path else ""
    for number, item in enumerate(tree.items(), 1):
        token.check()
        shown = printable(item.name)
        if shown == path:
            yield number, None
        elif shown.startswith(prefix):
            yield number, item_facts(item, tree.checksum(item))


def _absent(path: str, why: str = "is not in the archive") -> NotInArchive:
    return NotInArchive(f"'{readable(path)}' {why}")
