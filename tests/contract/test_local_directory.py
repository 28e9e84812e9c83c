"""The local provider over a directory that fills up, fails, vanishes, or is shared."""

import errno
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from providers.api import Limits, Target
from providers.errors import (
    AccessDenied,
    AlreadyThere,
    BadOptions,
    NotFound,
    Rejected,
    TargetAbsent,
)
from providers.local import Local
from providers.testing.streams import (
    BytesSource,
    FailingSource,
    MemorySink,
)
from tests.contract.local_targets import DATA, local, put, small_disk
from tests.support.special_files import SPECIAL, special


@contextmanager
def without_root() -> Iterator[None]:
    """As nobody, when the tests run as root, whom no mode bit stops."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if user == 0:
            os.seteuid(user)


# -- the target ---------------------------------------------------------------------------------------


def test_a_target_that_does_not_exist_is_absent(tmp_path: Path) -> None:
    for use in (
        lambda: local(tmp_path / "gone").preflight(False),
        lambda: put(tmp_path / "gone"),
        lambda: local(tmp_path / "gone").get("a.zip", MemorySink(), {}),
        lambda: list(local(tmp_path / "gone").list("")),
        lambda: local(tmp_path / "gone").delete("a.zip"),
    ):
        with pytest.raises(TargetAbsent, match="'device' is not there"):
            use()


def test_deleting_leads_nowhere_else(tmp_path: Path) -> None:
    """Somebody may have put links into a stick: what they lead to is not the target's."""
    target, outside = tmp_path / "target", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    (outside / "a.zip").write_bytes(DATA)
    (target / "link.zip").symlink_to(outside / "a.zip")
    (target / "way").symlink_to(outside)
    local(target).delete("link.zip")
    with pytest.raises(Rejected):
        local(target).delete("way/a.zip")
    assert (outside / "a.zip").exists()
    assert [path.name for path in target.iterdir()] == ["way"]


def test_a_target_that_is_a_file_is_absent(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TargetAbsent):
        local(tmp_path / "file").preflight(True)


def test_the_empty_directory_of_an_unplugged_stick_is_absent(tmp_path: Path) -> None:
    with pytest.raises(TargetAbsent, match="nothing is mounted"):
        local(tmp_path, mount=True).preflight(True)
    with pytest.raises(TargetAbsent):
        local(tmp_path, mount=True).put("a.zip", BytesSource(DATA), {}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_mounted_file_system_is_there(tmp_path: Path) -> None:
    with small_disk(tmp_path / "stick") as stick:
        local(stick, mount=True).preflight(True)


def test_a_target_that_cannot_be_written_is_denied() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o555)
        with without_root():
            with pytest.raises(AccessDenied):
                local(Path(directory)).preflight(True)
            with pytest.raises(AccessDenied):
                put(Path(directory))


def test_the_target_defaults_to_device_and_names_the_choices(tmp_path: Path) -> None:
    limits = Limits(targets={"device": Target(tmp_path), "usb": Target(tmp_path / "usb")})
    Local({}, limits)
    with pytest.raises(BadOptions, match="must be one of: device, usb"):
        Local({"local.target": "attic"}, limits)


# -- how it is stored ---------------------------------------------------------------------------------


def test_archives_are_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        put(tmp_path, "sub/a.zip")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "sub").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "sub/a.zip").stat().st_mode) == 0o600


