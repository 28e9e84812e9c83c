"""Access control lists and user attributes after a restore are those of the archive, on everything."""

import errno
import os
import stat
import struct
from pathlib import Path

import pytest

from agent.formats.zip.metadata import own_extra
from agent.restore.metadata import xattrs_of
from agent.restore.root import RestoreOptions
from tests.support.acls import ACCESS, DEFAULT, GROUP_OBJ, acl
from tests.support.require import possible
from tests.support.restoring import LIMITS, restored, unpacked
from tests.support.trees import NOON_NS, Dir, File, Spec, make_tree, write_zip

BOB, EVE = 4001, 4666


def group_bits(path: Path) -> int:
    """Return the rights of the file's own group: of its list where it has one, of its mode else."""
    if ACCESS not in os.listxattr(path):
        return stat.S_IMODE(path.stat().st_mode) >> 3 & 7
    entries = struct.iter_unpack("<HHL", os.getxattr(path, ACCESS)[4:])
    return next(int(may) for tag, may, _ in entries if tag == GROUP_OBJ)


TREE: Spec = {"kept": Dir(0o770), "kept/file": File(b"new", 0o640), "fresh": Dir(0o770)}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    target = tmp_path.resolve() / "target"
    make_tree(target, {"kept": Dir(0o750), "kept/file": File(b"old", 0o640)})
    try:
        os.setxattr(target, ACCESS, acl(BOB))
        os.removexattr(target, ACCESS)
    except OSError as error:
        possible(error.errno != errno.ENOTSUP, "access control lists on the file system of the tests")
        raise
    return target


def archive(tmp_path: Path, xattrs: dict[str, dict[str, bytes]], tree: Spec = TREE) -> Path:
    extra = {name: own_extra(NOON_NS, None, found) for name, found in xattrs.items()}
    return write_zip(tmp_path / "new.zip", tree, extra)


def test_a_kept_directory_gets_the_list_and_the_attributes_of_the_archive(
    target: Path, tmp_path: Path
) -> None:
    """Its mode alone would make the list's mask the rights of the group: `r-x` became `rwx`."""
    xattrs = {ACCESS: acl(BOB), DEFAULT: acl(BOB), "user.note": b"archived"}
    os.setxattr(target / "kept", "user.note", b"later")
    restored(target, archive(tmp_path, {"kept": xattrs, "fresh": xattrs}))
    for name in ("kept", "fresh"):
        assert xattrs_of(str(target / name)) == xattrs
        assert group_bits(target / name) == 5


@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_a_list_and_attributes_that_were_added_later_go(target: Path, tmp_path: Path, mode: str) -> None:
    for name in ("kept", "kept/file"):
        os.setxattr(target / name, ACCESS, acl(EVE))
        os.setxattr(target / name, "user.later", b"1")
    os.setxattr(target / "kept", DEFAULT, acl(EVE))
    restored(target, archive(tmp_path, {}), RestoreOptions(limits=LIMITS, mode=mode))
    assert xattrs_of(str(target / "kept")) == xattrs_of(str(target / "kept/file")) == {}
    assert stat.S_IMODE((target / "kept").stat().st_mode) == 0o770


def test_the_default_list_of_a_target_gives_nobody_a_restored_file(target: Path, tmp_path: Path) -> None:
    """It names somebody who then could read a file of mode 0640."""
    os.setxattr(target, DEFAULT, acl(EVE))
    os.setxattr(target / "kept", DEFAULT, acl(EVE))
    restored(target, archive(tmp_path, {}, {**TREE, "top": File(b"t", 0o640), "implied/f": File(b"i")}))
    for name in ("top", "kept", "kept/file", "fresh", "implied", "implied/f"):
        assert xattrs_of(str(target / name)) == {}, name


def test_a_directory_that_the_archive_only_implies_keeps_its_list(target: Path, tmp_path: Path) -> None:
    os.setxattr(target / "kept", ACCESS, acl(BOB))
    os.setxattr(target / "kept", "user.note", b"mine")
    before = xattrs_of(str(target / "kept"))
    restored(target, archive(tmp_path, {}, {"kept/file": File(b"new")}))
    assert xattrs_of(str(target / "kept")) == before


def test_an_archive_without_modes_keeps_the_list_that_its_mode_goes_with(
    target: Path, tmp_path: Path
) -> None:
    """The old mode's group bits are the mask of the old list: one without the other opens the file."""
    for name in ("kept", "kept/file"):
        os.setxattr(target / name, ACCESS, acl(BOB, group=0))
    restored(target, archive(tmp_path, {}, {"kept": Dir(None), "kept/file": File(b"new", None)}))
    for name in ("kept", "kept/file"):
        assert os.getxattr(target / name, ACCESS) == acl(BOB, group=0)
        assert group_bits(target / name) == 0


def test_where_no_list_can_be_the_mask_does_not_become_the_rights_of_the_group(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = archive(tmp_path, {"kept": {ACCESS: acl(BOB)}, "kept/file": {ACCESS: acl(BOB, group=4, mask=6)}})

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTSUP, "no lists here")

    monkeypatch.setattr(os, "setxattr", refuse)
    restored(target, made)
    assert [group_bits(target / name) for name in ("kept", "kept/file")] == [5, 4]


def test_a_restore_that_is_taken_back_brings_the_old_list_back(target: Path, tmp_path: Path) -> None:
    os.setxattr(target / "kept", ACCESS, acl(BOB, group=0))
    os.setxattr(target / "kept", "user.note", b"mine")
    before = {name: xattrs_of(str(target / name)) for name in ("kept", "kept/file")}

    def refuse() -> None:
        assert ACCESS not in os.listxattr(target / "kept")
        raise RuntimeError("afterRestoreCmd failed")

    with unpacked(target, archive(tmp_path, {})) as restore, pytest.raises(RuntimeError):
        restore.commit(refuse)
    assert {name: xattrs_of(str(target / name)) for name in ("kept", "kept/file")} == before
    assert group_bits(target / "kept") == 0


def test_a_changed_list_is_a_change(target: Path, tmp_path: Path) -> None:
    """Of files with the same content, and of directories that both sides have."""
    same: Spec = {"kept": Dir(0o750), "kept/file": File(b"old", 0o640)}

    def changed() -> int:
        with unpacked(target, archive(tmp_path, {}, same)) as restore:
            return restore.difference().changed

    assert changed() == 0
    os.setxattr(target / "kept", "user.note", b"mine")
    assert changed() == 1
    os.setxattr(target / "kept/file", ACCESS, acl(EVE, group=4, mask=4))
    assert changed() == 2
