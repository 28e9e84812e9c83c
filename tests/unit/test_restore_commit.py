"""Committing brings in all that was unpacked, or nothing, whatever was there and whatever fails."""

import contextlib
import errno
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.base.errors import Cancelled, IoError, JobError, NoSpace
from agent.restore.recovery import recover
from agent.restore.root import RestoreOptions
from agent.transfer.cancel import CancelToken
from tests.support.diskfaults import in_child, striking
from tests.support.require import require
from tests.support.restoring import (
    JOB,
    LIMITS,
    NOBODY,
    is_clean,
    restored,
    unpacked,
    without_working_directory,
)
from tests.support.trees import (
    Dir,
    File,
    Link,
    Spec,
    contents,
    differences,
    make_tree,
    snapshot,
    write_zip,
)

OLD: Spec = {
    "d": Dir(0o750),
    "d/stays": File(b"stays"),
    "d/changes": File(b"old", 0o600),
    "was-dir": Dir(0o700),
    "was-dir/inside": File(b"inside"),
    "was-file": File(b"file"),
    "was-link": Link("d"),
    "alone": Dir(0o500, 7),
    "alone/file": File(b"only old"),
}
NEW: Spec = {
    "d": Dir(0o711, 5),
    "d/changes": File(b"new", 0o755, 6),
    "d/comes": Dir(0o500),
    "d/comes/whole": File(b"whole"),
    "was-dir": File(b"now a file"),
    "was-file": Dir(0o711),
    "was-file/inside": Link("x"),
    "was-link": Dir(0o711),
    "was-link/stays": File(b"not through the link"),
}
REPLACE = RestoreOptions(limits=LIMITS, mode="replace")
PLAN: Spec = {"": Dir(), "/plan": File()}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return make_tree(tmp_path.resolve() / "target", OLD)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "new.zip", NEW)


def test_merge_brings_in_what_the_archive_names_and_keeps_the_rest(
    tmp_path: Path, target: Path, archive: Path
) -> None:
    kept: Spec = {name: OLD[name] for name in ("d/stays", "alone", "alone/file")}
    expected = make_tree(tmp_path / "expected", {**NEW, **kept})
    assert differences(contents(expected), contents(restored(target, archive))) == []


@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_the_log_of_a_database_goes_with_the_database(tmp_path: Path, target: Path, mode: str) -> None:
    """SQLite would apply the log that the old database left to the one that was restored."""
    database = b"SQLite format 3\0" + bytes(512 - 16 - 3)
    make_tree(
        target, {"d/log.db": File(database + b"old"), "d/log.db-wal": File(b"log"), "d/x-wal": File(b"x")}
    )
    archive = write_zip(tmp_path / "databases.zip", {"d": Dir(), "d/log.db": File(database + b"new")})
    options = RestoreOptions(limits=LIMITS, mode=mode)
    with unpacked(target, archive, options) as restore:
        assert "d/log.db-wal" in restore.difference().lost
        restore.commit()
    assert (target / "d/log.db").read_bytes().endswith(b"new")
    assert not (target / "d/log.db-wal").exists()
    assert (target / "d/x-wal").exists() is (mode == "merge")


def test_replace_leaves_exactly_what_the_archive_names(tmp_path: Path, target: Path, archive: Path) -> None:
    expected = make_tree(tmp_path / "expected", NEW)
    assert differences(contents(expected), contents(restored(target, archive, REPLACE))) == []


def test_replace_leaves_the_working_directories_of_other_restores_alone(target: Path, archive: Path) -> None:
    """By what the agent knows of them: what is only called so goes."""
    spec = {f".edge-backup-{name}{rest}": node for name in ("ours", "not") for rest, node in PLAN.items()}
    make_tree(target, spec)
    restored(target, archive, replace(REPLACE, own=(target / ".edge-backup-ours",)))
    assert (target / ".edge-backup-ours/plan").exists()
    assert not (target / ".edge-backup-not").exists()


def test_replace_leaves_archives_alone_that_are_kept_in_the_target(target: Path, archive: Path) -> None:
    """The backup passed over them."""
    make_tree(target, {"d/kept": Dir(), "d/kept/archive.zip": File()})
    restored(target, archive, replace(REPLACE, own=(target / "d/kept",)))
    assert (target / "d/kept/archive.zip").exists()


