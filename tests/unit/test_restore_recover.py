"""The remains of a crash are found by the job's name, and nothing else is touched."""

import os
from pathlib import Path

import pytest

from agent.base.errors import IoError
from agent.restore.directories import make_target, missing, remove_made
from agent.restore.recovery import RecoveryOutcome, recover
from agent.restore.restore_set import RestoreSet
from agent.restore.root import RestoreOptions
from tests.support.restoring import JOB, LIMITS, restore_into, restored, tree_in
from tests.support.trees import Dir, File, Link, Spec, differences, make_tree, snapshot, write_zip

OLD: Spec = {"f": File(b"old"), "d": Dir(), "d/x": File(b"x")}
NEW: Spec = {"f": File(b"new"), "d": Link("f")}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return make_tree(tmp_path.resolve() / "target", OLD)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "new.zip", NEW)


def left_unpacked(target: Path, archive: Path) -> RestoreSet:
    """A restore that its process has forgotten after `unpack`."""
    restore = restore_into(target)
    with archive.open("rb") as file:
        restore.unpack([tree_in(file)])
    return restore


def test_without_a_trace_there_is_nothing_to_recover(target: Path) -> None:
    before = snapshot(target)
    assert recover(target, JOB) is RecoveryOutcome.NOTHING
    assert recover(target / "missing", JOB) is RecoveryOutcome.NOTHING
    assert differences(before, snapshot(target)) == []


def test_what_was_only_unpacked_goes(target: Path, archive: Path) -> None:
    before = snapshot(target)
    left_unpacked(target, archive)
    assert recover(target, JOB) is RecoveryOutcome.ROLLED_BACK
    assert recover(target, JOB) is RecoveryOutcome.NOTHING
    assert differences(before, snapshot(target)) == []


def test_what_was_committed_stays(target: Path, archive: Path) -> None:
    left_unpacked(target, archive).commit()
    assert recover(target, JOB) is RecoveryOutcome.COMMITTED
    assert recover(target, JOB) is RecoveryOutcome.NOTHING
    assert (target / "f").read_bytes() == b"new"
    assert sorted(os.listdir(target)) == ["d", "f"]


def test_another_job_s_working_directory_is_not_touched(target: Path, archive: Path) -> None:
    left_unpacked(target, archive)
    assert recover(target, "job-2") is RecoveryOutcome.NOTHING
    assert (target / f".edge-backup-{JOB}/new/f").exists()


def test_a_job_that_left_something_cannot_begin_again_before_recovery(target: Path, archive: Path) -> None:
    left_unpacked(target, archive)
    with pytest.raises(IoError, match="recover that one first"):
        restored(target, archive)
    assert recover(target, JOB) is RecoveryOutcome.ROLLED_BACK
    restored(target, archive)


def test_a_target_that_became_a_link_is_refused(target: Path, archive: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path.resolve() / "elsewhere"
    target.rename(elsewhere)
    target.symlink_to(elsewhere)
    with pytest.raises(IoError, match="Not a directory"):
        restored(target, archive)
    with pytest.raises(IoError, match="Not a directory"):
        restored(target / "d", archive)


@pytest.mark.parametrize("job_id", ["", "a/b", "..\0", "x" * 300])
def test_a_job_id_that_is_no_part_of_a_file_name_is_a_mistake(target: Path, job_id: str) -> None:
    with pytest.raises(ValueError, match="not a job id"):
        recover(target, job_id)


def test_an_unknown_mode_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="must be one of merge, replace, exact, not 'mirror'"):
        RestoreOptions(limits=LIMITS, mode="mirror")


def test_a_missing_target_is_made_with_its_parents_and_removed_again(tmp_path: Path) -> None:
    destination = tmp_path.resolve() / "a/b/c"
    expected = [destination.parents[1], destination.parents[0], destination]
    assert missing(destination) == expected
    assert make_target(destination) == expected
    assert make_target(destination) == []
    remove_made(expected)
    assert not expected[0].exists()


def test_removing_made_directories_spares_what_is_not_empty(tmp_path: Path) -> None:
    made = make_target(tmp_path.resolve() / "a/b")
    (made[0] / "file").write_bytes(b"somebody's")
    remove_made(made)
    remove_made(made)
    assert os.listdir(made[0]) == ["file"]


@pytest.mark.parametrize("in_the_way", [File(), Link("nowhere")])
def test_a_target_below_a_file_or_a_link_is_an_io_error_and_leaves_nothing(
    tmp_path: Path, in_the_way: File | Link
) -> None:
    make_tree(tmp_path, {"x": in_the_way})
    with pytest.raises(IoError, match="cannot make the directory"):
        make_target(tmp_path.resolve() / "x/b/c")
    assert os.listdir(tmp_path) == ["x"]
