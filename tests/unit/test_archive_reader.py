"""Archives of other tools are understood; what must not be restored is refused by name."""

import io
import os
import shutil
import stat
import subprocess
import time
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from agent.base.errors import ArchiveError
from agent.formats.entries import EntryKind, Item
from agent.formats.entry_checks import ArchiveLimits, take_survey
from agent.formats.zip.metadata import own_extra
from agent.formats.zip.reader import ArchiveReader
from agent.formats.zip.records import end_of_archive
from tests.support.archives import WIDE, Crafted, content_of, crafted, deflated, things_archived, things_in
from tests.support.require import require

DIRECTORY = stat.S_IFDIR | 0o755
LINK = stat.S_IFLNK | 0o777
FROM_DOS = 0


def listed(data: bytes) -> list[Item]:
    return list(ArchiveReader(io.BytesIO(data)).items())


def refusal(data: bytes) -> str:
    """The message that refuses an archive, at the latest when it is unpacked."""
    with pytest.raises(ArchiveError) as caught:
        things_archived(data)
    return str(caught.value)


@pytest.mark.parametrize("options", [["-r"], ["-ry"], ["-r0"], ["-ry9"], ["-ryX"]])
def test_info_zip_archives_are_read(tmp_path: Path, options: list[str]) -> None:
    require(shutil.which("zip") is not None, "zip")
    tree = tmp_path / "tree"
    (tree / "dir/empty").mkdir(parents=True)
    (tree / "dir/grün.txt").write_bytes(b"text " * 1000)
    (tree / "run").write_bytes(b"#!")
    os.chmod(tree / "run", 0o750)
    if "y" in options[0]:
        (tree / "link").symlink_to("dir/grün.txt")
    for path in [*tree.rglob("*")]:
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
    subprocess.run(["zip", "-q", *options, "../archive.zip", "."], cwd=tree, check=True)
    read = things_archived((tmp_path / "archive.zip").read_bytes())
    assert read == things_in(tree)


def test_python_archives_are_read() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("dir/file", b"text " * 1000)
        archive.mkdir("empty")
        archive.comment = b"PK\x05\x06 is in here too"
    reader = ArchiveReader(io.BytesIO(buffer.getvalue()))
    file, directory = reader.items()
    assert (file.name, file.mode, content_of(reader, file)) == ("dir/file", 0o600, b"text " * 1000)
    assert (directory.name, directory.kind) == ("empty", EntryKind.DIR)


def test_archives_that_python_streamed_are_read() -> None:
    """Not seekable: data descriptors, stored and deflated."""
    data = bytearray()

    class Pipe(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, chunk: bytes, /) -> int:  # type: ignore[override]
            data.extend(chunk)
            return len(chunk)

    with zipfile.ZipFile(Pipe(), "w") as archive:
        archive.writestr("stored", b"x" * 100)
        archive.writestr("deflated", b"x" * 100, zipfile.ZIP_DEFLATED)
    contents = {name: thing.content for name, thing in things_archived(bytes(data)).items()}
    assert contents == {"stored": b"x" * 100, "deflated": b"x" * 100}


def test_kanto_archives_are_read() -> None:
    """Made by Go without a mode: system 0, Deflate with descriptors, directories end in a backslash."""
    data = crafted(
        Crafted(b"dir\\", b"", made_by=FROM_DOS, mode=0),
        Crafted(b"dir/sub\\", b"", made_by=FROM_DOS, mode=0),
        Crafted(b"dir/sub/file.txt", b"hi" * 99, FROM_DOS, 0, 8, 8, data=deflated(b"hi" * 99)),
    )
    things = things_archived(data)
    assert {name: thing.kind for name, thing in things.items()} == {
        "dir": EntryKind.DIR, "dir/sub": EntryKind.DIR, "dir/sub/file.txt": EntryKind.FILE,
    }  # fmt: skip
    assert things["dir/sub/file.txt"].content == b"hi" * 99
    assert things["dir"].mode is None