def test_a_directory_that_the_archive_does_not_name_keeps_its_mode(target: Path, tmp_path: Path) -> None:
    restored(target, write_zip(tmp_path / "a.zip", {"d/new": File()}))
    assert snapshot(target)["d"].mode == 0o750


def test_a_shared_directory_that_is_set_group_id_stays_so(target: Path, archive: Path) -> None:
    (target / "d").chmod(0o2770)
    assert snapshot(restored(target, archive))["d"].mode == 0o2711


def test_a_restore_onto_itself_changes_nothing_but_the_root_s_time(target: Path, archive: Path) -> None:
    once = contents(restored(target, archive))
    assert differences(once, contents(restored(target, archive))) == []


def test_discarding_instead_of_committing_leaves_the_target_as_it_was(target: Path, archive: Path) -> None:
    before = snapshot(target)
    with unpacked(target, archive) as restore:
        pass
    restore.discard()
    assert differences(before, snapshot(target)) == []


def error(code: int) -> Callable[[], None]:
    """A strike: the system call fails with this errno."""

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    return fail


def commit_fails(
    target: Path, archive: Path, at: int, strike: Callable[[], None], token: CancelToken
) -> bool:
    """Return True when a commit fails as its `at`-th change is struck; False when it has fewer."""
    with unpacked(target, archive, REPLACE, token) as restore:
        try:
            with striking(at, strike) as count:
                restore.commit()
        except JobError:
            return True
    assert count.calls < at
    return False


@pytest.mark.parametrize(("code", "kind"), [(errno.EIO, IoError), (errno.ENOSPC, NoSpace)])
def test_a_failure_at_any_change_of_the_disk_takes_everything_back(
    target: Path, archive: Path, code: int, kind: type[JobError], capsys: pytest.CaptureFixture[str]
) -> None:
    before, at = snapshot(target), 1
    while commit_fails(target, archive, at, error(code), CancelToken()):
        assert differences(before, snapshot(target)) == []
        at += 1
    assert differences(before, snapshot(target)) != []
    with capsys.disabled():
        print(f"\ncommit failed with {errno.errorcode[code]} at {at - 1} points")
    with unpacked(target, archive) as restore, pytest.raises(kind), striking(1, error(code)):
        restore.commit()


def test_what_could_not_be_taken_back_either_goes_back_later(target: Path, archive: Path) -> None:
    """Whatever is refused twice: once it was told as failed, the new data must not stay."""
    before, at, failed = snapshot(target), 1, True
    while failed:
        failed = False
        with unpacked(target, archive, REPLACE) as restore:
            try:
                with striking(at, error(errno.EIO)), striking(at, error(errno.EIO)):  # this call and the next
                    restore.commit()
            except JobError:
                failed = True
        if failed:
            recover(target, JOB, failed=True)
            assert differences(before, snapshot(target)) == []
        at += 1
    assert differences(before, snapshot(target)) != []


def test_a_file_that_somebody_else_makes_in_a_place_to_come_survives_a_roll_back(
    target: Path, archive: Path
) -> None:
    """The steps before it were done, its own was not: rolling back must not take it for ours."""
    survived = 0
    for at in range(1, 15):

        def meddle() -> None:
            if not (target / "d/comes").exists():
                (target / "d/comes").write_bytes(b"somebody's")
            raise OSError(errno.EIO, "")

        assert commit_fails(target, archive, at, meddle, CancelToken())
        if (target / "d/comes").exists():
            survived += 1
            assert (target / "d/comes").read_bytes() == b"somebody's"
            (target / "d/comes").unlink()
    assert survived > 5


def test_cancelling_at_any_step_of_a_commit_takes_everything_back(target: Path, archive: Path) -> None:
    before, cancelled = snapshot(target), 0
    for at in range(1, 60):
        token = CancelToken()
        with unpacked(target, archive, REPLACE, token) as restore:
            try:
                with striking(at, lambda token=token: token.cancel("enough")):  # type: ignore[misc]
                    restore.commit()
            except Cancelled:
                cancelled += 1
                assert differences(before, without_working_directory(target)) == []
            else:
                break
    assert cancelled > len(NEW)


