"""Large JSON is read in pieces: any cut between them gives what the whole gives."""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.errors import RepositoryBroken
from agent.formats.repository.json_stream import items_in_parts, items_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def cut(text: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[begin:end] for begin, end in pairwise(ends)]


@given(
    st.dictionaries(st.text(max_size=3), JSON, max_size=3),
    st.lists(JSON, max_size=6),
    st.lists(st.integers(0, 1 << 16), max_size=20),
    st.booleans(),
)
def test_a_list_comes_back_however_it_was_cut(
    others: dict[str, Any], values: list[Any], places: list[int], is_spaced: bool
) -> None:
    others.pop("nodes", None)
    value = {**others, "nodes": values}
    text = json.dumps(value, ensure_ascii=not is_spaced, indent=1 if is_spaced else None)
    assert [*items_of(cut(text.encode("utf-8", "surrogatepass"), places), "nodes")] == values


@given(
    st.lists(st.tuples(JSON, st.lists(JSON, max_size=7), JSON), max_size=4),
    st.lists(st.integers(0, 1 << 16), max_size=20),
)
def test_objects_with_a_long_list_come_in_parts(
    objects: list[tuple[Any, list[Any], Any]], places: list[int]
) -> None:
    """The index of a pack with ten thousand blobs would take 10 MiB as a whole."""
    values = [{"id": number, "a": a, "blobs": blobs, "z": z} for number, (a, blobs, z) in enumerate(objects)]
    parts = [dict(part) | {"blobs": [*part["blobs"]]} for part in in_parts({"packs": values}, places)]
    assert all(len(part["blobs"]) <= 2 for part in parts)
    for value in values:
        found = [part for part in parts if part["id"] == value["id"]]
        assert [blob for part in found for blob in part["blobs"]] == value["blobs"]
        assert all(part["a"] == value["a"] for part in found)


def test_a_list_before_all_other_members_comes_in_one_part() -> None:
    """No writer is known that does this; JSON allows it."""
    value = {"blobs": [*range(7)], "id": 1}
    assert [dict(part) for part in in_parts({"packs": [value]}, ())] == [value]


def in_parts(value: dict[str, Any], places: Sequence[int]) -> Iterator[dict[str, Any]]:
    return items_in_parts(cut(json.dumps(value).encode(), places), "packs", "blobs", 2)


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_anything_else_is_refused(text: bytes, places: list[int]) -> None:
    for begin in (b"", b"{", b'{"nodes":[', b'{"a":'):
        try:
            for _ in items_of(cut(begin + text, places), "nodes"):
                pass
        except RepositoryBroken:
            continue


def test_a_number_goes_on_in_the_next_piece() -> None:
    assert [*items_of((b'{"nodes":[1', b"2,3", b"4]}"), "nodes")] == [12, 34]


def test_what_is_cut_off_is_refused() -> None:
    text = b'{"nodes":[{"a":1},{"a":2}]}'
    for end in range(len(text)):
        with pytest.raises(RepositoryBroken):
            list(items_of((text[:end],), "nodes"))
