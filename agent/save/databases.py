"""SQLite databases are saved as they were at one moment, also while programs write to them.

The bytes of a database in use are of many moments, and a part of it is in files beside it. So a backup saves
a copy that SQLite makes, in place of the database and its side files. The copy is made by `database_copier`,
a process of the database's owner, and loses its name as soon as it is open.
"""

import json
import os
import select
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from agent.base.durable import remove_tree
from agent.base.errors import disk_errors
from agent.base.sqlite_files import HEADER_BYTES
from agent.formats.entries import Entry
from agent.save import database_copier
from agent.save.database_copier import CHANGED, COPY, IN_USE, MAX_MESSAGE_BYTES
from agent.save.levels import FILE_FLAGS
from providers.free_space import reserved_bytes

log = structlog.get_logger(__name__)

_READ_VERSION_AT, _WAL = 19, 2
MAX_BESIDE = 65_536
"""Files beside databases that are kept in mind in one directory; further ones are saved as they are found."""
_GROWTH_BYTES = 64 << 20
"""The bytes by which a database may grow while its copy begins, beside its size."""
_LOOK_S = 0.05
_NO_ROOM = "no room for a copy of the database"


@dataclass(frozen=True, slots=True)
class DatabaseOrder:
    """The options of copies of databases."""

    directory: Path
    """A private directory that is made for the copies, and removed."""
    lock_time_s: float
    """The time that writers may have to wait for a copy."""
    reserve_bytes: int
    """Free space that the copies leave."""


