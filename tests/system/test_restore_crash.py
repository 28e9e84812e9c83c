"""A restore that is killed at any instruction that changes the disk is entirely old or entirely new.

Each point is a child process of its own that is killed with SIGKILL right before its N-th such call.
"""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from agent.restore.recovery import RecoveryOutcome, recover
from agent.restore.root import RestoreOptions
from tests.faults.tally import LONG
from tests.support.diskfaults import NEVER, die, in_child, striking
from tests.support.forked import in_fresh_interpreter
from tests.support.require import require
from tests.support.restoring import JOB, LIMITS, NOBODY, restored
from tests.support.trees import Dir, File, Found, Link, Spec, differences, make_tree, snapshot, write_zip

OLD: Spec = {
    "same": Dir(0o750),
    "same/replaced": File(b"old", 0o600),
    "same/stays": File(b"stays"),
    "closed": Dir(0o555),
    "closed/replaced": File(b"old closed", 0o400),
    "closed/inner": Dir(0o500),
    "closed/inner/stays": File(b"stays"),
    "opened": Dir(0o500),
    "opened/file": File(b"o"),
    "directory-to-file": Dir(0o555),
    "directory-to-file/x": File(b"x"),
    "file-to-directory": File(b"a file"),
    "link-to-directory": Link("same"),
    "link": Link("old"),
    "alone": Dir(0o500),
    "alone/file": File(b"only old"),
    "alone-too": File(b"only old"),
}
NEW: Spec = {
    "same": Dir(0o700, 1),
    "same/replaced": File(b"new" * 30_000, 0o755),
    "same/added": File(b"added"),
    "closed": Dir(0o555, 2),
    "closed/replaced": File(b"new closed", 0o440),
    "closed/inner": Dir(0o555),
    "closed/inner/added": File(b"added"),
    "opened": Dir(0o755),
    "opened/file": Link("elsewhere"),
    "directory-to-file": File(b"a file now"),
    "file-to-directory": Dir(0o555),
    "file-to-directory/file": File(b"f"),
    "link-to-directory": Dir(),
    "link-to-directory/file": File(bytes(300_000)),
    "link": Link("new"),
    "whole": Dir(0o500),
    "whole/deep": Dir(0o555),
    "whole/deep/file": File(b"w"),
}


STEP = 1 if LONG else 3
"""Every call is tried by `make faults`, otherwise every third one."""


class Scene:
    """A target with `OLD` in it and an archive of `NEW`, anew for each point."""

    def __init__(self, destination: Path, mode: str, uid: int) -> None:
        self.destination, self.mode, self.uid = destination, mode, uid
        self.target, self.archive = destination / "target", destination / "new.zip"
        destination.chmod(0o755)
        write_zip(self.archive, NEW)
        self.reset()
        self.old = snapshot(self.target)
        in_child(self.restore, uid)
        self.new = snapshot(self.target)
        assert differences(self.old, self.new)

    def reset(self) -> None:
        shutil.rmtree(self.target, ignore_errors=True)
        make_tree(self.target, OLD)
        for directory, directories, files in os.walk(self.target):
            for name in (".", *directories, *files):
                os.chown(Path(directory, name), self.uid, self.uid, follow_symlinks=False)

    def restore(self) -> None:
        restored(self.target, self.archive, RestoreOptions(limits=LIMITS, mode=self.mode))

    def recover(self) -> RecoveryOutcome:
        return recover(self.target, JOB)

    def killed(self, work: Callable[[], object], at: int) -> bool:
        """Return True when `work`, in a child, was killed at that call; False when it ended before."""

        def child() -> None:
            with striking(at, die):
                work()

        return in_child(child, self.uid) == signal.SIGKILL

    def recovered(self) -> RecoveryOutcome:
        """Recover as the right user; what it reported."""
        if self.uid == 0:
            return self.recover()
        reports = list(RecoveryOutcome)
        reading, writing = os.pipe()
        in_child(lambda: os.write(writing, bytes([reports.index(self.recover())])), self.uid)
        os.close(writing)
        report = os.read(reading, 1)
        os.close(reading)
        return reports[report[0]]

    def check(self, report: RecoveryOutcome | None) -> bool:
        """Assert old or new, as reported. True when only the target's own time is neither."""
        found = snapshot(self.target)
        to_old, to_new = _apart_from_root_time(self.old, found), _apart_from_root_time(self.new, found)
        assert not (to_old and to_new), f"neither old {to_old} nor new {to_new}"
        if report is RecoveryOutcome.ROLLED_BACK:
            assert not to_old
        if report is RecoveryOutcome.COMMITTED:
            assert not to_new
        # When it is new, its time is that of the renames.
        return not to_old and found[""].mtime_ns != self.old[""].mtime_ns


def _apart_from_root_time(left: Mapping[str, Found], right: Mapping[str, Found]) -> list[str]:
    return [
        difference for difference in differences(left, right) if not difference.startswith("'': mtime_ns")
    ]


@pytest.fixture(params=[0, NOBODY], ids=["root", "nobody"])
def destination(request: pytest.FixtureRequest) -> Iterator[tuple[Path, int]]:
    """In memory where possible: SIGKILL keeps what the kernel has, and thousands of syncs take long."""
    require(os.geteuid() == 0, "root, to restore as somebody else too")
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = Path(tempfile.mkdtemp(dir=memory)).resolve()
    yield directory, request.param
    shutil.rmtree(directory)


