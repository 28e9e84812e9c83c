"""Unpacking keeps what the archive says, refuses what it must not say, and leaves the target alone."""

import contextlib
import errno
import os
import stat
import time
from pathlib import Path

import pytest

from agent.base.errors import ArchiveError, Cancelled, IoError
from agent.formats.zip.metadata import own_extra
from agent.restore import disk
from agent.restore.memory import work_directory_of
from agent.restore.root import RestoreOptions
from agent.restore.workspace import NEW
from agent.transfer.cancel import CancelToken
from tests.support.archives import Crafted, crafted
from tests.support.diskfaults import striking
from tests.support.require import require
from tests.support.restoring import (
    JOB,
    LIMITS,
    is_clean,
    restore_into,
    restored,
    tree_in,
    unpacked,
    without_working_directory,
)
from tests.support.trees import NOON_NS, Dir, File, Link, Spec, differences, make_tree, snapshot, write_zip

TREE: Spec = {
    "empty": Dir(0o700, -5),
    "bin": Dir(0o555),
    "bin/tool": File(b"#!/bin/sh\n", 0o755),
    "bin/link": Link("tool", 123),
    "bin/dangling": Link("/no/where"),
    "grüße.txt": File("grüße".encode(), 0o600, 1 << 60),
    os.fsdecode(b"not utf-8 \xff\n"): File(b"x", 0o000),
}


def owner_extra(uid: int, gid: int) -> bytes:
    """Info-ZIP's field 0x7875: version 1, then both ids after their size."""
    return b"ux\x0b\0\x01\x04" + uid.to_bytes(4, "little") + b"\x04" + gid.to_bytes(4, "little")


def test_content_modes_times_and_links_come_back(tmp_path: Path, target: Path, archive: Path) -> None:
    expected = snapshot(make_tree(tmp_path / "expected", TREE))
    found = snapshot(restored(target, write_zip(archive, TREE)))
    del expected[""], found[""]
    assert differences(expected, found) == []


def test_unpacking_does_not_touch_the_target_not_even_its_time(target: Path, archive: Path) -> None:
    make_tree(target, {"bin": Dir(), "bin/tool": File(b"old")})
    before = snapshot(target)
    with unpacked(target, write_zip(archive, TREE)):
        assert differences(before, without_working_directory(target)) == []
        assert sorted(os.listdir(work_directory_of(target, JOB) / NEW)) == sorted(
            name for name in TREE if "/" not in name
        )
        assert stat.S_IMODE((target / f".edge-backup-{JOB}").stat().st_mode) == 0o700
    assert differences(before, snapshot(target)) == []


def many_files() -> Spec:
    """Enough for several batches, of the caller and of each thread, with directories, links and large files
    in between."""
    spec: dict[str, File | Dir | Link] = {}
    for number in range(900):
        directory = f"d{number // 150}/e{number // 70}"
        spec |= {directory[:2]: Dir(0o750), directory: Dir(0o555)}
        spec[f"{directory}/f{number:03}"] = File(
            f"{number} ".encode() * (number % 50) * (1 if number < 450 else 150),
            0o600 | number % 64,
            NOON_NS + number * 2_000_000_000,
        )
        if number % 190 == 5:
            spec[f"{directory}/large"] = File(os.urandom(1000) * 700 + bytes(400_000), 0o640)
            spec[f"{directory}/link"] = Link(f"f{number:03}")
            spec[f"{directory}/empty"] = Dir(0o711)
    return spec


def test_threads_make_the_same_tree_over_nothing_and_over_itself(
    tmp_path: Path, target: Path, archive: Path
) -> None:
    spec = many_files()
    expected = snapshot(make_tree(tmp_path / "expected", spec))
    write_zip(archive, spec)
    del expected[""]
    for _ in range(2):
        found = snapshot(restored(target, archive))
        del found[""]
        assert differences(expected, found) == []
        assert is_clean(target)