class DatabaseCopies:
    """Belongs to one walk."""

    def __init__(self, order: DatabaseOrder, check: Callable[[], None]) -> None:
        """`check` is called while a copy is made, and ends that by raising."""
        self._order, self._check = order, check
        self._copier: _Copier | None = None
        self._fd = os.open(order.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        self._end_copier()
        os.close(self._fd)

    def copied(self, entry: Entry, directory_fd: int) -> tuple[Entry | None, str]:
        """Return the entry with a copy of the database in place of its file, which the caller closes.

        Without a copy there is None, and a reason when the database is in use. The file is then to be saved
        as it is found, with the files beside it.
        """
        name = os.path.basename(entry.name)
        is_wal, beside_bytes, newest_ns = _state(entry, directory_fd)
        if is_wal and not beside_bytes:
            return None, ""  # nobody writes to it: SQLite would make its side files
        size_bytes, room_bytes = entry.stat.st_size + beside_bytes, self._room_bytes()
        if size_bytes > room_bytes:
            return None, _NO_ROOM
        order = {
            "name": name,
            "wal": is_wal,
            "device": entry.stat.st_dev,
            "inode": entry.stat.st_ino,
            "limit_bytes": min(room_bytes, 2 * size_bytes + _GROWTH_BYTES),
            "lock_time_s": self._order.lock_time_s,
        }
        problem = self._copy(order, entry, directory_fd)
        fd = -1 if problem else self._taken(entry.stat)
        if fd < 0:
            return None, (problem or CHANGED) if beside_bytes else ""
        return replace(entry, fd=fd, stat=_status(entry.stat, fd, newest_ns)), ""

    def _room_bytes(self) -> int:
        disk = os.fstatvfs(self._fd)
        return disk.f_bavail * disk.f_frsize - reserved_bytes(disk, self._order.reserve_bytes)

    def _copy(self, order: dict[str, object], entry: Entry, directory_fd: int) -> str:
        """Have the copy made; return the reason why there is none."""
        owner = entry.stat.st_uid, entry.stat.st_gid
        try:
            if self._copier is None or self._copier.owner != owner:
                self._end_copier()
                self._copier = _Copier(self._fd, owner)
            return self._copier.copy(order, directory_fd, self._check)
        except OSError:  # it cannot be started, or its memory, time or size came to an end
            self._end_copier()
            return IN_USE

    def _taken(self, database: os.stat_result) -> int:
        """Open the copy and remove its name; return -1 when it is no file of the database's owner."""
        try:
            fd = os.open(COPY, FILE_FLAGS, dir_fd=self._fd)
            os.unlink(COPY, dir_fd=self._fd)
        except OSError:
            self._end_copier()
            return -1
        copy = os.fstat(fd)
        if stat.S_ISREG(copy.st_mode) and copy.st_uid in (database.st_uid, os.geteuid()):
            return fd
        os.close(fd)
        return -1

    def _end_copier(self) -> None:
        if self._copier:
            self._copier.end()
            self._copier = None
        for name in os.listdir(self._fd):
            with suppress(OSError):
                os.unlink(name, dir_fd=self._fd)


class CountedCopies:
    """Stands for `DatabaseCopies` where files are only counted: a copy is as large as its database."""

    def copied(self, entry: Entry, directory_fd: int) -> tuple[Entry | None, str]:
        is_wal, beside_bytes, _ = _state(entry, directory_fd)
        if is_wal and not beside_bytes:
            return None, ""
        return replace(entry, fd=os.dup(entry.fd)), ""


Copies = DatabaseCopies | CountedCopies


class _Copier:
    """The process that copies the databases of one owner."""

    def __init__(self, copy_fd: int, owner: tuple[int, int]) -> None:
        self.owner, self._copy_fd = owner, copy_fd
        if os.geteuid() == 0:
            os.fchown(copy_fd, *owner)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            fd = str(theirs.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-I", database_copier.__file__, fd, *map(str, owner)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], cwd="/", env={},
            )  # fmt: skip

    def copy(self, order: dict[str, object], directory_fd: int, check: Callable[[], None]) -> str:
        """Return "", or the reason why there is no copy. Raises OSError when the process has ended."""
        message = json.dumps(order).encode()
        socket.send_fds(self._socket, [message], [directory_fd, self._copy_fd])
        while not select.select([self._socket], [], [], _LOOK_S)[0]:
            check()
        answer = self._socket.recv(MAX_MESSAGE_BYTES)
        if not answer:
            raise ConnectionResetError
        return str(json.loads(answer).get("problem", ""))

    def end(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()


@contextmanager
def database_copies(
    order: DatabaseOrder | None, check: Callable[[], None]
) -> Generator[DatabaseCopies | None, None, None]:
    """Make the directory for copies, and remove it at the end; without an order there are no copies."""
    if order is None:
        yield None
        return
    with disk_errors(f"cannot make the directory '{order.directory}'"):
        order.directory.mkdir(mode=0o700)
    copies = DatabaseCopies(order, check)
    try:
        yield copies
    finally:
        copies.close()
        remove_tree(order.directory)


def _state(entry: Entry, directory_fd: int) -> tuple[bool, int, int]:
    """Return True for a database with a write-ahead log, and after it what `_beside` returns."""
    header = os.pread(entry.fd, HEADER_BYTES, 0)
    return header[_READ_VERSION_AT] == _WAL, *_beside(os.path.basename(entry.name), directory_fd)


def _beside(name: str, directory_fd: int) -> tuple[int, int]:
    """Return the bytes in the database's log or journal, and when they last changed."""
    size_bytes, newest_ns = 0, 0
    for side in ("-wal", "-journal"):
        with suppress(OSError):
            status = os.stat(f"{name}{side}", dir_fd=directory_fd, follow_symlinks=False)
            size_bytes += status.st_size
            newest_ns = max(newest_ns, status.st_mtime_ns)
    return size_bytes, newest_ns


def _status(database: os.stat_result, fd: int, newest_ns: int) -> os.stat_result:
    """Return the status of the database with the size of its copy, and the time of the newest change."""
    mtime_ns = max(database.st_mtime_ns, newest_ns)
    os.utime(fd, ns=(mtime_ns, mtime_ns))
    facts = list(database)[:10]
    facts[stat.ST_SIZE], facts[stat.ST_MTIME] = os.fstat(fd).st_size, mtime_ns // 1_000_000_000
    return os.stat_result(facts, {"st_mtime_ns": mtime_ns, "st_ctime_ns": database.st_ctime_ns})