@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_killed_at_any_call_and_recovered_the_target_is_old_or_new(
    destination: tuple[Path, int], mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = in_fresh_interpreter(kill_restores, destination[0], mode, destination[1])
    with capsys.disabled():
        print(f"\n{said}", end="")


def kill_restores(destination: str, mode: str, uid: str) -> None:
    scene = Scene(Path(destination), mode, int(uid))
    at, points, off_time, reports = 1, 0, 0, set()
    scene.reset()
    while scene.killed(scene.restore, at):
        report = scene.recovered()
        reports.add(report)
        off_time += scene.check(report)
        assert scene.recover() is RecoveryOutcome.NOTHING
        scene.reset()
        points, at = points + 1, at + STEP
    assert reports == set(RecoveryOutcome), reports
    # Between making or removing the working directory, and setting the time back.
    assert off_time <= 2, off_time
    print(f"restore ({mode}, uid {uid}): killed at {points} points, target's time lost {off_time}x")


@pytest.mark.parametrize(
    "destination", [0, pytest.param(NOBODY, marks=pytest.mark.large)], ids=["root", "nobody"], indirect=True
)
def test_a_recovery_that_is_killed_at_any_call_is_finished_by_the_next(
    destination: tuple[Path, int], capsys: pytest.CaptureFixture[str]
) -> None:
    said = in_fresh_interpreter(kill_recoveries, *destination)
    with capsys.disabled():
        print(f"\n{said}", end="")


def kill_recoveries(destination: str, uid: str) -> None:
    scene = Scene(Path(destination), "replace", int(uid))
    points = 0
    for restore_at in _interesting(scene):
        at = 1
        scene.reset()
        assert scene.killed(scene.restore, restore_at)
        while scene.killed(scene.recover, at):
            scene.recovered()
            scene.check(None)
            assert scene.recover() is RecoveryOutcome.NOTHING
            points += 1
            at += STEP
            scene.reset()
            assert scene.killed(scene.restore, restore_at)
    print(f"recovery ({scene.mode}, uid {uid}): killed at {points} points")


def _interesting(scene: Scene) -> list[int]:
    """Points in a restore where a recovery has most to do: half applied, all applied, while discarding."""
    reading, writing = os.pipe()

    def count() -> None:
        with striking(NEVER, die) as calls:
            scene.restore()
        os.write(writing, calls.calls.to_bytes(4, "big"))

    scene.reset()
    in_child(count, scene.uid)
    total = int.from_bytes(os.read(reading, 4), "big")
    for end in (reading, writing):
        os.close(end)
    return [total * part // 8 for part in (4, 6, 7)]


_DRIVER = """
import sys
from pathlib import Path
from agent.restore.root import RestoreOptions
from tests.support.restoring import LIMITS, restored
restored(Path(sys.argv[1]), Path(sys.argv[2]), RestoreOptions(limits=LIMITS, mode="replace"))
"""


def _traced(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Restore NEW over OLD in a fresh interpreter under strace; its standard error has the trace."""
    strace = shutil.which("strace")
    require(strace is not None, "strace")
    make_tree(tmp_path / "target", OLD)
    write_zip(tmp_path / "new.zip", NEW)
    command = [str(strace), "-qq", *options, sys.executable, "-c", _DRIVER]
    return subprocess.run(
        [*command, tmp_path.resolve() / "target", tmp_path / "new.zip"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("when", "message", "left"),
    [
        ("1", "cannot put the unpacked files in place: Input/output error", RecoveryOutcome.NOTHING),
        ("2", "cannot put the unpacked files in place: Input/output error", RecoveryOutcome.NOTHING),
        (
            "2+",
            "cannot be reverted now; the agent tries again",
            RecoveryOutcome.ROLLED_BACK,
        ),
    ],
    ids=["before", "after", "after-and-rolling-back"],
)
def test_a_disk_that_cannot_sync_is_an_io_error_and_the_target_stays_or_becomes_old(
    tmp_path: Path, when: str, message: str, left: RecoveryOutcome
) -> None:
    ended = _traced(tmp_path, "-e", "trace=syncfs", "-e", f"inject=syncfs:error=EIO:when={when}")
    error = rf"^agent\.base\.errors\.(IoError|NotTakenBack): .*{message}"
    assert re.search(error, ended.stderr, re.MULTILINE)
    assert recover(tmp_path.resolve() / "target", JOB) is left
    make_tree(tmp_path / "expected", OLD)
    assert differences(snapshot(tmp_path / "expected"), snapshot(tmp_path / "target")) == []


def test_everything_is_on_the_disk_before_what_depends_on_it(tmp_path: Path) -> None:
    """SIGKILL keeps the page cache, so that only the order of the system calls tells about a power cut."""
    ended = _traced(tmp_path, "-e", "trace=rename,renameat,renameat2,linkat,syncfs,fsync,unlinkat")
    assert ended.returncode == 0, ended.stderr
    kinds = re.compile(
        r"^(?:(?P<plan>rename.*plan\.tmp.*plan)|(?P<done>rename.*plan.*done)|(?P<save>linkat)"
        r"|(?P<sync>syncfs)|(?P<fsync>fsync)|(?P<change>rename)|(?P<remove>unlinkat))"
    )
    calls = [found.lastgroup for line in ended.stderr.splitlines() if (found := kinds.search(line))]
    order = [kind for kind, _ in itertools.groupby(calls)]
    beginning = ["save", "fsync", "sync", "plan", "fsync", "change", "sync", "done", "fsync"]
    assert order[:9] == beginning
    assert not {"save", "sync", "plan", "done"} & set(order[9:])