def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_put_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def seen_fsync(descriptor: int) -> None:
        calls.append("fsync directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync file")
        fsync(descriptor)

    def seen_rename(old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        calls.append(f"rename to {new}")
        rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(os, "rename", seen_rename)
    put(tmp_path)
    assert calls == ["fsync file", "rename to a.zip", "fsync directory"]


def test_directories_made_for_a_failed_put_are_removed_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    with pytest.raises(EOFError):
        local(tmp_path).put("kept/new/deep/a.zip", FailingSource(DATA, 9, EOFError()), {}, {})
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["kept"]


def test_the_longest_possible_name_fits_and_a_longer_one_is_rejected(tmp_path: Path) -> None:
    put(tmp_path, "ü" * 127)
    assert local(tmp_path).get("ü" * 127, MemorySink(), {}).size_bytes == len(DATA)
    with pytest.raises(Rejected, match="length"):
        put(tmp_path, "a" * 256)


def test_a_name_that_looks_unfinished_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(Rejected):
        put(tmp_path, ".a.zip.part-0123456789abcdef")


def test_a_directory_in_the_place_of_the_archive_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.zip").mkdir()
    with pytest.raises(Rejected):
        put(tmp_path)
    with pytest.raises(NotFound):
        local(tmp_path).get("a.zip", MemorySink(), {})
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(NotFound):
        local(tmp_path).get("a.zip", MemorySink(), {})


# -- symbolic links -----------------------------------------------------------------------------------


def test_no_symbolic_link_is_followed_on_the_way(tmp_path: Path) -> None:
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    target.mkdir()
    (outside / "a.zip").write_bytes(b"private")
    (target / "link").symlink_to(outside)
    with pytest.raises(Rejected):
        put(target, "link/b.zip")
    with pytest.raises(Rejected):
        local(target).get("link/a.zip", MemorySink(), {})
    assert list(local(target).list("link/")) == []
    assert [path.name for path in outside.iterdir()] == ["a.zip"]


def test_a_symbolic_link_with_the_archives_name_is_neither_read_nor_replaced(tmp_path: Path) -> None:
    """Somebody put it there for a purpose."""
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.write_bytes(b"private")
    target.mkdir()
    (target / "a.zip").symlink_to(outside)
    with pytest.raises(Rejected):
        local(target).get("a.zip", MemorySink(), {})
    with pytest.raises(Rejected):
        put(target)
    assert outside.read_bytes() == b"private"
    assert (target / "a.zip").readlink() == outside


def test_an_error_names_the_file_that_it_is_about(tmp_path: Path) -> None:
    """root's `restic prune` had left one index that the agent's user could not read, among thousands."""
    (tmp_path / "index").mkdir()
    (tmp_path / "index/feb22b5a").symlink_to("elsewhere")
    with pytest.raises(Rejected, match="target 'device', 'feb22b5a': a symbolic link is in the way"):
        local(tmp_path).get("index/feb22b5a", MemorySink(), {})


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_not_listed(tmp_path: Path, kind: str) -> None:
    """Nobody can get it; in a repository, one link among the locks kept every backup away."""
    put(tmp_path, "locks/a.zip")
    with special(tmp_path / "locks/special", kind):
        assert [stored.name for stored in local(tmp_path).list("locks/")] == ["locks/a.zip"]


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    """Not the null device either, which every program of the device needs."""
    with special(tmp_path / "a.zip", kind) as before:
        with pytest.raises(Rejected, match="no regular file"):
            put(tmp_path)
        assert os.lstat(tmp_path / "a.zip") == before
    assert os.listdir(tmp_path) == ["a.zip"]


def test_directories_that_are_deeper_than_any_name_are_passed_over_by_a_listing(tmp_path: Path) -> None:
    """Somebody's data on the same stick must not keep its archives from a restore."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    put(tmp_path, "deep/a.zip")
    assert [stored.name for stored in local(tmp_path).list("")] == ["deep/a.zip"]
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # deeper than Python's own stack


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
def test_an_object_is_created_where_no_hard_links_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """VFAT, which most sticks have, answers EPERM."""

    def link(*_args: object, **_options: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    storage = local(tmp_path)
    storage.create("locks/1", b"one")
    with pytest.raises(AlreadyThere):
        storage.create("locks/1", b"two")
    assert (tmp_path / "locks/1").read_bytes() == b"one"
    assert os.listdir(tmp_path / "locks") == ["1"]


def test_a_list_looks_only_into_the_directory_of_its_prefix(tmp_path: Path) -> None:
    """A repository has hundreds of directories with packs beside the one with locks."""
    looks: list[None] = []
    limits = Limits(targets={"device": Target(tmp_path)}, check=lambda: looks.append(None))
    storage = Local({}, limits)
    storage.create("data/00/0000", b"pack")
    storage.create("locks/1", b"lock")
    looks.clear()
    assert [each.name for each in storage.list("locks/")] == ["locks/1"]
    assert len(looks) == 1
    assert list(storage.list("../")) == []
