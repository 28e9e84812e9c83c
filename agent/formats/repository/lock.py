"""Locks: that of a backup keeps others from pruning while packs without a snapshot are written.

That of a prune is exclusive. Source: restic's `doc/design.rst`, "Locks", and its `internal/restic/lock.go`:
an exclusive lock and any other one refuse each other, and one that is older than 30 minutes is stale.
"""

import json
import math
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from agent.base.clock import BootClock
from agent.base.errors import Cancelled, RepositoryBroken, RepositoryBusy
from agent.base.text import readable
from agent.formats.repository.crypto import Cryptor
from agent.formats.repository.golang import time_text
from agent.formats.repository.objects import Kind, Objects, listed
from agent.formats.repository.pending import PendingPacks
from agent.formats.repository.unpacked import encoded, get_unpacked
from providers.errors import AccessDenied, NotFound, StorageError

log = structlog.get_logger(__name__)

REFRESH_S = 5 * 60
GAP_S = 25 * 60
"""The longest time without a refresh in which nobody can have taken the lock for a stale one."""
_STALE_S = 30 * 60
_MOST_BYTES, _MOST_LOCKS = 1 << 16, 1000


class _Content(NamedTuple):
    """The facts in a lock."""

    exclusive: bool
    host: str
    since: str


@dataclass(slots=True)
class Lock:
    """The lock of one job. Used by one thread."""

    objects: Objects
    cryptor: Cryptor
    pending: PendingPacks
    host: str
    exclusive: bool = False
    left: frozenset[str] = frozenset()
    """Locks of ended jobs of this device, which stand for nobody."""
    name: str = ""
    stored_bytes: int = 0
    _clock: BootClock = field(default_factory=BootClock)
    _refreshed: tuple[str, float] = ("", 0.0)

    def acquire(self) -> None:
        """Put the lock. Raises `RepositoryBusy` while another program holds one that excludes it."""
        self.refuse_others()
        self._put()
        # Who made a lock at this moment has seen neither.
        try:
            self.refuse_others()
        except BaseException:
            self.release()
            raise

    def refuse_others(self) -> None:
        """Raise `RepositoryBusy` for a lock that excludes this one.

        A device without the right to look goes on, but not with an exclusive lock: that raises AccessDenied.
        """
        try:
            for name, size_bytes in listed(self.objects, Kind.LOCK, _MOST_LOCKS, "run `restic unlock`"):
                # Some stores show an object before its content is there.
                if name != self.name and size_bytes:
                    self._refuse(name)
        except AccessDenied:
            if self.exclusive:
                raise

    def _refuse(self, name: str) -> None:
        try:
            lock = self._read(name)
        except NotFound:
            return  # removed meanwhile
        if name in self.left:
            if lock is None or lock.exclusive:
                self._note(name)  # of a prune that was cut off
        elif lock and not lock.exclusive and not self.exclusive:
            if lock.host == self.host and not self.pending.fact("left_locks"):
                # Before the hardware was replaced: one repository belongs to one device.
                self._note(name)
        elif self.exclusive and self._is_stale(name):
            log.warning("stale lock of the repository removed", host=lock and lock.host)
            self.objects.delete(Kind.LOCK, name)
        else:
            raise _refusal(name, lock)

    def _read(self, name: str) -> _Content | None:
        """Return a lock; None for a damaged one. Raises StorageError."""
        try:
            lock = json.loads(get_unpacked(self.objects, self.cryptor, Kind.LOCK, name, _MOST_BYTES))
            return _Content(bool(lock["exclusive"]), str(lock.get("hostname")), str(lock["time"]))
        except (RepositoryBroken, ValueError, LookupError, TypeError, RecursionError) as error:
            log.warning("lock of the repository not readable", lock=name[:8], error=str(error))
            return None

    def _is_stale(self, name: str) -> bool:
        """Return True for a lock that an earlier prune saw 30 minutes ago: its owner would have renewed it.

        The time in it is that of another clock, and one of the two may be wrong.
        """
        known: dict[str, tuple[str, float]] = json.loads(self.pending.fact("seen") or "{}")
        age_s = self._clock.age_s(*known.get(name, ("", 0.0)))
        if age_s == math.inf:  # not seen since the device was started
            known[name] = self._clock.now()
            self.pending.remember(seen=json.dumps(dict([*known.items()][-_MOST_LOCKS:])))
        return _STALE_S <= age_s < math.inf

    def was_kept(self) -> bool:
        """Return True when the pending packs cannot have been removed since their job was cut off.

        Its lock still exists, which who prunes has to remove. A device that may not look counts the time.
        """
        pending = self.pending
        exists = self._exists(pending.fact("lock"))
        if exists is not None:
            return exists
        return self._clock.age_s(pending.fact("boot"), float(pending.fact("refreshed") or 0)) < GAP_S

    def refresh(self) -> None:
        """Put the lock anew when it is time. Raises as `check`."""
        if self._clock.age_s(*self._refreshed) < REFRESH_S:
            return
        self.check()
        self._put()
        self.remove_others()

    def check(self) -> None:
        """Raise `RepositoryBusy` when somebody has removed the lock: they may have pruned after that.

        A device that may not look for it counts the time since it was refreshed.
        """
        exists = self._exists(self.name)
        if exists or (exists is None and self._clock.age_s(*self._refreshed) < GAP_S):
            return
        self.pending.abandon()
        raise RepositoryBusy(
            f"the lock of this job was removed, or was not refreshed for {GAP_S // 60} minutes: somebody may"
            " have pruned the repository, and the next backup sends the content of this one again"
        )

    def release(self) -> None:
        """Remove the lock, unless a later job may go on with the packs that are stored.

        A lock that cannot be removed is removed by the next job.
        """
        if self.name and not len(self.pending):
            self.name = ""
            try:
                self.remove_others()
            except (StorageError, Cancelled) as error:
                log.warning("lock of the repository not removed", error=str(error))

    def remove_others(self) -> None:
        """Remove the locks of this device that are not the present one."""
        for name in self.pending.fact("locks").split():
            if name == self.name:
                continue
            try:
                self.objects.delete(Kind.LOCK, name)
            except AccessDenied:
                self.pending.lock_stays()  # a store that only takes: the lock goes stale
        self.pending.remember(locks=self.name)

    def _put(self) -> None:
        value = {
            "time": time_text(datetime.now(UTC)),
            "exclusive": self.exclusive,
            "hostname": self.host,
            "username": "edge-backup",
            "pid": os.getpid(),
        }
        begun = self._clock.now()
        name, stored = encoded(self.cryptor, json.dumps(value).encode())
        # First on the device's disk: after a power cut nobody else would know whose lock that is.
        self._note(name)
        self.objects.put(Kind.LOCK, name, stored)
        self.name, self._refreshed = name, begun
        self.stored_bytes += len(stored)
        self.pending.remember(lock=name, boot=begun[0], refreshed=str(begun[1]))

    def _note(self, name: str) -> None:
        """Remember a lock that this device has to remove."""
        names = self.pending.fact("locks").split()
        if name not in names:
            self.pending.remember(locks=" ".join([*names, name]))

    def _exists(self, name: str) -> bool | None:
        """Return True when there is a lock; None when the device has no right to know."""
        try:
            return bool(name) and self.objects.exists(Kind.LOCK, name)
        except AccessDenied:
            return None


def _refusal(name: str, lock: _Content | None) -> RepositoryBusy | RepositoryBroken:
    """Return the refusal for a lock that excludes this one, or is damaged (None)."""
    if lock is None:
        return RepositoryBroken(
            f"the lock {name[:8]} of the repository is damaged: run `restic unlock --remove-all` when nobody"
            " uses the repository"
        )
    return RepositoryBusy(
        f"another program has locked the repository since {readable(lock.since)} ('{readable(lock.host)}'):"
        " try again when it has ended, or run `restic unlock` if it has died"
    )
