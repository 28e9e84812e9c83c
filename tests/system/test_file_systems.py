"""Restores on file systems whose directories behave otherwise than ext4's, as POSIX allows."""

import errno
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from agent.base.errors import Cancelled, IoError, NotTakenBack
from agent.restore.recovery import RecoveryOutcome, recover
from agent.restore.root import RestoreOptions
from agent.transfer.cancel import CancelToken
from tests.support.diskfaults import striking
from tests.support.fakes import Device
from tests.support.forked import exit_of
from tests.support.real_disks import LARGE_KINDS, Disk, overlay, real_disk
from tests.support.restoring import JOB, LIMITS, is_clean, restored, unpacked
from tests.support.trees import Dir, File, Link, Spec, differences, make_tree, snapshot, write_zip

OLD: Spec = {
    "kept": Dir(),
    "kept/deep": Dir(),
    "kept/deep/file": File(b"old"),
    "was-dir": Dir(),
    "was-dir/sub": Dir(),
    "was-dir/sub/file": File(),
    "gone": Dir(),
    "gone/a": Dir(),
    "gone/a/b": Dir(),
    "gone/a/b/file": File(b"gone"),
}
NEW: Spec = {
    "kept": Dir(),
    "kept/deep": Dir(0o700),
    "kept/deep/file": File(b"new"),
    "kept/link": Link("deep"),
    "was-dir": File(b"now a file"),
    "fresh": Dir(),
    "fresh/a": Dir(),
    "fresh/a/b": Dir(),
    "fresh/a/b/hole": File(bytes(1 << 20)),
}
REPLACE = RestoreOptions(limits=LIMITS, mode="replace")


@pytest.fixture(params=LARGE_KINDS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with real_disk(request.param, tmp_path.resolve() / "disk") as disk:
        yield disk


@pytest.fixture
def target(disk: Disk) -> Path:
    return make_tree(disk.path / "target", OLD)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "new.zip", NEW)


@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_a_restore_of_nested_directories_leaves_nothing_behind(
    target: Path, archive: Path, tmp_path: Path, mode: str
) -> None:
    """btrfs lists on an open descriptor what was there when it was opened or last rewound."""
    restored(target, archive, RestoreOptions(limits=LIMITS, mode=mode))
    assert is_clean(target)
    wanted = snapshot(make_tree(tmp_path / "wanted", NEW))
    found = {name: found for name, found in snapshot(target).items() if not name.startswith("gone")}
    assert [text for text in differences(found, wanted) if not text.startswith("''")] == []
    assert (target / "gone").exists() == (mode == "merge")


def test_what_is_cancelled_in_mid_commit_or_left_by_a_crash_leaves_nothing(
    target: Path, archive: Path
) -> None:
    before = snapshot(target)
    with unpacked(target, archive, REPLACE, token := CancelToken()) as restore:

        def confirm() -> None:
            token.cancel("enough")
            token.check()

        with pytest.raises(Cancelled):
            restore.commit(confirm)
    assert (is_clean(target), differences(before, snapshot(target))) == (True, [])
    with unpacked(target, archive, REPLACE) as restore:
        restore.commit()
        restore.let_go()
        (target / f".edge-backup-{JOB}/done").rename(target / f".edge-backup-{JOB}/plan")
        with pytest.raises(OSError, match="not empty"):
            (target / f".edge-backup-{JOB}").rmdir()
        assert recover(target, JOB) is RecoveryOutcome.ROLLED_BACK
        restore.discard()
    assert (is_clean(target), differences(before, snapshot(target))) == (True, [])


def test_a_discarded_preview_leaves_no_copy_and_the_next_job_runs(disk: Disk, archive: Path) -> None:
    device = Device(disk.path)
    try:
        make_tree(device.data, OLD)
        (device.settings.storage / "archives" / "it.zip").write_bytes(archive.read_bytes())
        place = {"storage.provider": "local", "local.name": "it.zip"}
        before = snapshot(device.data)
        for operation, value in (
            ("restore", {"correlationId": "P", "options": place | {"restore.preview": "true"}}),
            ("discard", {"correlationId": "P"}),
        ):
            said = device.command(operation, value, request_id=operation, header=operation)
            assert said[0][1]["status"] == 204, said
            device.finish()
        assert (is_clean(device.data), differences(before, snapshot(device.data))) == (True, [])
        said = device.command("restore", {"options": place}, request_id="again", header="again")
        assert said[0][1]["status"] == 204, said
        device.finish()
        assert device.values()[-1]["state"] == "RESTORE_FINISHED"
        assert is_clean(device.data)
        assert os.stat(device.data / "fresh/a/b/hole").st_blocks == 0
    finally:
        device.close()


@pytest.fixture
def layered(tmp_path: Path) -> Iterator[Path]:
    """A target whose old files are all in a lower layer."""
    lower = tmp_path.resolve() / "lower"
    make_tree(lower / "target", {**OLD, "closed": Dir(0o500), "closed/f": File(), "empty": Dir(0o711)})
    with overlay(tmp_path.resolve() / "merged", lower) as merged:
        yield merged / "target"


def test_a_directory_of_a_lower_layer_is_replaced_too(layered: Path, archive: Path, tmp_path: Path) -> None:
    """It cannot be renamed: `Invalid cross-device link`, without a path."""
    restored(layered, archive, REPLACE)
    wanted = snapshot(make_tree(tmp_path / "wanted", NEW))
    assert [each for each in differences(snapshot(layered), wanted) if not each.startswith("''")] == []


def test_a_failure_at_any_change_brings_a_lower_layer_back_as_it_was(layered: Path, archive: Path) -> None:
    before = snapshot(layered)
    at = 0
    while True:
        at += 1
        with unpacked(layered, archive, REPLACE) as restore, striking(at, refuse) as count:
            try:
                restore.commit()
            except NotTakenBack:
                restore.let_go()
            except IoError:
                pass
        if count.calls < at:
            break
        recover(layered, JOB)
        assert (is_clean(layered), differences(before, snapshot(layered))) == (True, []), at
    assert at > 20
    assert (layered / "was-dir").read_bytes() == b"now a file"


def test_a_commit_over_a_lower_layer_that_is_cut_off_anywhere_goes_back(layered: Path, archive: Path) -> None:
    """Also when the way back is cut off."""
    before = snapshot(layered)
    at = 0
    while True:
        at += 1
        exit_of(partial(_cut_off_commit, layered, archive, at))
        for back in (3, 9):
            exit_of(partial(_cut_off_recovery, layered, back))
        recover(layered, JOB)
        if (layered / "was-dir").is_file():
            break
        assert (is_clean(layered), differences(before, snapshot(layered))) == (True, []), at
    assert at > 20
    assert (is_clean(layered), (layered / "gone").exists()) == (True, False)


def refuse() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def _cut_off_commit(target: Path, archive: Path, at: int) -> None:
    with unpacked(target, archive, REPLACE) as restore, striking(at, partial(os._exit, 9)):
        restore.commit()


def _cut_off_recovery(target: Path, at: int) -> None:
    with striking(at, partial(os._exit, 9)):
        recover(target, JOB)
