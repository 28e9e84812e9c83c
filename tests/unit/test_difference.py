"""The numbers of a preview are those of the commit that follows, and making them changes nothing."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.base.errors import Cancelled, HealthFailed, IoError
from agent.restore.difference import Difference
from agent.restore.memory import work_directory_of
from agent.restore.restore_set import RestoreSet
from agent.restore.root import RestoreOptions
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


LOOKS = [2, 10, 21, 30, 40]
"""Moments of a commit: while names are listed, while old files are saved, and between the steps."""


class Vanishing(CancelToken):
    """Takes names of the target away at a certain look at the token, once it is armed."""

    def __init__(self, looks: int, *paths: Path) -> None:
        super().__init__()
        self.looks, self.paths, self.armed = looks, paths, False

    def check(self) -> None:
        super().check()
        self.looks -= self.armed
        if self.looks == 0:
            for path in self.paths:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def unpacked_while(target: Path, archive: Path, looks: int) -> Iterator[tuple[RestoreSet, Vanishing]]:
    """An unpacked restore whose target loses names at this look."""
    gone = (target / name for name in ("changed", "dir/only-old", "gone", "was-dir"))
    token = Vanishing(looks, *gone)
    with unpacked(target, archive, RestoreOptions(limits=LIMITS, mode="replace"), token) as restore:
        token.armed = True
        yield restore, token


def test_what_a_program_removes_during_a_comparison_is_not_there(tmp_path: Path, archive: Path) -> None:
    """A program that runs makes and removes files all the time (rsync: "file has vanished", status 24)."""
    left = looks = 0
    while left <= 0:
        looks += 1
        target = make_tree(tmp_path.resolve() / f"target-{looks}", OLD)
        with unpacked_while(target, archive, looks) as (restore, token):
            restore.difference()
        left = token.looks


@pytest.mark.parametrize("looks", LOOKS)
def test_what_a_program_removes_during_a_commit_does_not_fail_it(
    target: Path, archive: Path, looks: int
) -> None:
    with unpacked_while(target, archive, looks) as (restore, _):
        restore.commit()
    assert not (target / "gone").exists()


@pytest.mark.parametrize("looks", LOOKS)
def test_what_a_program_removes_during_a_commit_does_not_keep_it_from_being_reverted(
    target: Path, archive: Path, looks: int
) -> None:
    """The agent tried for ever to give a directory that was gone its mode, and refused jobs there."""

    def unhealthy() -> None:
        raise HealthFailed("no")

    with unpacked_while(target, archive, looks) as (restore, _):
        with pytest.raises(HealthFailed):
            restore.commit(unhealthy)
        assert not (target / "whole").exists()
        assert os.readlink(target / "link") == "same"


def test_a_directory_that_nobody_may_read_is_named(
    target: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(fd: int) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with unpacked(target, archive) as restore:
        monkeypatch.setattr("agent.restore.difference.names_in", forbidden)
        with pytest.raises(IoError, match=r"cannot compare '\.' with the target: Permission denied"):
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
