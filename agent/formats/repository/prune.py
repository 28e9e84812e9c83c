"""Forgets snapshots, and removes what no other snapshot needs: the exclusive work on a repository."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from agent.base.durable import make_directories
from agent.base.errors import RepositoryBusy
from agent.formats.base import Freed, Removal
from agent.formats.entries import DIR
from agent.formats.repository.crypto import Cryptor
from agent.formats.repository.databases import opened as opened_state
from agent.formats.repository.keys import Opened
from agent.formats.repository.lock import Lock
from agent.formats.repository.objects import Kind, Objects
from agent.formats.repository.packs import ID_BYTES
from agent.formats.repository.pending import PendingPacks, locks_in, pending_in
from agent.formats.repository.reader import Reader, snapshots
from agent.formats.repository.session import in_use, state_errors
from agent.formats.repository.sweep import Sweep
from agent.formats.repository.usage import Usage
from providers.errors import AccessDenied

_NOTES = "prune.pending"
_MOST_MOVED_BYTES = 1 << 30
"""The most bytes that one prune stores again; the next one goes on."""
_NO_RIGHT = "this device has no right to remove snapshots there: the operator prunes the repository"


@dataclass(frozen=True, slots=True)
class PruneJob:
    """A prune of one repository, by the rules of its device."""

    objects: Objects
    opened: Opened = field(repr=False)
    state: Path
    """The directory with the device's state of this repository."""
    host: str
    most_unused_percent: int
    reserve_bytes: int
    """Free space that has to be left where the state is."""
    check: Callable[[], None]

    def run(self, removal: Removal) -> Freed:
        """Carry out the removal; return what it frees, which is only counted in a dry run.

        Whatever cuts it off, every snapshot that is left is whole. Raises `RepositoryBusy` while anybody
        else uses the repository, `RepositoryBroken` before anything is removed when snapshots that stay
        need what is not there, NoSpace, IoError, Cancelled and StorageError.
        """
        if not self._may_remove():
            return Freed(0, _NO_RIGHT)
        with (
            self._locked() as (pending, lock),
            closing(Usage(self.state)) as usage,
            closing(self._reader(usage)) as reader,
        ):
            cryptor = Cryptor(self.opened.keys)
            usage.load(self.objects, cryptor, self._go_on(lock))
            if usage.damage:
                raise usage.damage
            if not self._mark(usage, reader, removal, lock):
                return Freed(0)
            self._look(usage, lock)
            plan = usage.plan(self.most_unused_percent, _MOST_MOVED_BYTES)
            self._forget(removal, lock)
            if removal.dry_run:
                return Freed(plan.unused_bytes + plan.gained_bytes)
            sweep = Sweep(self.objects, cryptor, usage, reader, pending, self._go_on(lock))
            freed = sweep.run(plan)
            for notes in pending_in(self.state):
                notes.pruned()
            return freed

    def _reader(self, usage: Usage) -> Reader:
        fetch = partial(self.objects.get_range, Kind.PACK)
        return Reader(fetch, self.opened.keys, usage, self.state, self.reserve_bytes)

    def _go_on(self, lock: Lock) -> Callable[[], None]:
        """Return the function to call before each step: a cancel point that keeps the lock fresh."""

        def go_on() -> None:
            self.check()
            lock.refresh()

        return go_on

    def _may_remove(self) -> bool:
        """Ask for the removal of objects that there are not: a lock that cannot go would stop everybody."""
        try:
            for kind in (Kind.SNAPSHOT, Kind.INDEX, Kind.PACK, Kind.LOCK):
                self.objects.delete(kind, secrets.token_hex(32))
        except AccessDenied:
            return False
        return True

    @contextmanager
    def _locked(self) -> Iterator[tuple[PendingPacks, Lock]]:
        with ExitStack() as stack, state_errors(self.state):
            make_directories(self.state, 0o700)
            stack.enter_context(in_use(self.state, alone=True))
            left = locks_in(self.state)
            pending = stack.enter_context(closing(opened_state(PendingPacks, self.state / _NOTES)))
            pending.abandon()
            lock = Lock(
                self.objects, Cryptor(self.opened.keys), pending, self.host, exclusive=True, left=left
            )
            try:
                lock.acquire()
                lock.remove_others()
                yield pending, lock
            finally:
                pending.abandon()
                lock.release()

    def _mark(self, usage: Usage, reader: Reader, removal: Removal, lock: Lock) -> int:
        """Mark what the snapshots that stay need; return how many these are.

        Raises `RepositoryBusy` when one that was to stay is gone.
        """
        missing, number = set(removal.kept), 0
        for snapshot in snapshots(self.objects, Cryptor(self.opened.keys), self.check):
            if snapshot.id not in removal.names:
                missing.discard(snapshot.id)
                number += 1
                self._mark_trees(usage, reader, snapshot.tree, lock)
        if missing:
            raise RepositoryBusy("somebody else has removed snapshots meanwhile: nothing was removed")
        return number

    def _mark_trees(self, usage: Usage, reader: Reader, top: bytes, lock: Lock) -> None:
        waiting = bytearray(top) if usage.use_tree(top) else bytearray()
        while waiting:
            tree_id = bytes(waiting[-ID_BYTES:])
            del waiting[-ID_BYTES:]
            lock.refresh()
            for node in reader.tree(tree_id):
                self.check()
                if node.kind is not DIR:
                    usage.use(node.content)
                elif usage.use_tree(node.content):
                    waiting += node.content

    def _look(self, usage: Usage, lock: Lock) -> None:
        """Look which packs there are, and which of them interrupted jobs will go on with."""
        go_on = self._go_on(lock)
        for name, size_bytes in self.objects.list(Kind.PACK):
            go_on()
            usage.add_stored(name, size_bytes)
        for notes in pending_in(self.state):
            usage.keep_pending(notes.names())

    def _forget(self, removal: Removal, lock: Lock) -> None:
        for name in removal.names:
            lock.refresh()
            if not removal.dry_run:
                self.objects.delete(Kind.SNAPSHOT, name)
            removal.removed(name)