def test_a_backslash_is_a_letter_in_archives_made_on_unix() -> None:
    assert listed(crafted(Crafted(b"a\\b")))[0].name == "a\\b"
    assert listed(crafted(Crafted(b"a\\b", made_by=FROM_DOS)))[0].name == "a/b"


def test_without_an_extended_timestamp_the_dos_time_counts_as_local() -> None:
    (entry,) = listed(crafted(Crafted(b"a")))  # 0x5A21: 2025-01-01
    assert entry.mtime_ns == int(time.mktime((2025, 1, 1, 0, 0, 0, 0, 0, -1))) * 1_000_000_000


def test_the_root_itself_is_passed_over_and_dots_are_dropped() -> None:
    data = crafted(Crafted(b"./", b"", mode=DIRECTORY), Crafted(b"./a/./b", b"x"))
    assert list(things_archived(data)) == ["a/b"]


def test_an_archive_with_data_before_a_gap_is_read() -> None:
    """Bytes that the central directory does not name are nobody's."""
    data = crafted(Crafted(b"a"), Crafted(b"b"))
    without_a = data.replace(b"PK\x01\x02", b"pk\x01\x02", 1)
    begin, second = without_a.index(b"pk\x01\x02"), without_a.index(b"PK\x01\x02")
    directory = data[second : data.index(b"PK\x05\x06")]
    rebuilt = data[:begin] + directory + end_of_archive(1, len(directory), begin)
    assert list(things_archived(rebuilt)) == ["b"]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (Crafted(b"/etc/passwd"), "absolute"),
        (Crafted(b"\\windows", made_by=FROM_DOS), "absolute"),
        (Crafted(b"C:/x", made_by=FROM_DOS), "absolute"),
        (Crafted(b"C:x", made_by=FROM_DOS), "absolute"),
        (Crafted(b".."), "above"),
        (Crafted(b"a/../../b"), "above"),
        (Crafted(b"a\\..\\..\\b", made_by=FROM_DOS), "above"),
        (Crafted(b"../", b"", mode=DIRECTORY), "above"),
        (Crafted(b""), "no usable name"),
        (Crafted(b"."), "no usable name"),
        (Crafted(b"a\0b"), "NUL"),
        (Crafted(b"dev", b"", mode=stat.S_IFCHR | 0o600), "device"),
        (Crafted(b"dev", b"", mode=stat.S_IFBLK | 0o600), "device"),
        (Crafted(b"pipe", b"", mode=stat.S_IFIFO | 0o600), "FIFO"),
        (Crafted(b"sock", b"", mode=stat.S_IFSOCK | 0o600), "socket"),
        (Crafted(b"odd", b"", mode=0o050644), "device"),
        (Crafted(b"dir/", b"content"), "directory, but has content"),
        (Crafted(b"link", b"", mode=LINK), "target has 0 bytes"),
        (Crafted(b"link", b"x" * 4096, mode=LINK), "target has 4096 bytes"),
        (Crafted(b"secret", flags=1), "encrypted"),
        (Crafted(b"secret", flags=1 << 6), "encrypted"),
        (Crafted(b"new", method=93), "method 93"),
        (Crafted(b"lies", size_bytes=10**9), "cannot hold"),
        (Crafted(b"lies", size_bytes=10**6, method=8, data=b"\3\0"), "cannot hold"),
        (Crafted(b"long", method=8, data=deflated(b"content" * 9)), "size"),
        (Crafted(b"short", method=8, data=deflated(b"conten")), "size"),
        (Crafted(b"rest", method=8, data=deflated(b"content") + b"more"), "inflated"),
        (Crafted(b"open", method=8, data=deflated(b"content")[:-1]), "inflated"),
        (Crafted(b"noise", method=8, data=b"\xff" * 20), "inflated"),
        (Crafted(b"crc", crc=1), "checksum"),
        (Crafted(b"two", local_name=b"TWO"), "headers differ"),
        (Crafted(b"two", local_name=b"longer"), "headers differ"),
        (Crafted(b"far", offset=5000), "beyond"),
        (Crafted(b"link", b"a", extra=own_extra(0, b"../up", {})), "above"),
    ],
)
def test_an_entry_that_must_not_be_restored_is_refused_by_name(entry: Crafted, why: str) -> None:
    message = refusal(crafted(Crafted(b"before"), entry))
    assert why in message
    assert "archive's entry '" in message


