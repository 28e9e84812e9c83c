"""An object at a place, read like a file: the same bytes, few of them, and of one version."""

import io
import os
from typing import BinaryIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.formats.zip.reader import ArchiveReader
from agent.transfer.ranged import BLOCK_BYTES, RangedFile
from providers.api import Piece
from providers.errors import Corrupted
from providers.testing.streams import content

DATA = content(3 * BLOCK_BYTES + 1000)


class Far:
    """An object, and how much of it was fetched."""

    def __init__(self, data: bytes) -> None:
        self.data, self.etag, self.fetched_bytes = data, "1", 0

    def read_range(self, offset: int, size_bytes: int) -> Piece:
        data = self.data[offset : offset + size_bytes]
        self.fetched_bytes += len(data)
        return Piece(data, len(self.data), self.etag)


@given(st.lists(st.tuples(st.integers(0, len(DATA) + 10), st.integers(-1, BLOCK_BYTES + 10)), max_size=8))
def test_any_reads_give_what_a_file_gives(reads: list[tuple[int, int]]) -> None:
    far, near = RangedFile(Far(DATA).read_range), io.BytesIO(DATA)
    for offset, size_bytes in reads:
        assert far.seek(offset) == near.seek(offset)
        assert far.read(size_bytes) == near.read(size_bytes)
        assert far.tell() == near.tell()
    assert far.seek(-5, os.SEEK_END) == near.seek(-5, os.SEEK_END)
    assert far.read() == near.read()


def test_of_a_large_archive_only_the_end_is_fetched() -> None:
    """A range that is asked for several times is fetched once."""
    far = Far(bytes(20 * BLOCK_BYTES) + b"PK\5\6" + bytes(18))
    reader = ArchiveReader(cast(BinaryIO, RangedFile(far.read_range)))
    assert reader.manifest() is None
    assert list(reader.items()) == []
    assert far.fetched_bytes <= 3 * BLOCK_BYTES


def test_little_is_kept() -> None:
    far = RangedFile(Far(content(20 * BLOCK_BYTES)).read_range)
    far.seek(0)
    assert len(far.read()) == 20 * BLOCK_BYTES
    assert sum(map(len, far.blocks.values())) <= 4 * BLOCK_BYTES


def test_an_object_that_is_replaced_meanwhile_is_not_mixed() -> None:
    far = Far(DATA)
    file = RangedFile(far.read_range)
    far.etag = "2"
    file.seek(2 * BLOCK_BYTES)
    with pytest.raises(Corrupted, match="was replaced"):
        file.read(1)


def test_a_position_before_the_beginning_is_refused() -> None:
    with pytest.raises(ValueError, match="before the beginning"):
        RangedFile(Far(DATA).read_range).seek(-1)
