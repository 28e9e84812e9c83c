"""Somebody who may write in the target swaps directories for links while a restore runs: nothing gets out."""

import ctypes
import itertools
import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from agent.base.errors import JobError
from agent.restore.recovery import recover
from agent.restore.root import RestoreOptions
from tests.faults.tally import LONG, tell
from tests.support.require import require
from tests.support.restoring import JOB, LIMITS, NOBODY, restored
from tests.support.trees import Dir, File, Link, Spec, differences, make_tree, snapshot, write_zip

RESTORES = 1_000 if LONG else 50
WORK = f".edge-backup-{JOB}"
_EXCHANGE = 2  # RENAME_EXCHANGE, renameat2(2)
_libc = ctypes.CDLL(None, use_errno=True)

ARCHIVE: Spec = {
    "d": Dir(0o755), "d/e": Dir(0o700), "d/e/f": File(b"new" * 100), "d/e/g": Dir(), "d/e/g/h": File(b"new"),
    "d/f": File(b"new"), "d/link": Link("/etc"), "fresh": Dir(), "fresh/f": File(b"new"),
}  # fmt: skip
OUTSIDE: Spec = {
    "d": Dir(0o750), "d/f": File(b"precious", 0o600), "d/e": Dir(0o711), "d/e/f": File(b"precious"),
    "new": Dir(), "plan": File(b"precious"), "f": File(b"precious"), "e": Dir(), "e/f": File(b"precious"),
    "g": Dir(),
}  # fmt: skip


def _swaps(target: Path) -> Iterator[tuple[Path, Path]]:
    """Names and the links that take their place in turns; the links lead out of the target."""
    yield target / "d", target / "evil"
    yield target / "d/e", target / "evil"
    yield target / WORK, target / "evil"
    yield target / WORK, target / "mine"
    yield target / "fresh", target / "evil"
    yield target / "d/f", target / "evil"
    yield target / "d", target / "other"


def _exchange(one: Path, other: Path) -> bool:
    done: int = _libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), _EXCHANGE)
    return done == 0


@contextmanager
def attacker(target: Path) -> Iterator[Callable[[], int]]:
    """A process of user nobody that swaps as fast as it can; the number of its swaps."""
    counter, written = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        for one, other in itertools.cycle(list(_swaps(target))):
            if _exchange(one, other):
                os.write(written, b".")
                _exchange(one, other)
    os.close(written)
    swaps = [0]
    os.set_blocking(counter, False)

    def count() -> int:
        try:
            while got := os.read(counter, 1 << 16):
                swaps[0] += len(got)
        except BlockingIOError:
            pass
        return swaps[0]

    try:
        yield count
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(counter)


def prepare(root: Path) -> Path:
    """A target that belongs to the attacker, with what he brought along, beside something precious."""
    target = make_tree(root / "target", {
        "d": Dir(), "d/e": Dir(), "d/e/f": File(b"old"), "d/f": File(b"old"), "other": Dir(),
        "other/e": Dir(), "evil": Link("../outside"), "mine": Dir(), "mine/new": Dir(),
        "mine/undo": Link("../../outside"),
        "mine/plan": File(b'[0,"keep","",[511,65534,65534,null],null]\n'),
    })  # fmt: skip
    for path in (target, *target.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return target


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Path]:
    """A directory that another user can enter, in memory where there is such a place: syncs cost nothing."""
    require(os.geteuid() == 0, "root, to be attacked by somebody else")
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    root = Path(tempfile.mkdtemp(prefix="edge-backup-race-", dir=memory))
    root.chmod(0o755)
    yield root
    shutil.rmtree(root)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_swapping_directories_for_links_leads_no_restore_out(arena: Path, mode: str) -> None:
    archive = write_zip(arena / "a.zip", ARCHIVE)
    make_tree(arena / "outside", OUTSIDE)
    before = snapshot(arena / "outside")
    options = RestoreOptions(limits=LIMITS, mode=mode)
    outcomes: Counter[str] = Counter()
    swaps = 0
    for _ in range(RESTORES):
        target = prepare(arena)
        with attacker(target) as count:
            outcomes[outcome(partial(restored, target, archive, options))] += 1
            outcomes["recovery: " + outcome(partial(recover, target, JOB))] += 1
            swaps += count()
        assert differences(before, snapshot(arena / "outside")) == []
        shutil.rmtree(target)
    tell(f"races, {mode}: {RESTORES} restores, {swaps} swaps, {dict(outcomes)}; violations: 0")
    assert swaps > 10 * RESTORES
    assert outcomes["done"] < RESTORES


def outcome(work: Callable[[], object]) -> str:
    try:
        work()
    except JobError as error:
        return error.code
    return "done"