@pytest.mark.slow
@pytest.mark.parametrize("size_bytes", [300, 10_000])
@pytest.mark.parametrize("number", [0, 555, 799])
def test_a_damaged_file_among_many_is_named_and_nothing_is_left(
    target: Path, archive: Path, number: int, size_bytes: int
) -> None:
    """Whoever makes the files, and whoever inflates them: the caller, a thread, or both."""
    files = [Crafted(b"d%d/f%d" % (index // 90, index), b"x" * size_bytes) for index in range(800)]
    files[number].crc = 1
    archive.write_bytes(crafted(*files))
    before = snapshot(target)
    with pytest.raises(ArchiveError, match=f"/f{number}' is damaged"), unpacked(target, archive):
        pass
    assert differences(before, snapshot(target)) == []


def test_a_hard_link_to_a_file_that_a_thread_still_makes(target: Path, archive: Path) -> None:
    first, link = own_extra(NOON_NS, None, {}), own_extra(NOON_NS, b"f0", {})
    files = [
        Crafted(b"f%d" % number, b"same", extra=link if number % 3 == 1 else first) for number in range(300)
    ]
    archive.write_bytes(crafted(*files))
    restored(target, archive)
    inodes = [(target / f"f{number}").stat().st_ino for number in range(300)]
    assert {inodes[number] for number in range(1, 300, 3)} == {inodes[0]}
    assert len(set(inodes)) == 200


def test_the_survey_and_the_progress_tell_what_was_unpacked(target: Path, archive: Path) -> None:
    write_zip(archive, {"d": Dir(), "d/f": File(bytes(700_000)), "l": Link("d")})
    seen: list[int] = []
    expected: list[int] = []
    restore = restore_into(target, progress=seen.append, expected=expected.append)
    with archive.open("rb") as file:
        (survey,) = restore.unpack([tree_in(file)])
    restore.discard()
    assert (survey.files, survey.directories, survey.links) == (1, 1, 1)
    assert seen == sorted(seen)
    assert seen[-1] == 700_000
    assert expected == [survey.size_bytes]


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([("a", File()), ("a", File())], "is there twice"),
        ([("a", Link("x")), ("a", File())], "is there twice"),
        ([("a", File()), ("a", Dir())], "is there twice"),
        ([("a", File()), ("a/b", File())], "is no directory but others lie below it"),
        ([("a", Dir()), ("a", File())], "is there twice"),
        ([("a", Link("/etc")), ("a/passwd", File())], "lies below a symbolic link"),
        ([("a/passwd", File()), ("a", Link("/etc"))], "is there twice"),
        ([("../a", File())], "points above"),
        ([("/a", File())], "is absolute"),
        ([(f".edge-backup-{JOB}", Dir())], "own working directory"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_names_are_refused_and_nothing_is_left(
    target: Path, archive: Path, entries: list[tuple[str, File | Dir | Link]], reason: str
) -> None:
    write_zip(archive, entries)
    before = snapshot(target)
    with pytest.raises(ArchiveError, match=reason), unpacked(target, archive):
        pass
    assert differences(before, snapshot(target)) == []


def test_a_link_whose_target_has_a_nul_byte_is_refused(target: Path, archive: Path) -> None:
    write_zip(archive, {"a": Link("b\0c")})
    with pytest.raises(ArchiveError, match="NUL"), unpacked(target, archive):
        pass
    assert is_clean(target)


def test_a_wrong_checksum_is_an_archive_error_and_nothing_is_left(target: Path, archive: Path) -> None:
    write_zip(archive, {"a": File(b"content" * 1000)})
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 16] ^= 1  # the CRC in the central directory (APPNOTE 4.3.12)
    local = data.index(b"PK\x03\x04") + 14
    data[local] ^= 1
    archive.write_bytes(data)
    with pytest.raises(ArchiveError, match="checksum"), unpacked(target, archive):
        pass
    assert is_clean(target)


@pytest.mark.parametrize(("special_bits", "mode"), [(False, 0o755), (True, 0o6755)])
def test_set_uid_and_set_gid_bits_come_back_only_when_asked_for(
    target: Path, archive: Path, special_bits: bool, mode: int
) -> None:
    write_zip(archive, {"tool": File(b"x", 0o6755)})
    restored(target, archive, RestoreOptions(limits=LIMITS, special_bits=special_bits))
    assert stat.S_IMODE((target / "tool").stat().st_mode) == mode


def test_the_sticky_bit_of_a_directory_always_comes_back(target: Path, archive: Path) -> None:
    """It gives nobody a right: without it, everybody could remove what others have in the directory."""
    make_tree(target, {"there": Dir(0o777)})
    write_zip(archive, {"there": Dir(0o1777), "new": Dir(0o1777)})
    restored(target, archive, RestoreOptions(limits=LIMITS))
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (target / "there", target / "new")]
    assert modes == [0o1777, 0o1777]


def test_an_archive_without_modes_keeps_those_of_what_it_replaces(target: Path, archive: Path) -> None:
    make_tree(target, {"tool": File(b"old", 0o711), "d": Dir(0o711), "becomes-file": Dir(0o711)})
    spec: Spec = {"tool": File(b"new", None), "fresh": File(b"", None), "becomes-file": File(b"", None)}
    restored(target, write_zip(archive, {**spec, "d/fresh": File(b"", None), "e/fresh": File(b"", None)}))
    modes = {name: oct(found.mode) for name, found in snapshot(target).items() if name}
    assert modes == {
        "tool": "0o711",
        "fresh": "0o644",
        "becomes-file": "0o644",
        "d": "0o711",
        "d/fresh": "0o644",
        "e": "0o755",
        "e/fresh": "0o644",
    }


def test_a_directory_entry_after_its_contents_has_the_last_word(target: Path, archive: Path) -> None:
    restored(target, write_zip(archive, {"d/e/f": File(), "d/e": Dir(0o711, 1), "d": Dir(0o500, 2)}))
    found = snapshot(target)
    assert (found["d"].mode, found["d"].mtime_ns) == (0o500, 2)
    assert (found["d/e"].mode, found["d/e"].mtime_ns) == (0o711, 1)


def test_hard_links_are_hard_links_again(target: Path, archive: Path) -> None:
    linked = own_extra(NOON_NS, b"d/first", {})
    spec: Spec = {"d": Dir(), "d/first": File(b"one file"), "second": File(b"one file")}
    restored(target, write_zip(archive, spec, {"second": linked}))
    assert (target / "second").stat().st_ino == (target / "d/first").stat().st_ino


@pytest.mark.parametrize("other", [File(b"a longer one"), File(b"other", mtime_ns=NOON_NS - 10_000)])
def test_an_entry_that_differs_from_the_file_it_is_linked_to_becomes_a_file(
    target: Path, archive: Path, other: File
) -> None:
    """borg#1297: inode numbers come again, so a new file may count as another name of a removed one."""
    spec: Spec = {"first": File(b"first"), "second": other}
    extra = {"second": own_extra(other.mtime_ns, b"first", {})}
    restored(target, write_zip(archive, spec, extra))
    assert (target / "second").read_bytes() == other.content
    assert (target / "first").read_bytes() == b"first"


@pytest.mark.parametrize("first", [b"missing", b"d", b"link", b"d/missing/too"])
def test_a_hard_link_to_what_is_no_earlier_file_becomes_a_file(
    target: Path, archive: Path, first: bytes
) -> None:
    spec: Spec = {"d": Dir(), "link": Link("/etc/passwd"), "second": File(b"content")}
    restored(target, write_zip(archive, spec, {"second": own_extra(NOON_NS, first, {})}))
    assert (target / "second").read_bytes() == b"content"
    assert (target / "second").stat().st_nlink == 1


def test_long_runs_of_zeros_become_holes(target: Path, archive: Path) -> None:
    content = bytes(8 << 20) + b"end of the first hole" + bytes(8 << 20)
    restored(target, write_zip(archive, {"sparse": File(content)}))
    assert (target / "sparse").read_bytes() == content
    assert (target / "sparse").stat().st_blocks * 512 < 2 << 20


def test_user_attributes_come_back_and_capabilities_do_not(target: Path, archive: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service+ep
    xattrs = {"user.note": b"kept", "security.capability": capability}
    extra = {name: own_extra(NOON_NS, None, xattrs) for name in ("f", "d")}
    restored(target, write_zip(archive, {"f": File(b"x"), "d": Dir()}, extra))
    assert os.getxattr(target / "f", "user.note") == b"kept"
    assert os.getxattr(target / "d", "user.note") == b"kept"
    assert "security.capability" not in os.listxattr(target / "f")


def test_capabilities_come_back_with_the_special_bits_also_after_a_change_of_owner(
    target: Path, archive: Path
) -> None:
    require(os.geteuid() == 0, "root, to give files away and set capabilities")
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    extra = own_extra(NOON_NS, None, {"security.capability": capability}) + owner_extra(1234, 567)
    write_zip(archive, {"tool": File(b"x", 0o755)}, {"tool": extra})
    restored(target, archive, RestoreOptions(limits=LIMITS, special_bits=True))
    assert snapshot(target)["tool"].owner == (1234, 567)
    assert os.getxattr(target / "tool", "security.capability") == capability


def test_owners_come_back_when_allowed_and_stay_when_switched_off(target: Path, archive: Path) -> None:
    require(os.geteuid() == 0, "root, to give files away")
    make_tree(target, {"f": File(b"old"), "d": Dir()})
    for name in ("f", "d"):
        os.chown(target / name, 12, 34)
    names = ("f", "d", "link", "fresh")
    spec: Spec = {"f": File(b"new"), "d": Dir(), "link": Link("f"), "fresh": File()}
    write_zip(archive, spec, dict.fromkeys(names, owner_extra(1234, 567)))
    restored(target, archive, RestoreOptions(limits=LIMITS, owner=False))
    found = snapshot(target)
    assert [found[name].owner for name in names] == [(12, 34), (12, 34), (0, 0), (0, 0)]
    restored(target, archive)
    found = snapshot(target)
    assert [found[name].owner for name in names] == [(1234, 567)] * 4


def test_a_failure_at_any_change_of_the_disk_leaves_nothing_and_the_target_as_it_was(
    target: Path, archive: Path
) -> None:
    def fail() -> None:
        raise OSError(errno.EIO, "")

    write_zip(archive, TREE)
    before, at, struck = snapshot(target), 1, True
    while struck:
        restore = restore_into(target)
        # One failure is survived: tempfile has another way where O_TMPFILE fails.
        with contextlib.suppress(IoError), archive.open("rb") as file, striking(at, fail) as count:
            restore.unpack([tree_in(file)])
        struck = count.calls >= at
        at += 1
        restore.discard()
        assert differences(before, snapshot(target)) == []
    assert at > 30


def test_cancelling_stops_within_a_file(target: Path, archive: Path) -> None:
    write_zip(archive, {"f": File(os.urandom(3 << 20))})
    token = CancelToken()
    restore = restore_into(target, token=token, progress=lambda _done: token.cancel("enough"))
    with archive.open("rb") as file, pytest.raises(Cancelled, match="enough"):
        restore.unpack([tree_in(file)])
    restore.discard()
    assert is_clean(target)


@pytest.mark.slow
def test_directories_may_be_deeper_than_descriptors_and_recursion_go(target: Path, archive: Path) -> None:
    deep = "/".join(["d"] * 1500)
    write_zip(archive, {f"{deep}/file": File(b"deep"), "d/beside": File(b"b")})
    for _ in range(2):  # into nothing, and over itself
        restored(target, archive)
    write_zip(archive, {"d": File(b"a file now")})
    restored(target, archive)
    assert (target / "d").read_bytes() == b"a file now"
    assert is_clean(target)


@pytest.mark.parametrize("pause_s", [0, 0.001])
def test_a_large_working_directory_goes_on_slow_disks_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause_s: float
) -> None:
    """Where an unlink waits for the disk, several threads share them; what is left and fails is alike."""
    unlink = os.unlink

    def slow(name: str, *, dir_fd: int) -> None:
        time.sleep(pause_s)
        unlink(name, dir_fd=dir_fd)

    def failing(name: str, *, dir_fd: int) -> None:
        if name == "700":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        slow(name, dir_fd=dir_fd)

    for number in range(800):
        (tmp_path / str(number)).touch()
        if number % 100 == 0:
            (tmp_path / f"d{number}/inner").mkdir(parents=True)
            (tmp_path / f"d{number}/inner/file").touch()
    top = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(os, "unlink", failing)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        disk.empty(top)
    monkeypatch.setattr(os, "unlink", slow)
    disk.empty(top, "700")
    assert os.listdir(top) == ["700"]
    os.close(top)
