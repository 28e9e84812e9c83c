"""Restores on file systems whose directories behave otherwise than ext4's, as POSIX allows."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.base.errors import Cancelled
from agent.restore import Recovery, RestoreOptions, recover
from agent.transfer.cancel import CancelToken
from tests.support.fakes import Device
from tests.support.real_disks import LARGE_KINDS, Disk, real_disk
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
        restore.apply()
        restore.let_go()
        with pytest.raises(OSError, match="not empty"):
            (target / f".edge-backup-{JOB}").rmdir()
        assert recover(target, JOB) is Recovery.ROLLED_BACK
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
