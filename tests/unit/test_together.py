"""Several directories become new together, or none does; the mark in the first one says which."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from agent.base.errors import Cancelled, IoError, JobError
from agent.formats.zip.reader import ArchiveReader
from agent.restore import (
    Restore,
    RestoreOptions,
    Together,
    committed,
    left_text,
    on_trial,
    read_left,
    recover,
    recover_together,
    work_id,
)
from agent.transfer.cancel import CancelToken
from tests.support.diskfaults import NEVER, striking
from tests.support.restoring import JOB, LIMITS, is_clean
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
        self.left = read_left(left_text(dict(enumerate(self.targets))))
        self.places = [(left.directory, work_id(JOB, left.number)) for left in self.left]

    def parts(self) -> list[Restore]:
        options = RestoreOptions(limits=LIMITS)
        return [Restore(target, name, options, self.token) for target, name in self.places]

    def unpacked(self) -> Together:
        together = Together(self.parts())
        with self.archive.open("rb") as file:
            assert together.unpack([ArchiveReader(file) for _ in self.targets]) == (6, 24)
        return together

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
    together = device.unpacked()
    together.commit()
    together.discard()
    device.check(b"new")


def test_when_one_cannot_all_stay_old(device: Device) -> None:
    together = device.unpacked()
    shutil.rmtree(device.targets[2] / ".edge-backup-job-1-2/new")
    with pytest.raises(IoError, match="cannot put the unpacked files in place"):
        together.commit()
    together.discard()
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
        together = device.unpacked()
        try:
            with striking(at, eio), striking(at if twice else NEVER, eio):
                together.commit()
        except JobError:
            failed = True
        together.discard()
        recover_together(device.left, JOB, failed=failed)
        device.check(b"old" if failed else b"new")
    assert at > 20


def test_a_cancel_in_the_middle_takes_all_back(device: Device) -> None:
    together = device.unpacked()

    def confirm() -> None:
        device.token.cancel("enough")
        device.token.check()

    with pytest.raises(Cancelled):
        together.commit(confirm)
    together.discard()
    device.check(b"old")


def test_on_trial_all_are_kept_or_taken_back(device: Device) -> None:
    for decide, content in ((Together.take_back, b"old"), (Together.keep, b"new")):
        together = device.unpacked()
        together.commit(on_trial=True)
        together.let_go()
        assert on_trial(*device.places[0])
        assert [(target / "f").read_bytes() for target in device.targets] == [b"new"] * 3
        later = Together(device.parts())
        later.take_up()
        decide(later)
        later.discard()
        device.check(content)


def test_without_the_mark_of_the_first_all_go_back(device: Device) -> None:
    """A crash right before the decision: everything is in place everywhere."""
    first, *others = device.parts()
    with device.archive.open("rb") as file:
        for part in (first, *others):
            part.unpack(ArchiveReader(file))
    for part in (*others, first):
        part.apply()
    assert [(target / "f").read_bytes() for target in device.targets] == [b"new"] * 3
    recover_together(device.left, JOB)
    device.check(b"old")


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_with_the_mark_of_the_first_all_are_new(device: Device, gone: int) -> None:
    """A crash after the decision, and after some of the others were tidied up."""
    device.unpacked().commit()
    assert committed(*device.places[0])
    for _, destination in zip(range(gone), device.parts()[1:], strict=False):
        destination.take_up()
        destination.discard(committed=True)
    recover_together(device.left, JOB)
    recover_together(device.left, JOB)
    device.check(b"new")


def test_what_failed_goes_back_though_the_first_was_marked(device: Device) -> None:
    """Only the last sync was refused, and the job was told to have failed."""
    device.unpacked().commit()
    recover_together(device.left, JOB, failed=True)
    device.check(b"old")


@pytest.mark.parametrize("done", [1, 2])
def test_a_recovery_that_is_cut_off_goes_on_in_the_same_direction(device: Device, done: int) -> None:
    """The first is unmarked before any other goes back, so that nothing leads to new again."""
    device.unpacked().commit()
    for destination in device.places[:done]:
        recover(*destination, failed=True)
    recover_together(device.left, JOB)
    device.check(b"old")


def test_two_roots_may_be_in_one_directory(device: Device) -> None:
    target = device.targets[0]
    two = [Restore(target, work_id(JOB, n), RestoreOptions(limits=LIMITS), device.token) for n in (0, 1)]
    other = write_zip(target.parent / "other.zip", {"g": File(b"g")})
    together = Together(two)
    with device.archive.open("rb") as file, other.open("rb") as other_file:
        together.unpack([ArchiveReader(file), ArchiveReader(other_file)])
        assert together.difference().added == 2
    together.commit()
    together.discard()
    assert sorted(os.listdir(target)) == ["added", "d", "f", "g"]


def test_the_journal_keeps_any_name() -> None:
    roots = {1: Path("/a/Gr\u00fc\u00dfe"), 4: Path(os.fsdecode(b"/b/\xff\n"))}
    found = read_left(left_text(roots))
    assert {left.number: left.directory for left in found} == roots
    assert read_left(None) == []


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
        recover_together(missing, JOB, failed=failed)
    away.directory.rmdir()
    hidden.rename(away.directory)
    recover_together(missing, JOB, failed=failed)
    device.check(content)
