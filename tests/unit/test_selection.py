"""The walk finds everything that can be saved, says what cannot, and is never led astray."""

import errno
import gc
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.base.errors import Cancelled
from agent.base.patterns import anchored, excluding
from agent.base.roots import Root
from agent.formats.entries import DIR, FILE, LINK, MAX_NAME_BYTES
from agent.formats.walk_report import MAX_NAMED, OWN, WITHHELD, Report
from agent.save.walk import WalkRoot, walk
from tests.support.archives import found_in, go_on, open_descriptors, unprivileged
from tests.support.require import possible, require


@pytest.fixture
def public_tree() -> Iterator[Path]:
    """A directory that nobody may enter too; pytest's own is private to its user."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_files_directories_and_links_are_found_each_directory_before_its_content(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a/link").symlink_to("../dangling")
    found, report = found_in(tmp_path)
    assert {name: entry.kind for name, entry in found.items()} == {
        "a": DIR, "a/b": DIR, "a/b/file": FILE, "a/link": LINK, "empty": DIR,
    }  # fmt: skip
    names = list(found)
    assert names.index("a") < names.index("a/b") < names.index("a/b/file")
    assert found["a/link"].target == b"../dangling"
    assert report.skipped == 0


def test_a_link_to_a_directory_is_a_link_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(b"")
    (tmp_path / "tree/out").symlink_to("../outside")
    (tmp_path / "tree/loop").symlink_to(".")
    found, _ = found_in(tmp_path / "tree")
    assert {name: entry.kind for name, entry in found.items()} == {
        "out": LINK,
        "loop": LINK,
    }


def test_sockets_fifos_and_devices_are_skipped_with_a_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        found, report = found_in(tmp_path)
    assert found == {}
    assert report.reasons == {"FIFO": 1, "socket": 1}
    assert sorted(name for name, _ in report.unexportable) == ["pipe", "socket"]


def test_devices_are_skipped(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        require(False, "the privilege to make device nodes")
    found, report = found_in(tmp_path)
    assert found == {}
    assert report.reasons == {"device": 1}


def test_unreadable_files_and_directories_are_skipped_and_the_rest_is_found(public_tree: Path) -> None:
    (public_tree / "closed").mkdir()
    (public_tree / "closed/file").write_bytes(b"")
    (public_tree / "file").write_bytes(b"")
    (public_tree / "open").write_bytes(b"")
    os.chmod(public_tree / "closed", 0)
    os.chmod(public_tree / "file", 0)
    with unprivileged():
        found, report = found_in(public_tree)
    os.chmod(public_tree / "closed", 0o700)
    assert list(found) == ["open"]
    assert report.reasons == {"unreadable": 2}
    assert sorted(name for name, _ in report.unexportable) == ["closed", "file"]


def test_what_is_swapped_for_something_else_is_neither_followed_nor_waited_for(tmp_path: Path) -> None:
    """The listing says regular file, the name says otherwise by the time it is opened."""
    names = [f"file{index}" for index in range(8)]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    report = Report()
    steps = walk(WalkRoot(Root("", tmp_path)), report, (), go_on)
    seen = next(steps).name
    vanished, linked, fifo = [name for name in names if name != seen][:3]
    for name in (vanished, linked, fifo):
        (tmp_path / name).unlink()
    (tmp_path / linked).symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / fifo)
    found = {seen, *(entry.name for entry in steps)}
    assert found == set(names) - {vanished, linked, fifo}
    assert report.reasons == {"vanished": 1, "changed while read": 2}


def test_a_directory_swapped_for_a_link_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "tree/a").mkdir(parents=True)
    (tmp_path / "tree/file").write_bytes(b"")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(b"")
    report = Report()
    steps = walk(WalkRoot(Root("", tmp_path / "tree")), report, (), go_on)
    assert next(steps).name == "file"
    (tmp_path / "tree/a").rmdir()
    (tmp_path / "tree/a").symlink_to("../outside")
    assert list(steps) == []
    assert report.reasons == {"changed while read": 1}


def test_the_agents_own_directories_are_only_counted_by_whatever_name(tmp_path: Path) -> None:
    """A directory that is only called like one of a restore is its user's."""
    for name in ("storage/backups", ".edge-backup-7", "deep/.edge-backup-8"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_bytes(b"")
    (tmp_path / ".edge-backup-notes").write_bytes(b"a file is the user's")
    alias = tmp_path.parent / f"{tmp_path.name}-alias"
    alias.symlink_to(tmp_path / "storage")
    found, report = found_in(tmp_path, own=(alias, tmp_path / ".edge-backup-7"))
    kept = [".edge-backup-notes", "deep", "deep/.edge-backup-8", "deep/.edge-backup-8/file"]
    assert sorted(found) == kept
    assert (report.skipped, report.excluded) == (0, 2)
    assert sorted(report.passed_over) == [(".edge-backup-7", OWN), ("storage", OWN)]


def test_what_patterns_exclude_is_counted_and_an_excluded_directory_not_entered(tmp_path: Path) -> None:
    (tmp_path / "a/cache/deep").mkdir(parents=True)
    for name in ("a/x.tmp", "a/keep.tmp", "a/cache/deep/file", "cache"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a/link").symlink_to("cache")
    report = Report()
    excluded = excluding(["cache/", "*.tmp", "!keep.tmp"])
    found = {entry.name for entry in walk(WalkRoot(Root("", tmp_path), excluded), report, (), go_on)}
    assert found == {"a", "a/keep.tmp", "a/link", "cache"}
    assert (report.excluded, report.skipped) == (2, 0)


def test_a_rule_of_the_device_is_told_but_is_no_failure(tmp_path: Path) -> None:
    """Files that are bound to this device's hardware are of no use on another."""
    (tmp_path / "keys").mkdir()
    for name in ("keys/tpm.key", "cert.pem"):
        (tmp_path / name).write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    report = Report()
    rule = anchored(excluding([f"{tmp_path}/keys/"]), tmp_path)
    part = WalkRoot(Root("", tmp_path), unexportable=rule)
    assert [entry.name for entry in walk(part, report, (), go_on)] == ["cert.pem"]
    assert sorted(report.unexportable) == [("keys", WITHHELD), ("pipe", "FIFO")]
    assert (report.skipped, report.failures, report.excluded) == (2, 1, 0)


def test_a_missing_own_storage_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert list(found_in(tmp_path, own=(tmp_path / "no",))[0]) == ["file"]


def test_a_name_whose_kind_cannot_be_asked_is_skipped_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XFS without file types, or a damaged inode: its later siblings were lost with it, counted as one."""
    for name in ("a", "bad", "c", "d"):
        (tmp_path / name).write_bytes(b"")

    class Listing:
        def __init__(self, directory: int) -> None:
            self._listing = scandir(directory)

        def __enter__(self) -> "Listing":
            return self

        def __exit__(self, *_: object) -> None:
            self._listing.close()

        def __iter__(self) -> Iterator[object]:
            return (Unknown() if item.name == "bad" else item for item in self._listing)

    class Unknown:
        name = "bad"

        def is_file(self, *, follow_symlinks: bool) -> bool:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", Listing)
    found, report = found_in(tmp_path)
    assert (sorted(found), report.unexportable) == (["a", "c", "d"], [("bad", "unreadable")])


LEASE = """
import fcntl, os, select, signal, sys, time
file = os.open(sys.argv[1], os.O_RDWR)
def give_up(*_):
    time.sleep(0.1)
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
signal.signal(signal.SIGIO, give_up)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
while not select.select([sys.stdin], [], [], 0.05)[0]:
    pass  # Python would run the handler of a signal that comes right before a longer wait after it
"""


def test_a_file_under_a_lease_is_waited_for(tmp_path: Path) -> None:
    """A file server that is asked to give it up needs a moment, where the file was left out at once."""
    (tmp_path / "file").write_bytes(b"content")
    with subprocess.Popen(
        [sys.executable, "-c", LEASE, tmp_path / "file"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        possible(holder.stdout.readline() == b"held\n", "hold a lease on a file here")
        found, report = found_in(tmp_path)
        assert holder.stdin
        holder.stdin.close()
    assert (list(found), report.unexportable) == (["file"], [])


@pytest.mark.parametrize("name", [b"caf\xe9", b"back\\slash", b"new\nline", "grün €".encode(), b" ", b"-r"])
def test_any_name_that_the_file_system_takes_is_found(tmp_path: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    with open(path, "wb"):
        pass
    (entry,) = found_in(tmp_path)[0].values()
    assert os.fsencode(entry.name) == name


@pytest.fixture
def removed_well(tmp_path: Path) -> Iterator[Path]:
    """A directory that is gone afterwards: pytest's own clean-up gives in to recursion in a deep tree."""
    yield tmp_path
    subprocess.run(["rm", "-rf", tmp_path], check=True)


@pytest.mark.slow
def test_a_tree_deeper_than_recursion_and_descriptors_allow_is_walked(removed_well: Path) -> None:
    depth = 3000
    fd = os.open(removed_well, os.O_RDONLY)
    for level in range(depth):
        for name in ("d", "e"):
            if name == "d" or level % 500 == 0:
                os.mkdir(name, dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    gc.collect()  # what earlier tests left behind must not be closed meanwhile
    before, most = open_descriptors(), 0
    report, names = Report(), set()
    for entry in walk(WalkRoot(Root("", removed_well)), report, (), go_on):
        names.add(entry.name)
        if len(entry.name) > 2 * depth - 4:
            most = open_descriptors()
    assert len(names) == depth + 6
    assert {"e", "d/" * 2500 + "e"} <= names
    assert most - before < 50
    assert open_descriptors() == before
    assert report.skipped == 0


def test_directories_moved_away_while_inside_are_told_and_not_mixed_up(tmp_path: Path) -> None:
    """On the way up `..` leads elsewhere: what still waits above cannot be reached any more."""
    deep = tmp_path / "tree" / Path(*["d"] * 40)
    deep.mkdir(parents=True)
    others = {f"{'d/' * level}other{index}" for level in range(1, 7) for index in range(4)}
    for name in others:
        (tmp_path / "tree" / name).mkdir()
    (tmp_path / "elsewhere").mkdir()
    report = Report()
    names = set()
    for entry in walk(WalkRoot(Root("", tmp_path / "tree")), report, (), go_on):
        names.add(entry.name)
        if entry.name == "/".join(["d"] * 40):
            (tmp_path / "tree" / Path(*["d"] * 7)).rename(tmp_path / "elsewhere/d")
    unreached = others - names
    assert unreached
    assert report.reasons == {"changed while read": len(unreached)}


def test_a_name_too_long_for_the_archive_is_skipped(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    part = "x" * 250
    for _ in range(MAX_NAME_BYTES // 251 + 2):
        os.mkdir(part, dir_fd=fd)
        below = os.open(part, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    found, report = found_in(tmp_path)
    assert report.reasons == {"name too long": 1}
    assert len(report.unexportable[0][0]) == 200
    assert max(len(name) for name in found) <= MAX_NAME_BYTES


def test_later_names_of_one_inode_refer_to_the_first(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x")
    os.link(tmp_path / "one", tmp_path / "two")
    (tmp_path / "alone").write_bytes(b"x")
    found, _ = found_in(tmp_path)
    first, second = [name for name in found if name != "alone"]
    assert (found[first].hard_link_to, found[second].hard_link_to) == (None, first)
    assert found["alone"].hard_link_to is None


def test_extended_attributes_are_found_and_too_many_are_told(tmp_path: Path) -> None:
    for name in ("few", "many"):
        (tmp_path / name).write_bytes(b"")
    try:
        os.setxattr(tmp_path / "few", "user.origin", b"\0\xff")
        for index in range(2):
            os.setxattr(tmp_path / "many", f"user.{index}", b"x" * 40_000)
    except OSError:
        found, report = found_in(tmp_path)
        assert found["many"].xattrs.keys() <= {"user.0"}
    else:
        found, report = found_in(tmp_path)
        assert found["many"].xattrs == {}
        assert report.reasons == {"extended attributes too large": 1}
    if os.listxattr(tmp_path / "few"):
        assert found["few"].xattrs == {"user.origin": b"\0\xff"}


def test_check_ends_the_walk_and_leaves_no_descriptor_open(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    for name in ("a/b/one", "a/b/two"):
        (tmp_path / name).write_bytes(b"")
    before = open_descriptors()

    def stop_inside() -> None:
        if open_descriptors() >= before + 4:  # the way to a/b, and its listing
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        list(walk(WalkRoot(Root("", tmp_path)), Report(), (), stop_inside))
    assert open_descriptors() == before


def test_closing_the_walk_leaves_no_descriptor_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    before = open_descriptors()
    steps = walk(WalkRoot(Root("", tmp_path)), Report(), (), go_on)
    next(steps)
    assert open_descriptors() > before
    steps.close()
    assert open_descriptors() == before


def test_a_report_stays_small_and_printable_and_calls_back() -> None:
    told: list[tuple[str, str]] = []
    report = Report(on_skipped=lambda name, reason: told.append((name, reason)))
    for index in range(MAX_NAMED + 1):
        report.skip(f"new\nline-\udce9-{index}" + "x" * 500, "unreadable")
    assert (report.skipped, report.reasons) == (MAX_NAMED + 1, {"unreadable": MAX_NAMED + 1})
    assert len(report.unexportable) == MAX_NAMED
    assert all(len(name) < 220 and name.isprintable() for name, _ in report.unexportable)
    assert told[0][0].startswith("new\\nline-\\udce9-0xxx")


@pytest.mark.parametrize("swapped", ["data", "parent"])
def test_a_root_swapped_for_a_link_after_it_was_checked_is_not_walked(tmp_path: Path, swapped: str) -> None:
    """Between the check and the walk a writer of a parent directory can exchange it (renameat2)."""
    (tmp_path / "secret/data").mkdir(parents=True)
    (tmp_path / "secret/data/key").write_bytes(b"x")
    root = tmp_path / "parent/data"
    root.mkdir(parents=True)
    if swapped == "data":
        root.rmdir()
        root.symlink_to(tmp_path / "secret/data")
    else:
        (tmp_path / "parent").rename(tmp_path / "old")
        (tmp_path / "parent").symlink_to(tmp_path / "secret")
    with pytest.raises(NotADirectoryError):
        found_in(root)
