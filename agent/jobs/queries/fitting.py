"""Cuts answers to a size: a cut list says by how much, a cut text ends in an ellipsis."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

from agent.base.text import compact_json


def encoded_bytes(value: object) -> int:
    """Return the length of the value as compact JSON in UTF-8."""
    return len(compact_json(value))


def shortened(value: dict[str, Any], keys: Iterable[str], room_bytes: int) -> dict[str, Any]:
    """Return the value with as much of the lists and objects at `keys` as fits, the first key cut first.

    A cut `x` has a member `xMore` beside it, the number of missing members; `missing` were missing before.
    """
    for key in keys:
        if encoded_bytes(value) <= room_bytes:
            break
        if key in value:
            value = _cut(value, key, room_bytes)
    return value


def missing(key: str, count: int) -> dict[str, int]:
    """Return the member which says that the list at `key` lacks `count` members; none when it has all."""
    return {f"{key}More": count} if count > 0 else {}


def with_texts_cut(value: dict[str, Any], keys: Iterable[str], room_bytes: int) -> dict[str, Any]:
    """Return the value with as much of the texts at `keys` as fits, the first key cut first."""
    for key in keys:
        excess = encoded_bytes(value) - room_bytes
        if excess > 0 and key in value:
            value = {**value, key: value[key].encode()[: -excess - 3].decode(errors="ignore") + "…"}
    return value


def _cut(value: dict[str, Any], key: str, room_bytes: int) -> dict[str, Any]:
    members, low, high = value[key], 0, len(value[key])
    while low < high:  # the largest number of members that fits, if any does
        middle = (low + high + 1) // 2
        if encoded_bytes(_with(value, key, middle)) <= room_bytes:
            low = middle
        else:
            high = middle - 1
    return _with(value, key, low) if low < len(members) else value


def _with(value: dict[str, Any], key: str, count: int) -> dict[str, Any]:
    members = value[key]
    first: Any = dict(islice(members.items(), count)) if isinstance(members, dict) else members[:count]
    more = value.get(f"{key}More", 0) + len(members) - count
    return {**value, key: first, f"{key}More": more}
