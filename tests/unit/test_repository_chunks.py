"""Chunks of files are opened by two threads, in order, within bounds, and nothing stays behind."""

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.base.errors import RepositoryBroken
from agent.formats.repository.blob_index import Place
from agent.formats.repository.chunks import ChunkOpener, Fetched
from agent.formats.repository.compression import Compressor
from agent.formats.repository.crypto import Cryptor, Keys

KEYS = Keys.random()
MIB = 1 << 20


def stored(content: bytes, chunk_id: bytes | None = None) -> Fetched:
    """Return a chunk as a pack has it; `chunk_id` names another content."""
    compressed = Compressor().compressed(content)
    encrypted = Cryptor(KEYS).encrypt(content if compressed is None else compressed)
    plain_bytes = 0 if compressed is None else len(content)
    key = chunk_id or hashlib.sha256(content).digest()
    return Fetched(Place(key, "pack", 0, len(encrypted), plain_bytes, 1), encrypted)


def contents(sizes: Sequence[int]) -> list[bytes]:
    """Return contents of these sizes, half of which compress."""
    return [os.urandom(size // 2) + bytes(size - size // 2) for size in sizes]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 100, 5000, 70_000, 300_000]), max_size=60))
def test_chunks_of_all_sizes_come_in_their_order(sizes: list[int]) -> None:
    """Small ones are opened by the caller, between large ones that two threads open."""
    wanted = contents(sizes)
    with closing(ChunkOpener(KEYS).opened_ahead(map(stored, wanted))) as found:
        assert list(found) == wanted


def test_no_more_than_a_few_mebibytes_are_fetched_ahead_of_the_caller() -> None:
    """Otherwise a slow disk would fill the memory with a large file."""
    fetched = 0

    def fetching() -> Iterator[Fetched]:
        nonlocal fetched
        chunk = stored(os.urandom(1 << 16))
        for _ in range(400):
            fetched += 1
            yield chunk

    with closing(ChunkOpener(KEYS).opened_ahead(fetching())) as found:
        for taken, _ in enumerate(found):
            assert (fetched - taken) << 16 <= 4 * MIB


@pytest.mark.parametrize("place", [0, 70, 99])
def test_a_chunk_with_another_content_is_not_given_out_and_no_thread_stays(place: int) -> None:
    """Its authentication code is right, so a program with the password wrote it."""
    chunks = [stored(content) for content in contents([70_000] * 100)]
    chunks[place] = stored(b"x" * 70_000, chunk_id=bytes(32))
    before, given_out = threading.active_count(), list[bytes]()
    with (
        closing(ChunkOpener(KEYS).opened_ahead(chunks)) as found,
        pytest.raises(RepositoryBroken, match="another content"),
    ):
        given_out.extend(found)
    assert len(given_out) <= place
    assert threading.active_count() == before


def test_a_caller_that_stops_early_leaves_no_thread_and_lets_the_next_one_in() -> None:
    """A cancelled restore raises between two chunks."""
    opener, before = ChunkOpener(KEYS), threading.active_count()
    chunks = [stored(content) for content in contents([70_000] * 100)]
    for _ in range(3):
        with closing(opener.opened_ahead(chunks)) as found:
            next(found)
        assert threading.active_count() == before


def test_several_threads_read_side_by_side() -> None:
    """A restore makes two files at once."""
    opener, wanted = ChunkOpener(KEYS), contents([70_000] * 60)
    chunks = [stored(content) for content in wanted]

    def read(_number: int) -> list[bytes]:
        with closing(opener.opened_ahead(chunks)) as found:
            return list(found)

    with ThreadPoolExecutor(3) as pool:
        assert all(found == wanted for found in pool.map(read, range(6)))
