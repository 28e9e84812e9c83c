"""The files of the device and the objects at the store that one job works with."""

import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog

from agent.base.durable import closing_fd, make_directories, sync_directory
from agent.base.errors import Cancelled, IoError, NoSpace, RepositoryBusy, disk_errors
from agent.formats.manifest import Origin
from agent.formats.repository.crypto import Cryptor
from agent.formats.repository.databases import opened, remove_state
from agent.formats.repository.identity import Finder
from agent.formats.repository.keys import Opened
from agent.formats.repository.lock import Lock
from agent.formats.repository.objects import Kind, Objects
from agent.formats.repository.paths import SnapshotPaths
from agent.formats.repository.pending import PendingPacks, locks_in
from agent.formats.repository.scratch import Scratch
from agent.formats.repository.state import State
from providers.errors import StorageError

log = structlog.get_logger(__name__)

_PACE = 1000
_KEPT_SERIES = 16
"""Choices of roots that a repository's state is kept for: each is as large as its trees."""
_PRUNED = "this device removes old snapshots from the repository right now: try again when it has ended"
_WORKED = "a job of this device works with the repository right now"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotOrder:
    """The order to write one snapshot. What has no text here is as in `SaveOrder`."""

    origin: Origin
    """The device's id becomes the snapshot's host; the roots lead from the names of entries to paths."""
    password: str = field(repr=False)
    state: Path
    """The directory with the local state of this repository; it is made, durably, when it is missing."""
    trust_for: timedelta = timedelta(days=14)
    """The age up to which the last snapshot is trusted without being seen (`repository.trustFor`)."""
    reserve_bytes: int = 0
    strict: bool = False
    expected_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """The opened repository, with all that a job needs beside it."""

    objects: Objects
    opened: Opened
    cryptor: Cryptor
    state: State
    pending: PendingPacks
    scratch: Scratch
    lock: Lock
    directory: Path
    """The directory with the state, also for temporary files."""
    reserve_bytes: int
    """Free space that has to be left there."""
    check: Callable[[], None]
    is_new: bool
    """True when this job has made the repository."""


@contextmanager
def session(
    objects: Objects, order: SnapshotOrder, paths: SnapshotPaths, check: Callable[[], None]
) -> Iterator[Session]:
    """Open everything; the lock is not taken yet. `check` is the cancel point of the job.

    Raises what `Finder.found` raises, `RepositoryBusy` while this device prunes, NoSpace and IoError.
    """
    directory, host = order.state, order.origin.device
    with ExitStack() as stack, state_errors(directory):
        make_directories(directory, 0o700)
        stack.enter_context(in_use(directory))
        # A device that may only write would have lost its repository together with the state.
        for above in (directory.parent.parent, directory.parent):
            sync_directory(above)
        found = Finder(
            objects, directory / "repository.json", order.password, host, order.origin.created
        ).found()
        if found.is_other:
            _remove_series(directory, kept=0)
        path = directory / f"{_series(paths)}.state"
        _remove_series(directory, kept=_KEPT_SERIES, besides=path)
        state = stack.enter_context(closing(opened(partial(State, check=check), path)))
        pending = stack.enter_context(closing(opened(PendingPacks, path.with_suffix(".pending"))))
        scratch = stack.enter_context(closing(Scratch(directory)))
        cryptor = Cryptor(found.opened.keys)
        lock = Lock(objects, cryptor, pending, host, left=locks_in(directory))
        yield Session(
            objects, found.opened, cryptor, state, pending, scratch, lock,
            directory=directory, reserve_bytes=order.reserve_bytes, check=check, is_new=found.is_new,
        )  # fmt: skip


def state_directory(states: Path, location: str) -> Path:
    return states / hashlib.sha256(location.encode()).hexdigest()[:32]


@contextmanager
def in_use(directory: Path, *, alone: bool = False) -> Iterator[None]:
    """Use the repository whose state is in the directory; a prune uses it `alone`.

    It keeps this device's jobs and its own prune apart, whatever the locks at the store say. So the locks
    that earlier jobs of this device left there stand for nobody, and do not stop it. Without a directory
    nobody else uses the repository. Raises `RepositoryBusy` instead of waiting, and OSError.
    """
    with ExitStack() as stack:
        with suppress(FileNotFoundError):
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            held = stack.enter_context(closing_fd(fd))
            try:
                fcntl.flock(held, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RepositoryBusy(_WORKED if alone else _PRUNED) from None
        yield


def take_lock(session: Session) -> None:
    """Take the lock; count packs of an interrupted job as stored if nobody can have removed them.

    Raises `RepositoryBusy`, `RepositoryBroken` and StorageError.
    """
    lock, pending = session.lock, session.pending
    was_kept = lock.was_kept()
    if not was_kept:
        pending.abandon()
    lock.acquire()
    lock.remove_others()
    count_pending(session)


def take_back(session: Session) -> None:
    """Remove the packs of this job from a store that is full: no index names them, so nobody needs them.

    Otherwise a full store stays full, and a prune has no room for its index.
    """
    pending = session.pending
    names = [name for name, _ in pending.not_indexed()]
    try:
        for name in names:
            session.objects.delete(Kind.PACK, name)
            pending.removed(name)
    except (StorageError, Cancelled) as error:
        log.warning("packs not removed from the full store", error=str(error))
    pending.abandon()


def count_pending(session: Session) -> None:
    session.state.count_as_stored(_keys(session))


def _keys(session: Session) -> Iterator[bytes]:
    for number, blob in enumerate(session.pending.blobs()):
        if number % _PACE == 0:
            session.check()
        yield blob.key


@contextmanager
def state_errors(directory: Path) -> Iterator[None]:
    """Raise `NoSpace` or `IoError` for errors of the device's disk."""
    try:
        with disk_errors(f"cannot keep the state of the repository in '{directory}'"):
            yield
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        kind = NoSpace if full else IoError
        raise kind(f"cannot keep the state of the repository in '{directory}': {error}") from error


def _series(paths: SnapshotPaths) -> str:
    """Return the name of the state for this choice of roots: each has a last snapshot of its own."""
    return hashlib.sha256("\0".join(paths.saved).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _remove_series(directory: Path, *, kept: int, besides: Path | None = None) -> None:
    """Remove the states that were used least recently."""
    states = [path for path in directory.glob("*.state") if path != besides]
    states.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in states[kept:]:
        for end in (".state", ".pending"):
            remove_state(path.with_suffix(end))
