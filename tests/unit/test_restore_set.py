"""Several directories become new together, or none does; the mark in the first one says which."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from agent.base.errors import Cancelled, IoError, JobError
from agent.base.roots import Root
from agent.restore.memory import read_working, work_id, working_text
from agent.restore.recovery import is_committed, is_unconfirmed, recover, recover_roots
from agent.restore.restore_set import RestoreSet
from agent.restore.root import RestoreOptions, RestoreRoot
from agent.transfer.cancel import CancelToken
from tests.support.diskfaults import NEVER, striking
from tests.support.restoring import JOB, LIMITS, is_clean, tree_in
from tests.support.trees import Dir, File, Spec, differences, make_tree, snapshot, write_zip

OLD: Spec = {"f": File(b"old"), "d": Dir(), "d/x": File(b"x")}
NEW: Spec = {"f": File(b"new"), "added": File(b"added")}


class Device:
    """Three directories with the same in them, and a restore into all of them."""

    def __init__(self, work: Path) -> None:
        self.targets = [make_tree(work.resolve() / name, OLD) for name in ("a", "b", "c")]
        self.archive = write_zip(work / "new.zip", NEW)
        self.token = CancelToken()
        self.old = [snapshot(target) for target in self.targets]
        self.left = read_working(working_text(dict(enumerate(self.targets))))
        self.places = [(left.directory, work_id(JOB, left.number)) for left in self.left]

    def restore(self) -> RestoreSet:
        options = RestoreOptions(limits=LIMITS)
        return RestoreSet(
            [RestoreRoot(Root("", target), name, options) for target, name in self.places], self.token
        )

    def unpacked(self) -> RestoreSet:
        restore = self.restore()
        with self.archive.open("rb") as file:
            surveys = restore.unpack([tree_in(file) for _ in self.targets])
        assert [(survey.files, survey.size_bytes) for survey in surveys] == [(2, 8)] * 3
        return restore

    def check(self, content: bytes) -> None:
        assert [(target / "f").read_bytes() for target in self.targets] == [content] * 3
        assert all(map(is_clean, self.targets))
        if content == b"old":
            for before, target in zip(self.old, self.targets, strict=True):
                assert differences(before, snapshot(target)) == []


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_all_become_new(device: Device) -> None:
    restore = device.unpacked()
    restore.commit()
    restore.discard()
    device.check(b"new")


def test_when_one_cannot_all_stay_old(device: Device) -> None:
    restore = device.unpacked()
    shutil.rmtree(device.targets[2] / ".edge-backup-job-1-2/new")
    with pytest.raises(IoError, match=r"cannot compare '\.' with the target"):
        restore.commit()
    restore.discard()
    device.check(b"old")


def eio() -> None:
    raise OSError(errno.EIO, "")


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_a_failure_at_any_change_of_a_disk_leaves_all_old(device: Device, twice: bool) -> None:
    """Refused twice, a way back may be left to the recovery, which knows that it was told as failed."""
    at = 0
    failed = True
    while failed:
        at, failed = at + 1, False
        restore = device.unpacked()
        try:
            with striking(at, eio), striking(at if twice else NEVER, eio):
                restore.commit()
        except JobError:
            failed = True
        restore.discard()
        recover_roots(device.left, JOB, failed=failed)
        device.check(b"old" if failed else b"new")
    assert at > 20


def test_a_cancel_in_the_middle_takes_all_back(device: Device) -> None:
    restore = device.unpacked()

    def confirm() -> None:
        device.token.cancel("enough")
        device.token.check()

    with pytest.raises(Cancelled):
        restore.commit(confirm)
    restore.discard()
    device.check(b"old")


def test_on_trial_all_are_kept_or_taken_back(device: Device) -> None:
    for decide, content in ((RestoreSet.take_back, b"old"), (RestoreSet.keep, b"new")):
        restore = device.unpacked()
        restore.commit(unconfirmed=True)
        restore.let_go()
        assert is_unconfirmed(device.left, JOB)
        assert [(target / "f").read_bytes() for target in device.targets] == [b"new"] * 3
        later = device.restore()
        later.take_up()
        decide(later)
        later.discard()
        device.check(content)


def test_without_the_mark_of_the_first_all_go_back(device: Device) -> None:
    """A crash right before the decision: everything is in place everywhere."""
    device.unpacked().commit()
    (device.targets[0] / ".edge-backup-job-1/done").rename(device.targets[0] / ".edge-backup-job-1/plan")
    assert [(target / "f").read_bytes() for target in device.targets] == [b"new"] * 3
    recover_roots(device.left, JOB)
    device.check(b"old")


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_with_the_mark_of_the_first_all_are_new(device: Device, gone: int) -> None:
    """A crash after the decision, and after some of the others were tidied up."""
    device.unpacked().commit()
    assert is_committed(device.left, JOB)
    for number in range(1, gone + 1):
        shutil.rmtree(device.targets[number] / f".edge-backup-job-1-{number}")
    recover_roots(device.left, JOB)
    recover_roots(device.left, JOB)
    device.check(b"new")


def test_what_failed_goes_back_though_the_first_was_marked(device: Device) -> None:
    """Only the last sync was refused, and the job was told to have failed."""
    device.unpacked().commit()
    recover_roots(device.left, JOB, failed=True)
    device.check(b"old")


@pytest.mark.parametrize("done", [1, 2])
def test_a_recovery_that_is_cut_off_goes_on_in_the_same_direction(device: Device, done: int) -> None:
    """The first is unmarked before any other goes back, so that nothing leads to new again."""
    device.unpacked().commit()
    for destination in device.places[:done]:
        recover(*destination, failed=True)
    recover_roots(device.left, JOB)
    device.check(b"old")


def test_two_roots_may_be_in_one_directory(device: Device) -> None:
    target = device.targets[0]
    two = [RestoreRoot(Root("", target), work_id(JOB, n), RestoreOptions(limits=LIMITS)) for n in (0, 1)]
    other = write_zip(target.parent / "other.zip", {"g": File(b"g")})
    restore = RestoreSet(two, device.token)
    with device.archive.open("rb") as file, other.open("rb") as other_file:
        restore.unpack([tree_in(file), tree_in(other_file)])
        assert restore.difference().added == 2
    restore.commit()
    restore.discard()
    assert sorted(os.listdir(target)) == ["added", "d", "f", "g"]


def test_the_journal_keeps_any_name() -> None:
    roots = {1: Path("/a/Gr\u00fc\u00dfe"), 4: Path(os.fsdecode(b"/b/\xff\n"))}
    found = read_working(working_text(roots))
    assert {left.number: left.directory for left in found} == roots
    assert read_working(None) == []


@pytest.mark.parametrize("content", [b"old", b"new"])
@pytest.mark.parametrize("absent", [0, 1, 2])
def test_what_is_not_mounted_is_waited_for(device: Device, absent: int, content: bytes) -> None:
    """A stick that is not there hides its working directory: that does not mean that there is none."""
    device.unpacked().commit()
    failed = content == b"old"
    away = device.left[absent]
    hidden = away.directory.rename(away.directory.with_name("hidden"))
    away.directory.mkdir()
    missing = [left._replace(mount="/stick") if left is away else left for left in device.left]
    with pytest.raises(IoError, match="nothing is mounted at '/stick'"):
        recover_roots(missing, JOB, failed=failed)
    away.directory.rmdir()
    hidden.rename(away.directory)
    recover_roots(missing, JOB, failed=failed)
    device.check(content)
