"""Archives that Info-ZIP reads are read; entries that share their data are refused in any order."""

import io
import itertools
import os
import shutil
import stat
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.base.errors import ArchiveError
from agent.formats.entries import Entry, EntryKind
from agent.formats.walk_report import Report
from agent.formats.zip import records
from agent.formats.zip.reader import ArchiveReader
from tests.support.archives import Crafted, crafted, things_archived, written
from tests.support.require import require
from tests.support.restoring import restored

FILES = {"a": b"one" * 100, "sub/b": b"two", "c": bytes(5000)}


def plain(tmp_path: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def with_gaps(order: Sequence[int], gap: int = 0) -> bytes:
    """Entries whose data lies in another order than the directory names them, with something in between."""
    local, directory = {}, {}
    for number, (name, content) in enumerate(FILES.items()):
        member = records.Member(name.encode(), 0, 0x5A21_0000, (stat.S_IFREG | 0o644) << 16, b"", b"")
        member.size_bytes = member.compressed_bytes = len(content)
        member.crc = zlib.crc32(content)
        local[number], directory[number] = records.local_header(member) + content, member
    body, offsets = b"", {}
    for number in order:
        body += b"\xaa" * gap
        offsets[number] = len(body)
        body += local[number]
    central = b"".join(records.central_header(directory[number], offsets[number]) for number in directory)
    return body + central + records.end_of_archive(len(directory), len(central), len(body))


def unzipped(tmp_path: Path, data: bytes) -> dict[str, bytes]:
    """By the oracle; its warnings (status 1) are no failures."""
    require(shutil.which("unzip") is not None, "unzip")
    archive, target = tmp_path / "oracle.zip", tmp_path / "oracle"
    archive.write_bytes(data)
    done = subprocess.run(["unzip", "-q", archive, "-d", target], capture_output=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return found_in(target)


def found_in(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


ORDERS = [(order, gap) for order in itertools.permutations(range(3)) for gap in (0, 7)]


@pytest.mark.parametrize(("order", "gap"), ORDERS)
def test_any_order_and_any_gap_is_restored(tmp_path: Path, order: tuple[int, ...], gap: int) -> None:
    """zipalign pads, and tools that update an archive append."""
    data = with_gaps(order, gap)
    assert unzipped(tmp_path, data) == FILES
    archive, target = tmp_path / "a.zip", tmp_path / "target"
    archive.write_bytes(data)
    target.mkdir()
    assert found_in(restored(target, archive)) == FILES


@pytest.mark.parametrize("prefix", [b"#!/bin/sh\nexit 0\n", bytes(100_000)])
def test_a_prefix_that_the_offsets_do_not_know_is_passed_over(tmp_path: Path, prefix: bytes) -> None:
    """A self-extracting archive."""
    data = prefix + plain(tmp_path)
    assert unzipped(tmp_path, data) == FILES
    assert {name: thing.content for name, thing in things_archived(data).items()} == FILES


def test_a_zip64_end_record_is_found_behind_a_prefix(tmp_path: Path) -> None:
    """It is not where its locator says."""
    (tmp_path / "link").symlink_to("x")
    status = os.lstat(tmp_path / "link")
    links = (Entry(f"link{number}", EntryKind.LINK, status, target=b"x") for number in range(65_536))
    data = b"prefix" + b"".join(written(links, Report()))
    assert sum(1 for _ in ArchiveReader(io.BytesIO(data)).items()) == 65_536


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_entries_that_share_data_are_refused_in_any_order(order: tuple[int, ...]) -> None:
    """A bomb of few bytes: many entries, one content."""
    one = Crafted(b"a", b"x" * 1000)
    shared = [one, Crafted(b"b", b"y" * 1000), Crafted(b"c", b"x" * 1000, offset=500, local_name=b"a")]
    with pytest.raises(ArchiveError, match="overlap"):
        things_archived(crafted(*(shared[number] for number in order)))


def test_oddities_of_well_known_writers_are_no_damage() -> None:
    """A service names the root "/"; packers repeat a directory, name it behind its files, or leave an extra
    field of no length."""
    directory = stat.S_IFDIR | 0o755
    data = crafted(
        Crafted(b"/", b"", mode=directory),
        Crafted(b"sub/f"),
        Crafted(b"sub/", b"", mode=directory),
        Crafted(b"sub/", b"", mode=directory),
        Crafted(b"g", extra=b"\x99\xd9\0\0" + b"\0" * 3),
    )
    assert set(things_archived(data)) == {"sub", "sub/f", "g"}


def named(raw: bytes, system: int, extra: bytes = b"") -> bytes:
    return crafted(Crafted(raw, made_by=system, extra=extra))


def unicode_name(raw: bytes, name: str, crc: int | None = None) -> bytes:
    value = struct.pack("<BL", 1, zlib.crc32(raw) if crc is None else crc) + name.encode()
    return struct.pack("<HH", 0x7075, len(value)) + value


FAT, NTFS = 0, 10


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (named("Größe.txt".encode("cp437"), FAT), "Größe.txt"),
        (named("Größe.txt".encode("cp437"), NTFS), "Größe.txt"),
        (named("Größe.txt".encode(), FAT), "Größe.txt"),
        (named(b"Gr\xf6\xdfe.txt", records.SYSTEM_UNIX), os.fsdecode(b"Gr\xf6\xdfe.txt")),
        (named(b"Gr__e", FAT, unicode_name(b"Gr__e", "Größe €")), "Größe €"),
        (named(b"Gr__e", records.SYSTEM_UNIX, unicode_name(b"Gr__e", "Größe €")), "Größe €"),
        (named(b"Gr__e", FAT, unicode_name(b"Gr__e", "Größe", crc=1)), "Gr__e"),
        (named(b"dir\\\x94", FAT), "dir/ö"),
    ],
)
def test_a_name_is_decoded_as_its_archive_says(data: bytes, name: str) -> None:
    assert list(things_archived(data)) == [name]


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../b", "a\0b"])
def test_a_name_in_an_extra_field_is_checked_as_any_other(name: str) -> None:
    with pytest.raises(ArchiveError, match=r"above|absolute|NUL"):
        things_archived(named(b"plain", records.SYSTEM_UNIX, unicode_name(b"plain", name)))
