"""A hostile archive, or a hostile user who may write in the target, gets nothing out of a restore."""

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.base.errors import AccessForbidden, ArchiveError, IoError
from agent.formats.entry_checks import ArchiveLimits
from agent.restore.directories import make_target, missing, remove_made
from agent.restore.recovery import recover
from agent.restore.root import RestoreOptions
from tests.support.archives import Crafted, crafted
from tests.support.require import possible, require
from tests.support.restoring import JOB, LIMITS, NOBODY, is_clean, restored
from tests.support.trees import Dir, File, Link, differences, make_tree, snapshot, write_zip

WORK = f".edge-backup-{JOB}"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return make_tree(tmp_path.resolve() / "target", {"f": File(b"old")})


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "a.zip", {"f": File(b"new"), "d": Dir(), "d/g": File(b"g")})


def refused(target: Path, archive: Path, why: str, options: RestoreOptions | None = None) -> None:
    before = snapshot(target)
    with pytest.raises((ArchiveError, IoError, AccessForbidden), match=why):
        restored(target, archive, options)
    assert differences(before, snapshot(target)) == []


def test_directories_that_are_only_implied_count_against_the_limit(target: Path, archive: Path) -> None:
    """A name of 65,535 bytes makes 32,767 of them: a small archive would fill the disk with directories."""
    limits = ArchiveLimits(max_files=2_000, max_bytes=1 << 30, max_ratio=1000)
    archive.write_bytes(crafted(*(Crafted(b"%d/" % n + b"d/" * 40 + b"f") for n in range(60))))
    refused(target, archive, "more directories than the limit", RestoreOptions(limits=limits))
    archive.write_bytes(crafted(Crafted(b"d/" * 1500 + b"f")))
    refused(target, archive, "more directories than the limit", RestoreOptions(limits=limits))


def test_a_name_that_is_too_long_for_the_target_is_refused(target: Path, archive: Path) -> None:
    for name in (b"x" * 256, b"x" * 256 + b"/f"):
        archive.write_bytes(crafted(Crafted(name)))
        refused(target, archive, "too long for the target's file system")


def test_a_time_beyond_all_times_is_ignored(target: Path, archive: Path) -> None:
    own = b"Edge\1\x0c\0" + struct.pack("<qL", (1 << 63) - 1, 0xFFFF_FFFF)
    archive.write_bytes(crafted(Crafted(b"x", extra=b"EB" + struct.pack("<H", len(own)) + own)))
    assert (restored(target, archive) / "x").stat().st_mtime < 1 << 33


@pytest.mark.parametrize("ids", [(0xFFFF_FFFF, 0xFFFF_FFFF), (0xFFFF_FFFF, 0), (0, 0xFFFF_FFFF)])
def test_the_id_that_means_leave_it_to_chown_is_no_owner(
    target: Path, archive: Path, ids: tuple[int, int]
) -> None:
    require(os.geteuid() == 0, "root, to give files away")
    os.chown(target / "f", 12, 34)
    extra = b"ux\x0b\0\x01\x04" + struct.pack("<LBL", ids[0], 4, ids[1])
    archive.write_bytes(crafted(Crafted(b"f", extra=extra)))
    status = (restored(target, archive) / "f").stat()
    assert (status.st_uid, status.st_gid) == (12, 34)


@pytest.mark.parametrize("node", [File(b"notes"), Link("f")])
def test_a_file_that_is_called_like_our_directories_comes_back(
    target: Path, archive: Path, node: File | Link
) -> None:
    """It is archived, so it must not make the archive useless."""
    write_zip(archive, {".edge-backup-notes": node})
    assert os.path.lexists(restored(target, archive) / ".edge-backup-notes")


def test_a_directory_that_is_called_like_ours_comes_back(target: Path, archive: Path) -> None:
    write_zip(archive, {".edge-backup-mine": Dir(), ".edge-backup-mine/f": File(b"notes")})
    assert (restored(target, archive) / ".edge-backup-mine/f").read_bytes() == b"notes"


def test_a_file_does_not_replace_what_another_restore_left(target: Path, archive: Path) -> None:
    own = RestoreOptions(limits=LIMITS, own=(target / ".edge-backup-other",))
    make_tree(target, {".edge-backup-other": Dir(), ".edge-backup-other/plan": File(b"to be undone")})
    write_zip(archive, {".edge-backup-other": File(b"notes")})
    refused(target, archive, "agent's own storage, archives or work", own)