def test_entries_that_share_their_data_are_refused() -> None:
    """How an archive bomb gets large without being nested."""
    message = refusal(crafted(Crafted(b"one"), Crafted(b"two", offset=0, local_name=b"one")))
    assert "overlaps" in message


def test_a_part_of_a_set_is_refused() -> None:
    data = bytearray(crafted(Crafted(b"a")))
    data[-18] = 1
    assert "one part of several" in refusal(bytes(data))


@pytest.mark.parametrize("keep", [0, 1, 21, 50, 100, -1])
def test_an_archive_that_was_cut_off_is_refused(keep: int) -> None:
    assert "ZIP" in refusal(crafted(Crafted(b"a", b"x" * 1000))[:keep])


def test_an_archive_with_something_after_its_end_is_refused() -> None:
    assert "cut off" in refusal(crafted(Crafted(b"a")) + b"\0")


def test_a_wrong_number_of_entries_is_refused() -> None:
    data = bytearray(crafted(Crafted(b"a")))
    data[-14] = data[-12] = 2
    assert "announces 2 entries and has 1" in refusal(bytes(data))


def test_a_zip64_end_record_that_is_missing_is_refused() -> None:
    data = bytearray(crafted(Crafted(b"a")))
    locator = b"PK\x06\x07" + bytes(4) + (5).to_bytes(8, "little") + b"\1\0\0\0"
    data[-22:-22] = locator
    data[-6:-2] = b"\xff\xff\xff\xff"
    assert "Zip64" in refusal(bytes(data))


def test_entries_below_a_link_of_the_archive_are_refused() -> None:
    data = crafted(
        Crafted(b"d/", b"", mode=DIRECTORY),
        Crafted(b"d/link", b"/etc", mode=LINK),
        Crafted(b"d/link/a/passwd"),
    )
    assert "'d/link/a/passwd' lies below a symbolic link" in refusal(data)


def test_entries_beside_a_link_are_fine() -> None:
    data = crafted(Crafted(b"d/link", b"/etc", mode=LINK), Crafted(b"d/link2/a"), Crafted(b"d/linka"))
    assert len(things_archived(data)) == 3


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (ArchiveLimits(max_files=1, max_bytes=10**9, max_ratio=10**6), "more entries"),
        (
            ArchiveLimits(max_files=9, max_bytes=10**6, max_ratio=10**6),
            "more than the limit of 1000000 bytes",
        ),
        (ArchiveLimits(max_files=9, max_bytes=10**9, max_ratio=100), "more than 100 times"),
    ],
)
def test_limits_are_kept(limits: ArchiveLimits, why: str) -> None:
    size_bytes = 80 << 20
    data = crafted(
        Crafted(b"small"), Crafted(b"bomb", b"", size_bytes=size_bytes, method=8, data=bytes(200_000))
    )
    reader = ArchiveReader(io.BytesIO(data))
    with pytest.raises(ArchiveError, match=why):
        take_survey(reader.items(), limits)
    assert take_survey(reader.items(), WIDE).size_bytes == size_bytes + 7


def test_little_may_be_compressed_a_lot() -> None:
    zeros = bytes(1 << 20)
    data = crafted(Crafted(b"empty.log", zeros, method=8, data=deflated(zeros)))
    take_survey(
        ArchiveReader(io.BytesIO(data)).items(), ArchiveLimits(max_files=9, max_bytes=10**9, max_ratio=10)
    )


def test_a_bomb_is_never_unpacked_beyond_the_size_that_it_announces() -> None:
    data = crafted(Crafted(b"bomb", b"x" * 1000, method=8, data=deflated(bytes(100 << 20)), size_bytes=1000))
    reader, written = ArchiveReader(io.BytesIO(data)), []
    with pytest.raises(ArchiveError, match="size"):
        reader.read(next(reader.items()), lambda piece: written.append(len(piece)))
    assert sum(written) <= 1000