def test_an_old_file_that_cannot_be_hard_linked_is_moved_and_comes_back_too() -> None:
    """Linux forbids links to somebody else's file (fs.protected_hardlinks); VFAT has none at all."""
    require(os.geteuid() == 0, "root, to restore as somebody else")
    # An agent that a test before this one has begun may have moved the default, to where only root comes.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        destination = Path(name).resolve()
        destination.chmod(0o755)
        target = make_tree(destination / "target", {"f": File(b"root's", 0o600)})
        archive = write_zip(destination / "a.zip", {"f": File(b"new"), "g": File()})
        os.chown(target, NOBODY, NOBODY)
        inode = (target / "f").stat().st_ino

        def fail_everywhere_then_commit() -> None:
            at = 1
            while commit_fails(target, archive, at, error(errno.EIO), CancelToken()):
                assert os.listdir(target) == ["f"]
                assert (target / "f").stat().st_ino == inode
                at += 1

        in_child(fail_everywhere_then_commit, NOBODY)
        assert (target / "f").read_bytes() == b"new"


@pytest.mark.slow
def test_a_directory_swapped_for_a_link_at_any_moment_leads_nowhere(
    tmp_path: Path, target: Path, archive: Path
) -> None:
    """Somebody who may write to the target plays against a restore that runs as root."""
    outside = make_tree(tmp_path / "outside", {"changes": File(b"precious", 0o600), "comes": Dir(0o700)})
    before, at, struck = snapshot(outside), 1, True

    def swap() -> None:
        (target / "d").rename(target / "hidden")
        (target / "d").symlink_to(outside)

    while struck:
        for name in os.listdir(target):
            subprocess.run(["rm", "-rf", target / name], check=True)
        make_tree(target, OLD)
        with contextlib.suppress(JobError), striking(at, swap) as count:
            restored(target, archive, REPLACE)
        with contextlib.suppress(JobError):
            recover(target, JOB)
        assert differences(before, snapshot(outside)) == []
        struck = count.calls >= at
        at += 1
    assert at > 60


names = st.sampled_from(["a", "b", "c"])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
nodes = st.one_of(
    st.builds(File, st.binary(max_size=4), st.sampled_from([0o600, 0o755])),
    st.builds(Dir, st.sampled_from([0o700, 0o555]), st.integers(1, 10)),
    st.builds(Link, st.sampled_from(["a", "../b", "/etc"])),
)


@st.composite
def trees(draw: st.DrawFn) -> Spec:
    """Small trees over few names, so that two of them meet in every way."""
    tree: dict[str, File | Dir | Link] = {}
    for path in sorted(draw(st.sets(paths, max_size=8))):
        parents = ["/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1)]
        if all(isinstance(tree.get(parent, Dir()), Dir) for parent in parents):
            tree |= {parent: tree.get(parent, Dir(0o711, 3)) for parent in parents}
            tree[path] = draw(nodes)
    return tree


@given(old=trees(), new=trees(), replace=st.booleans(), strike_at=st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_any_two_trees_give_the_old_one_on_failure_and_the_expected_one_else(
    old: Spec, new: Spec, replace: bool, strike_at: int
) -> None:
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    options = REPLACE if replace else RestoreOptions(limits=LIMITS)
    with tempfile.TemporaryDirectory(dir=memory) as name:
        destination = Path(name).resolve()
        target = make_tree(destination / "target", old)
        archive = write_zip(destination / "a.zip", new)
        expected = contents(make_tree(destination / "expected", new if replace else _merged(old, new)))
        before = snapshot(target)
        with unpacked(target, archive, options) as restore:
            try:
                with striking(strike_at, error(errno.EIO)):
                    restore.commit()
            except IoError:
                assert differences(before, without_working_directory(target)) == []
        assert is_clean(target)
        found = contents(restored(target, archive, options))
        assert differences(expected, found) == []


def _merged(old: Spec, new: Spec) -> Spec:
    def is_hidden(path: str) -> bool:
        """Something above is no directory any more."""
        parents = ["/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1)]
        return any(not isinstance(new.get(parent, Dir()), Dir) for parent in parents)

    merged = {path: node for path, node in old.items() if not is_hidden(path)} | dict(new)
    return dict(sorted(merged.items()))


@pytest.mark.parametrize("mode", [0o555, 0o500, 0o755])
def test_a_target_that_is_closed_to_its_own_owner_stays_so(tmp_path: Path, mode: int) -> None:
    """It is opened up for the commit, and an archive does not say what its mode is."""
    target = make_tree(tmp_path.resolve() / "target", {"f": File(b"old")})
    target.chmod(mode)
    restored(target, write_zip(tmp_path / "new.zip", {"f": File(b"new"), "g": File()}))
    assert target.stat().st_mode & 0o7777 == mode