@pytest.mark.parametrize("planted", ["directory", "link"])
def test_a_working_directory_that_somebody_else_put_there_is_not_used(
    target: Path, archive: Path, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    """Users who may write in the target can swap it right after it was made."""
    require(os.geteuid() == 0, "root, to act as another user")
    outside = make_tree(target.parent / "outside", {})
    make = os.mkdir

    def swapped(name: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        make(name, mode, dir_fd=dir_fd)
        if name == WORK and dir_fd is not None:
            (target / WORK).rename(target / "moved")
            if planted == "link":
                (target / WORK).symlink_to(outside)
            else:
                (target / WORK).mkdir()
                os.chown(target / WORK, NOBODY, NOBODY)

    monkeypatch.setattr(os, "mkdir", swapped)
    with pytest.raises(IoError):
        restored(target, archive)
    assert os.listdir(outside) == []
    assert (target / "f").read_bytes() == b"old"
    assert os.listdir(target / "moved") == []


def test_a_plan_that_somebody_else_left_is_not_carried_out(target: Path) -> None:
    require(os.geteuid() == 0, "root, to act as another user")
    make_tree(target, {"private": Dir(0o700), WORK: Dir(0o777), f"{WORK}/undo": Dir(0o777)})
    plan = target / WORK / "plan"
    plan.write_text('[0, "keep", "private", [511, 65534, 65534, null], null]\n')
    os.chown(target / WORK, NOBODY, NOBODY)
    before = snapshot(target)
    with pytest.raises(IoError, match="belongs to somebody else"):
        recover(target, JOB)
    assert differences(before, snapshot(target)) == []


def test_removing_what_was_made_follows_no_link(tmp_path: Path) -> None:
    path = tmp_path.resolve() / "made" / "target"
    made = missing(path)
    make_target(path)
    elsewhere = make_tree(tmp_path / "elsewhere", {"target": Dir()})
    path.parent.rename(tmp_path / "moved")
    path.parent.symlink_to(elsewhere)
    remove_made(made)
    assert (elsewhere / "target").is_dir()


@pytest.fixture
def foreign_disk(target: Path) -> Iterator[Path]:
    """A file system as on a stick, mounted at `target`: it ignores case, and all belongs to user 1234."""
    programs = ("mkfs.exfat", "mount.exfat-fuse", "losetup")
    require(
        all(map(shutil.which, programs)) and os.geteuid() == 0, "exfatprogs, exfat-fuse and root, to mount"
    )
    possible(os.access("/dev/fuse", os.W_OK), "mount with FUSE")
    possible(subprocess.run(["losetup", "--find"], check=False).returncode == 0, "loop devices")
    image, destination = target.with_suffix(".img"), make_tree(target.with_name("stick"), {})
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.exfat", image], check=True, stdout=subprocess.DEVNULL)
    device = subprocess.check_output(["losetup", "--find", "--show", image], text=True).strip()
    try:
        mount = ["mount.exfat-fuse", "-o", "uid=1234,umask=077", device]
        subprocess.run([*mount, destination], check=True, stdout=subprocess.DEVNULL)
        yield destination
        subprocess.run(["umount", destination], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_where_case_does_not_count_a_file_in_another_case_is_replaced_and_not_lost(
    foreign_disk: Path, archive: Path, mode: str
) -> None:
    (foreign_disk / "Readme").write_bytes(b"old")
    (foreign_disk / "only old").write_bytes(b"old")
    write_zip(archive, {"README": File(b"new"), "Dir": Dir(), "dir/f": File(b"f")})
    restored(foreign_disk, archive, RestoreOptions(limits=LIMITS, mode=mode))
    assert (foreign_disk / "README").read_bytes() == b"new"
    assert (foreign_disk / "DIR/F").read_bytes() == b"f"
    assert (foreign_disk / "only old").exists() == (mode == "merge")
    assert is_clean(foreign_disk)


def test_where_case_does_not_count_two_names_for_one_file_are_refused(
    foreign_disk: Path, archive: Path
) -> None:
    write_zip(archive, {"a": File(b"one"), "A": File(b"two")})
    with pytest.raises(ArchiveError, match="is there twice"):
        restored(foreign_disk, archive)
    assert os.listdir(foreign_disk) == []
