"""The directories from a root down to the present one of a walk, held by descriptors."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.base.identity import FileIdentity, identity, open_parent

_MOST_OPEN = 32
"""Directories that are kept open on the way down; deeper ones are reopened on the way up."""
_LEASE_PAUSE_S, _LEASE_PATIENCE_S, _MOST_LEASE_PATIENCE_S = 0.02, 5.0, 60.0
"""Pause between tries of a file under a lease, and the longest wait for one file and for all together."""

FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
DIR_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(slots=True)
class Level:
    """A directory on the way from the root to the present one."""

    name: str
    fd: int
    identity: FileIdentity
    waiting: list[str] = field(default_factory=list)
    """Names of its directories that the walk has not entered yet."""
    beside: list[str] = field(default_factory=list)
    """Names of its files that may belong to a database; they come after all other files."""
    copied: set[str] = field(default_factory=set)
    """Names of its databases of which a copy is saved."""


class Levels:
    """A stack of directories: a tree may be deeper than Python's stack, or than there are descriptors."""

    def __init__(self, check: Callable[[], None]) -> None:
        """`check` is called while the walk waits for a file under a lease; it ends that by raising."""
        self.prefix = ""
        """The present directory relative to the root's, with a slash at the end."""
        self._levels: list[Level] = []
        self._check, self._patience_s = check, _MOST_LEASE_PATIENCE_S

    @property
    def here(self) -> Level | None:
        """Return the present directory; None when the walk has left the root."""
        return self._levels[-1] if self._levels else None

    def descend(self, name: str, fd: int, status: os.stat_result) -> Level:
        """Enter a directory, which takes over `fd`."""
        level = Level(name, fd, identity(status))
        self._levels.append(level)
        self.prefix = f"{self.prefix}{name}/" if name else ""
        if len(self._levels) > _MOST_OPEN:
            shallowest = self._levels[-_MOST_OPEN - 1]
            close(shallowest.fd)
            shallowest.fd = -1
        return level

    def ascend(self) -> list[str]:
        """Leave a directory; return the waiting names of the one above when it cannot be reopened."""
        left, lost = self._levels.pop(), list[str]()
        self.prefix = self.prefix[: -len(left.name) - 1]
        if (level := self.here) and level.fd < 0:
            level.fd = open_parent(left.fd, level.identity) if left.fd >= 0 else -1
            if level.fd < 0:
                lost, level.waiting = level.waiting, []
        close(left.fd)
        return lost

    def open(self, name: str, flags: int) -> int:
        """Return a descriptor of a name in the present directory. Raises OSError.

        Waits a little for a file under a lease of another process, such as a file server: the first try makes
        the kernel ask for it back (fcntl(2), F_SETLEASE).
        """
        waited_s = 0.0
        while True:
            try:
                return os.open(name, flags, dir_fd=self._levels[-1].fd)
            except BlockingIOError:
                if waited_s >= _LEASE_PATIENCE_S or self._patience_s <= 0:
                    raise
            self._check()
            time.sleep(_LEASE_PAUSE_S)
            waited_s += _LEASE_PAUSE_S
            self._patience_s -= _LEASE_PAUSE_S

    def close(self) -> None:
        for level in self._levels:
            close(level.fd)


def close(fd: int) -> None:
    """Close a descriptor that may be none (-1)."""
    if fd >= 0:
        os.close(fd)
