"""The extended attributes of an archive are bounded, by a bound that no backup exceeds."""

import io
import os
import struct
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.errors import ArchiveError
from agent.formats.attributes import AttributeBudget, cost_of
from agent.formats.zip.metadata import own_extra, parse_extra
from agent.formats.zip.reader import ArchiveReader
from tests.support.archives import Crafted, archive_of, crafted, found_in

ATTRIBUTES = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12),
    st.binary(max_size=200),
    max_size=40,
)


def bomb(records: bytes) -> bytes:
    """A field of ours with these records, as large as a field can be."""
    return struct.pack("<HH4s", 0x4245, len(records) + 4, b"Edge") + records


def record(tag: int, payload: bytes) -> bytes:
    return struct.pack("<BH", tag, len(payload)) + payload


@given(ATTRIBUTES, st.integers(0, 2**60), st.none() | st.binary(min_size=1, max_size=50))
def test_a_backup_and_the_reader_count_alike(
    attributes: dict[str, bytes], mtime_ns: int, hard_link_to: bytes | None
) -> None:
    """So the reader never refuses what the walk let into an archive."""
    assert parse_extra(own_extra(mtime_ns, hard_link_to, attributes)).attributes_cost == cost_of(attributes)


@given(st.lists(st.integers(0, 1 << 17), max_size=60))
def test_what_one_budget_takes_another_takes_in_the_same_order(costs: list[int]) -> None:
    walk, reader = AttributeBudget(), AttributeBudget()
    assert all(reader.take(cost) for cost in costs if walk.take(cost))


def test_the_usual_attributes_of_any_number_of_files_fit() -> None:
    budget = AttributeBudget()
    usual = cost_of(
        {"security.selinux": bytes(40), "security.capability": bytes(20), "security.ima": bytes(300)}
    )
    assert all(budget.take(usual) for _ in range(100_000))
    assert budget.take(1 << 16)


@pytest.mark.parametrize(
    "records",
    [
        b"".join(record(3, b"%03x\0" % number) for number in range(1_100)),
        record(3, b"a\0") * 1_100,
        record(9, b"") * 20_000,
    ],
    ids=["many", "one name again and again", "of no known kind"],
)
def test_an_entry_with_more_than_any_backup_keeps_is_refused(records: bytes) -> None:
    """1,400 such entries in 91 MB cost 315 MiB of memory and 67 s of work."""
    reader = ArchiveReader(io.BytesIO(crafted(Crafted(b"f", extra=bomb(records)))))
    with pytest.raises(ArchiveError, match="more extended attributes than any backup keeps"):
        list(reader.items())


@pytest.mark.slow
def test_an_archive_with_more_than_any_backup_keeps_is_refused() -> None:
    """Each of its entries is within the bound of one entry."""
    extra = bomb(b"".join(record(3, b"%03x\0" % number) for number in range(1_000)))
    content = crafted(*(Crafted(b"%d" % number, extra=extra) for number in range(1_100)))
    items = ArchiveReader(io.BytesIO(content)).items()
    assert sum(1 for _ in islice(items, 1_000)) == 1_000
    with pytest.raises(ArchiveError, match="more extended attributes than any backup keeps"):
        list(items)


def test_what_a_backup_cannot_keep_is_skipped_and_told(tmp_path: Path) -> None:
    """More than a thousand attributes on one file, where the file system takes them."""
    (tmp_path / "many").touch()
    with suppress(OSError):
        for number in range(1_100):
            os.setxattr(tmp_path / "many", f"user.{number}", b"")
    found, report = found_in(tmp_path)
    content, _ = archive_of(tmp_path)
    (item,) = ArchiveReader(io.BytesIO(content)).items()
    if found["many"].xattrs:  # the file system had no room for so many
        assert dict(item.xattrs) == found["many"].xattrs
    else:
        assert report.reasons == {"extended attributes too large": 1}
        assert item.xattrs == {}
