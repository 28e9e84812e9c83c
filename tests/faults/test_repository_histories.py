"""Random histories of a device and its operator: restic and the agent restore what was saved last."""

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.base.errors import Cancelled, RepositoryBusy
from agent.base.roots import Root
from agent.formats.repository import blobs, sweep, tree
from agent.formats.repository.objects import Kind
from agent.formats.repository.packs import tree_key
from agent.transfer.cancel import CancelToken
from tests.faults.tally import LONG
from tests.support.repositories import Device
from tests.support.snapshots import restored, verified
from tests.support.trees import snapshot

HISTORIES = 500 if LONG else 10
NAMES = ("a", "b", "c", "d/a", "d/b", "d/e/f", "g/h")
SIZES = (0, 1, 5_000, 70_000, 400_000)


class PowerCutError(BaseException):
    """The end of the process."""


class World:
    """A device with files, its repository, and an operator with restic."""

    def __init__(self, path: Path) -> None:
        self.source = path / "source"
        self.source.mkdir()
        self.device = Device.at(path, Root("", self.source))
        self.saved: dict[str, object] = {}
        """Maps the name of each snapshot to the files that the device saved in it."""

    def write(self, name: str, size: int, seed: int) -> None:
        path = self.source / name
        self._remove_above(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.rmtree(path)
        path.write_bytes(random.Random(seed).randbytes(size))

    def append(self, name: str, size: int, seed: int) -> None:
        path = self.source / name
        if path.is_file():
            with path.open("ab") as file:
                file.write(random.Random(seed).randbytes(size))

    def change(self, name: str, size: int, seed: int) -> None:
        """Change some bytes in place."""
        path = self.source / name
        if path.is_file() and path.stat().st_size:
            with path.open("r+b") as file:
                file.seek(size % path.stat().st_size)
                file.write(random.Random(seed).randbytes(10))

    def rename(self, name: str, _size: int, seed: int) -> None:
        path, to = self.source / name, self.source / NAMES[seed % len(NAMES)]
        if path.exists() and to not in (path, *path.parents) and path not in to.parents and not to.exists():
            self._remove_above(to)
            to.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                path.rename(to)

    def chmod(self, name: str, _size: int, seed: int) -> None:
        if (self.source / name).exists():
            (self.source / name).chmod(0o700 + seed % 0o100)

    def remove(self, name: str, _size: int, _seed: int) -> None:
        path = self.source / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def save(self, _name: str, _size: int, _seed: int) -> None:
        self.saved[self.device.save().id] = snapshot(self.source)

    def crash(self, _name: str, _size: int, seed: int) -> None:
        """A backup whose device loses power at some call."""
        self._ending(seed, lambda: (_ for _ in ()).throw(PowerCutError()))
        with suppress(PowerCutError):
            self.device.save()
        self._undisturbed()

    def cancel(self, _name: str, _size: int, seed: int) -> None:
        """A backup that somebody cancels."""
        token = CancelToken()
        self._ending(seed, lambda: token.cancel("enough"))
        with suppress(Cancelled):
            self.device.save(token=token)
        self._undisturbed()

    def restore(self, _name: str, _size: int, seed: int) -> None:
        """The device reads back any of the snapshots that are left."""
        if names := self.device.names():
            name = names[seed % len(names)]
            with TemporaryDirectory() as directory:
                target = Path(directory) / "target"
                target.mkdir()
                restored(self.device.objects.path, [Root("", target)], Path(directory) / "scratch", name)
                assert snapshot(target) == self.saved.get(name, snapshot(target))

    def verify(self, _name: str, _size: int, _seed: int) -> None:
        """The device reads every chunk of every snapshot."""
        for name in self.device.names():
            with TemporaryDirectory() as scratch:
                assert verified(self.device.objects.path, name, Path(scratch)).damage is None

    def retain(self, _name: str, _size: int, seed: int) -> None:
        """The device keeps the newest one or two snapshots, and removes what nobody needs.

        New hardware waits for a lock of the old one, which its next backup removes.
        """
        if names := self.device.names():
            kept = 1 + seed % 2
            with suppress(RepositoryBusy):
                self.device.remove(*names[:-kept], kept=names[-kept:], max_unused=seed % 3 * 5)

    def retain_crash(self, _name: str, _size: int, seed: int) -> None:
        """A prune whose device loses power at some call."""
        self._ending(seed, lambda: (_ for _ in ()).throw(PowerCutError()))
        with suppress(PowerCutError):
            self.retain("", 0, seed)
        self._undisturbed()

    def retain_cancel(self, _name: str, _size: int, seed: int) -> None:
        token = CancelToken()
        self._ending(seed, lambda: token.cancel("enough"))
        if names := self.device.names():
            with suppress(Cancelled, RepositoryBusy):
                self.device.remove(*names[:-1], token=token)
        self._undisturbed()

    def prune(self, _name: str, _size: int, _seed: int) -> None:
        """The operator's rules; restic refuses while there is a lock."""
        self.device.restic("forget", "--keep-last", "1", "--prune", "--max-unused", "0", ok=False)

    def prune_by_force(self, _name: str, _size: int, _seed: int) -> None:
        self.device.restic("unlock", "--remove-all", ok=False)
        self.prune("", 0, 0)

    def forget(self, _name: str, _size: int, _seed: int) -> None:
        """The operator removes the latest snapshot."""
        if self.device.objects.count(Kind.SNAPSHOT):
            self.device.restic("forget", "latest", "--prune", "--max-unused", "0", ok=False)

    def lose_state(self, _name: str, _size: int, _seed: int) -> None:
        """New hardware."""
        shutil.rmtree(self.device.state, ignore_errors=True)

    def _ending(self, number: int, end: Callable[[], object]) -> None:
        left = [number % 12]

        def count(call: str, _kind: Kind) -> None:
            if call in ("put", "delete"):
                left[0] -= 1
                if left[0] < 0:
                    end()

        if number % 2:
            self.device.objects.after = count
        else:
            self.device.objects.before = count

    def _undisturbed(self) -> None:
        self.device.objects.before = self.device.objects.after = lambda _call, _kind: None

    def _remove_above(self, path: Path) -> None:
        for above in path.relative_to(self.source).parents:
            if (self.source / above).is_file():
                (self.source / above).unlink()


def uses_are_right(device: Device) -> None:
    """Count the uses of each blob by the entries of the state: a wrong count would lose content some day."""
    (path,) = device.state.glob("*.state")
    with closing(sqlite3.connect(path)) as database:
        facts = dict(database.execute("SELECT name, value FROM facts"))
        expected = Counter([tree_key(bytes.fromhex(facts["snapshot_tree"]))])
        directories = Counter[int]()
        for directory, content, child in database.execute("SELECT directory, content, child FROM entries"):
            directories[directory] += 1
            ids = (content[at : at + 32] for at in range(0, len(content), 32))
            expected.update([tree_key(content)] if child else ids)
        assert dict(database.execute("SELECT id, uses FROM blobs")) == dict(expected)
        sizes = database.execute("SELECT number, entries FROM directories WHERE entries > 0")
        assert dict(sizes) == dict(directories)


OPERATIONS = (
    *("write", "write", "append", "change", "rename", "chmod", "remove", "save", "save", "crash", "cancel"),
    *("prune", "prune_by_force", "forget", "lose_state", "restore", "verify"),
    *("retain", "retain", "retain_crash", "retain_cancel"),
)
STEP = st.tuples(
    st.sampled_from(OPERATIONS), st.sampled_from(NAMES), st.sampled_from(SIZES), st.integers(0, 1000)
)


@pytest.mark.timeout(120 + 20 * HISTORIES)
@settings(max_examples=HISTORIES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEP, min_size=3, max_size=14))
def test_the_last_snapshot_restores_what_was_saved(steps: list[tuple[str, str, int, int]]) -> None:
    """Files come, change and go, jobs are cut off, the operator prunes, hardware is replaced."""
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(blobs, "PACK_BYTES", 200_000)
        patch.setattr(sweep, "PACK_BYTES", 200_000)
        patch.setattr(sweep, "_ROUND_BYTES", 300_000)
        patch.setattr(tree, "MOST_HELD", 3)
        patch.setattr(tree, "WHOLE_DIRECTORY", 2)
        world = World(Path(directory))
        for operation, name, size, seed in steps:
            getattr(world, operation)(name, size, seed)
        world.device.save()
        uses_are_right(world.device)
        world.device.check()
        by_restic = world.device.restored(Path(directory) / "restored")
        assert snapshot(by_restic) == snapshot(world.source)
        target = Path(directory) / "target"
        target.mkdir()
        restored(world.device.objects.path, [Root("", target)], Path(directory) / "scratch")
        assert snapshot(target) == snapshot(world.source)
