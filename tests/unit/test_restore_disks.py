"""A restore on disks that are small, full, read-only or mounted in each other."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.base.errors import IoError, NoSpace
from agent.formats.zip.metadata import own_extra
from agent.restore.root import RestoreOptions
from tests.support.require import require
from tests.support.restoring import LIMITS, is_clean, restore_into, restored, tree_in, unpacked
from tests.support.trees import NOON_NS, Dir, File, Link, Spec, differences, make_tree, snapshot, write_zip


@pytest.fixture
def small_disk(target: Path) -> Iterator[Path]:
    """A file system of 1 MiB and 60 files, mounted at `target`."""
    require(os.geteuid() == 0, "root, to mount")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=60", "none", target], check=True)
    yield target
    subprocess.run(["umount", "-l", target], check=True)


def test_a_target_that_is_a_mount_point_works(small_disk: Path, archive: Path) -> None:
    restored(small_disk, write_zip(archive, {"bin": Dir(), "bin/tool": File(b"#!/bin/sh\n", 0o755)}))
    assert (small_disk / "bin/tool").exists()
    assert is_clean(small_disk)


def test_a_disk_that_fills_up_all_the_same_is_no_space_and_nothing_is_left(
    small_disk: Path, archive: Path
) -> None:
    """Somebody else uses up what was free when the space was checked."""
    write_zip(archive, {f"f{number}": File(b"x" * 17_000) for number in range(40)})
    ballast = small_disk / "ballast"
    ballast.touch()
    before = snapshot(small_disk)

    def fill_up(_bytes_done: int) -> None:
        ballast.write_bytes(bytes(500_000))

    restore = restore_into(small_disk, progress=fill_up)
    try:
        with (
            archive.open("rb") as file,
            pytest.raises(NoSpace, match=r"cannot unpack 'f\d+': No space left on device"),
        ):
            restore.unpack([tree_in(file)])
    finally:
        restore.discard()
    ballast.write_bytes(b"")
    os.utime(ballast, ns=(before["ballast"].mtime_ns, before["ballast"].mtime_ns))
    assert differences(before, snapshot(small_disk)) == []


def test_files_are_counted_in_whole_blocks(small_disk: Path, archive: Path) -> None:
    """Two blocks of 4 KiB for a little more than one."""
    write_zip(archive, {f"f{number}": File(b"x" * 17_000) for number in range(54)})
    with (
        pytest.raises(
            NoSpace, match=rf"the target '{small_disk}' has \d+ bytes left where 1105920 are needed"
        ),
        unpacked(small_disk, archive),
    ):
        pass
    assert os.listdir(small_disk) == []


def test_a_disk_without_room_for_more_files_is_told_before(small_disk: Path, archive: Path) -> None:
    write_zip(archive, {f"f{number}": File() for number in range(60)})
    with (
        pytest.raises(NoSpace, match="has room for 59 more files where 60 are needed"),
        unpacked(small_disk, archive),
    ):
        pass


def test_a_read_only_file_system_is_an_io_error(small_disk: Path, archive: Path) -> None:
    write_zip(archive, {"f": File()})
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(IoError, match=os.strerror(errno.EROFS)), unpacked(small_disk, archive):
        pass


@pytest.fixture(params=["tmpfs", "bind"])
def inner_mount(tmp_path: Path, target: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """`a b/mnt` in the target is a mount point; a bind mount has the same st_dev as the target."""
    require(os.geteuid() == 0, "root, to mount")
    make_tree(target, {"a b": Dir(), "a b/mnt": Dir()})
    source = make_tree(tmp_path / "source", {"precious": File(b"precious")})
    options = ["-t", "tmpfs", "none"] if request.param == "tmpfs" else ["--bind", source]
    subprocess.run(["mount", *options, target / "a b/mnt"], check=True)
    (target / "a b/mnt/precious").write_bytes(b"precious")
    yield target
    subprocess.run(["umount", "-l", target / "a b/mnt"], check=True)


@pytest.mark.parametrize(
    "spec",
    [{"a b/mnt/x": File()}, {"a b/mnt": Dir()}, {"a b/mnt": File()}, {"a b": File()}, {"a b": Link("x")}],
)
def test_a_mount_point_in_the_way_is_named_before_anything_changes(
    inner_mount: Path, archive: Path, spec: Spec
) -> None:
    before = snapshot(inner_mount)
    with pytest.raises(IoError, match="'a b/mnt' in the target is a mount point"):
        restored(inner_mount, write_zip(archive, spec))
    assert differences(before, snapshot(inner_mount)) == []


def test_replace_does_not_remove_what_holds_a_mount_point(inner_mount: Path, archive: Path) -> None:
    before = snapshot(inner_mount)
    with pytest.raises(IoError, match="'a b/mnt' in the target is a mount point"):
        restored(
            inner_mount, write_zip(archive, {"f": File()}), RestoreOptions(limits=LIMITS, mode="replace")
        )
    assert differences(before, snapshot(inner_mount)) == []


def test_beside_a_mount_point_everything_can_be_restored(inner_mount: Path, archive: Path) -> None:
    restored(inner_mount, write_zip(archive, {"a b": Dir(0o711), "a b/f": File(b"f")}))
    assert (inner_mount / "a b/f").read_bytes() == b"f"
    assert (inner_mount / "a b/mnt/precious").read_bytes() == b"precious"


def test_holes_need_no_space_on_the_disk(small_disk: Path, archive: Path) -> None:
    """A sparse file that is larger than the free space was refused on the disk that it came from."""
    image = b"head" + bytes(3 << 20) + b"tail"
    write_zip(archive, {"image": File(image), "zeros": File(bytes(2 << 20)), "small": File(bytes(200_000))})
    restored(small_disk, archive)
    assert (small_disk / "image").read_bytes() == image
    assert sum(path.stat().st_blocks for path in small_disk.iterdir()) * 512 < 1 << 20


def test_further_names_of_a_file_need_no_space_on_the_disk(small_disk: Path, archive: Path) -> None:
    content = os.urandom(600_000)
    first = own_extra(NOON_NS, b"first", {})
    names = {f"name-{number}": File(content) for number in range(5)}
    write_zip(archive, {"first": File(content)} | names, dict.fromkeys(names, first))
    restored(small_disk, archive)
    assert (small_disk / "name-4").stat().st_nlink == 6


def test_too_little_space_is_told_before_the_first_byte(small_disk: Path, archive: Path) -> None:
    write_zip(archive, {"f": File(os.urandom(900_000))})
    before = small_disk.stat().st_ctime_ns
    options = RestoreOptions(limits=LIMITS, reserve_bytes=64 << 20)
    with (
        pytest.raises(NoSpace, match="are needed beside the reserve of"),
        unpacked(small_disk, archive, options),
    ):
        pass
    assert small_disk.stat().st_ctime_ns == before


def test_what_pretends_to_be_a_further_name_does_not_take_the_reserve(
    small_disk: Path, archive: Path
) -> None:
    """Without its first name it is written."""
    spec = {f"f{number}": File(os.urandom(100_000)) for number in range(8)}
    write_zip(archive, spec, dict.fromkeys(spec, own_extra(NOON_NS, b"missing", {})))
    options = RestoreOptions(limits=LIMITS, reserve_bytes=500_000)
    with (
        pytest.raises(NoSpace, match="needed beside the reserve of 262144"),
        unpacked(small_disk, archive, options),
    ):
        pass
    assert os.listdir(small_disk) == []


def test_the_space_that_is_missing_is_told_without_the_holes(small_disk: Path, archive: Path) -> None:
    write_zip(archive, {"holes": File(bytes(8 << 20)), "full": File(os.urandom(1 << 20)), "d": Dir()})
    with pytest.raises(NoSpace, match=r"has \d+ bytes left where 1052672 are"), unpacked(small_disk, archive):
        pass


def test_a_file_that_nobody_may_replace_is_named_with_what_may_protect_it(
    target: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An immutable file (chattr +i) cannot be replaced by root either, and its mode says nothing of it."""
    make_tree(target, {"resolv.conf": File(b"old")})

    def protected(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("agent.restore.disk.move", protected)
    with pytest.raises(IoError, match=r"cannot put 'resolv\.conf' in place: Operation not permitted .*lsat"):
        restored(target, write_zip(archive, {"resolv.conf": File(b"new")}))
    assert (target / "resolv.conf").read_bytes() == b"old"
