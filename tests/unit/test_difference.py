"""The numbers of a preview are those of the commit that follows, and making them changes nothing."""

import os
from pathlib import Path

import pytest

from agent.base.errors import Cancelled, IoError
from agent.restore.difference import Difference
from agent.restore.root import RestoreOptions
from agent.restore.working import work_directory_of
from agent.transfer.cancel import CancelToken
from tests.support.restoring import (
    JOB,
    LIMITS,
    is_clean,
    restore_into,
    tree_in,
    unpacked,
    without_working_directory,
)
from tests.support.trees import Dir, File, Link, Spec, differences, make_tree, snapshot, write_zip

OLD: Spec = {
    "same": File(b"same"),
    "changed": File(b"one"),
    "mode": File(b"mode", 0o600),
    "link": Link("same"),
    "dir": Dir(),
    "dir/only-old": File(b"12345"),
    "was-dir": Dir(),
    "was-dir/file": File(b"x"),
    "gone": Dir(),
    "gone/deep": Dir(),
    "gone/deep/file": File(),
}
NEW: Spec = {
    "same": File(b"same"),
    "changed": File(b"two"),
    "mode": File(b"mode", 0o640),
    "link": Link("elsewhere"),
    "dir": Dir(),
    "dir/new": File(b"1234567"),
    "was-dir": File(b"a file"),
    "whole": Dir(),
    "whole/sub": Dir(),
    "whole/sub/file": File(b"w"),
}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return make_tree(tmp_path.resolve() / "target", OLD)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "new.zip", NEW)


def difference(target: Path, archive: Path, mode: str = "merge") -> Difference:
    with unpacked(target, archive, RestoreOptions(limits=LIMITS, mode=mode)) as restore:
        return restore.difference()


def test_what_the_archive_names_is_counted_and_the_rest_is_kept(target: Path, archive: Path) -> None:
    found = difference(target, archive)
    assert (found.added, found.changed, found.removed) == (4, 4, 1)  # a directory that becomes a file goes
    assert found.kept == 1 + 1 + 3
    assert found.size_bytes == len("1234567") + len("w") + len("two") + len("mode") + len("a file")
    assert found.lost == ["was-dir/file"]


def test_replace_removes_what_only_the_target_has(target: Path, archive: Path) -> None:
    found = difference(target, archive, "replace")
    assert (found.added, found.changed, found.removed, found.kept) == (4, 4, 5, 1)
    assert sorted(found.lost) == ["dir/only-old", "gone", "gone/deep", "gone/deep/file", "was-dir/file"]


def test_of_the_names_that_go_only_the_first_are_kept(tmp_path: Path, archive: Path) -> None:
    many: Spec = {f"file-{number:02}": File() for number in range(50)}
    found = difference(make_tree(tmp_path.resolve() / "target", many), archive, "replace")
    assert found.removed == 50
    assert found.lost == [f"file-{number:02}" for number in range(20)]


def test_the_target_stays_as_it_is_and_so_does_what_is_unpacked(target: Path, tmp_path: Path) -> None:
    """Also closed directories, which have to be opened to be looked into."""
    closed: Spec = {"dir": Dir(0o555), "closed": Dir(0o000), "closed/file": File(b"c")}
    before = without_working_directory(target)
    with unpacked(target, write_zip(tmp_path / "new.zip", closed)) as restore:
        unpacked_before = _modes(work_directory_of(target, JOB) / "new")
        restore.difference()
        assert _modes(work_directory_of(target, JOB) / "new") == unpacked_before
        assert differences(before, without_working_directory(target)) == []
        restore.commit()
    assert (target / "closed").stat().st_mode & 0o777 == 0


def _modes(top: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mode for path in (top, *top.iterdir())}


def test_a_cancel_is_noticed(target: Path, archive: Path) -> None:
    token = CancelToken()
    with unpacked(target, archive, token=token) as restore:
        token.cancel("enough")
        with pytest.raises(Cancelled):
            restore.difference()


def test_what_was_left_is_taken_up_by_another_restore_of_the_same_job(target: Path, archive: Path) -> None:
    first = restore_into(target)
    with archive.open("rb") as file:
        first.unpack([tree_in(file)])
    first.leave()
    (target / "changed").write_bytes(b"changed meanwhile")
    (target / "later").write_bytes(b"not there at the preview")
    second = restore_into(target, RestoreOptions(limits=LIMITS, mode="replace"))
    second.take_up()
    second.commit()
    second.discard()
    assert is_clean(target)
    expected, found = snapshot(make_tree(target.parent / "expected", NEW)), snapshot(target)
    del expected[""], found[""]
    assert differences(expected, found) == []


def test_what_is_not_there_any_more_cannot_be_taken_up(target: Path) -> None:
    with pytest.raises(IoError, match="is not there any more"):
        restore_into(target).take_up()
    assert os.listdir(target)