def test_neighbours_that_are_read_at_once_are_what_each_is_by_itself() -> None:
    """Whatever stands between them, and whatever the end of what was read cuts off."""
    contents = [b"", b"stored", b"text " * 5000, b"", os.urandom(999), b"a" * 300]
    data = crafted(
        *(
            Crafted(b"%d" % number, content, method=method, data=packed, local_extra=bytes(extra))
            for number, content in enumerate(contents)
            for method, packed, extra in [
                (8, deflated(content), 900 * number) if content[:1] in b"at" else (0, None, 0)
            ]
        )
    )
    reader = ArchiveReader(io.BytesIO(data))
    entries = list(reader.items())
    assert list(reader.contents(entries)) == contents
    assert list(reader.contents(entries[4:5])) == contents[4:5]
    assert [content_of(reader, entry) for entry in entries] == contents


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (Crafted(b"f", b"abc", crc=1), "checksum"),
        (Crafted(b"f", b"abc", method=8, data=deflated(b"abcd")), "size"),
        (Crafted(b"f", b"abcd", method=8, data=deflated(b"abc")), "size"),
        (Crafted(b"f", b"abc", method=8, data=deflated(bytes(9 << 20))), "size"),
        (Crafted(b"f", b"abc", method=8, data=b"\xff\xff"), "inflated"),
        (Crafted(b"f", b"abc", method=8, data=deflated(b"abc")[:-1]), "inflated"),
        (Crafted(b"f", b"abc", method=8, data=deflated(b"abc") + b"x"), "inflated"),
        (Crafted(b"f", b"abc", local_name=b"g"), "headers differ"),
        (Crafted(b"f", b"abc", local_extra=bytes(60_000), data=b""), "damaged|cannot hold"),
    ],
)
def test_damage_is_found_in_what_is_read_at_once(entry: Crafted, reason: str) -> None:
    reader = ArchiveReader(io.BytesIO(crafted(Crafted(b"before"), entry, Crafted(b"later"))))
    with pytest.raises(ArchiveError, match=f"'f'.*{reason}"):
        list(reader.contents(list(reader.items())))


def test_what_write_raises_comes_out_unchanged() -> None:
    reader = ArchiveReader(io.BytesIO(crafted(Crafted(b"a"))))

    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        reader.read(next(reader.items()), full)


def test_a_very_long_central_directory_is_read_in_blocks() -> None:
    """Names and attributes of tens of KiB, so that records cross the blocks everywhere."""
    deep, attribute = b"/".join([b"d" * 200] * 100), own_extra(1, None, {"user.x": b"y" * 30_000})
    entries = [Crafted(deep + b"%d" % index, b"", extra=attribute) for index in range(60)]
    data = crafted(*entries)
    assert [entry.location.raw_name for entry in listed(data)] == [entry.name for entry in entries]
    assert listed(data)[7].xattrs == {"user.x": b"y" * 30_000}


@pytest.mark.slow
@pytest.mark.parametrize("files", [100, 20_000])
def test_entries_are_the_same_each_time_and_the_memory_for_them_is_bounded(files: int) -> None:
    """The second time the entries of a small archive come from memory; those of a large one do not."""
    reader = ArchiveReader(io.BytesIO(crafted(*(Crafted(b"%d" % number, b"") for number in range(files)))))
    first = list(reader.items())
    tracemalloc.start()
    assert list(reader.items()) == first
    again_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(first) == files
    # A list of references takes 8 bytes for each entry, and somewhat more while it grows.
    assert (again_bytes < 20 * files) == (files == 100)


def test_threads_may_extract_side_by_side(tmp_path: Path) -> None:
    contents = {f"file{index}": os.urandom(50_000) for index in range(20)}
    data = crafted(*(Crafted(name.encode(), content) for name, content in contents.items()))
    (tmp_path / "archive.zip").write_bytes(data)
    with (tmp_path / "archive.zip").open("rb") as file, ThreadPoolExecutor(4) as pool:
        for source in (file, io.BytesIO(data)):
            reader = ArchiveReader(source)
            read = pool.map(partial(content_of, reader), reader.items())
            assert list(read) == list(contents.values())
