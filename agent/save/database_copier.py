"""Copies SQLite databases that are in use; a process of its own, because a database may be hostile.

`agent.save.databases` starts it by its path with `python -I`: it imports nothing of the agent. Each message
on its socket comes with the descriptors of the database's directory and of the directory for the copy. It
ends when the socket is closed.

In WAL mode the copy is made inside one read transaction: writers go on meanwhile. With a rollback journal it
is made under a shared lock, which writers wait for, so that has a limit. Source: sqlite.org, "Write-Ahead
Logging", "File Locking And Concurrency In SQLite Version 3".
"""

import json
import os
import resource
import socket
import sqlite3
import stat
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any
from urllib.parse import quote

COPY = "copy"
"""The name of the copy in its directory."""
IN_USE, CHANGED = "database in use, saved as it was found", "changed while read"
"""Reasons in the report of a backup."""
MAX_MESSAGE_BYTES = 4096
_MEMORY_BYTES = 512 << 20
_OPEN_FILES = 64
_CPU_S, _CPU_BYTES_PER_S = 10, 10 << 20
"""Processor time of one copy: a fixed part, and the slowest copying that is still believed."""
_CHUNK_BYTES = 1 << 20
_SIDE_FILES = ("-wal", "-shm", "-journal")


class _NotCopied(Exception):
    """The database cannot be copied consistently; the text says why, in a few fixed words."""


def main(socket_fd: int, uid: int, gid: int) -> None:
    """Copy databases for the agent, as this user, until the agent hangs up."""
    _become(uid, gid)
    with socket.socket(fileno=socket_fd) as agent:
        while True:
            message, fds, _, _ = socket.recv_fds(agent, MAX_MESSAGE_BYTES, 2)
            if not message:
                return
            try:
                answer = _answer(json.loads(message), *fds)
            finally:
                for fd in fds:
                    os.close(fd)
            agent.send(json.dumps(answer).encode())


def _become(uid: int, gid: int) -> None:
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def _answer(order: Mapping[str, Any], directory_fd: int, copy_fd: int) -> Mapping[str, str]:
    try:
        _limit(order["limit_bytes"])
        os.fchdir(directory_fd)
        if order["wal"]:
            _copy_in_transaction(order, directory_fd, copy_fd)
        else:
            _copy_under_lock(order, directory_fd, copy_fd)
    except _NotCopied as error:
        return {"problem": str(error)}
    except (sqlite3.Error, OSError, MemoryError):
        return {"problem": IN_USE}
    return {}


def _limit(size_bytes: int) -> None:
    """Bound the copy's size, and the processor time that it takes."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + _CPU_S + size_bytes // _CPU_BYTES_PER_S
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))


def _copy_in_transaction(order: Mapping[str, Any], directory_fd: int, copy_fd: int) -> None:
    with closing(_opened(order)) as source:
        _begin(source, order, directory_fd)
        where = f"/proc/self/fd/{copy_fd}/{COPY}"
        with closing(sqlite3.connect(where, isolation_level=None)) as copy:
            copy.execute("PRAGMA journal_mode = OFF")
            copy.execute("PRAGMA synchronous = OFF")
            source.backup(copy)


def _copy_under_lock(order: Mapping[str, Any], directory_fd: int, copy_fd: int) -> None:
    deadline_s = time.monotonic() + order["lock_time_s"]
    # Closing a descriptor of the database drops all locks on it, also SQLite's: this one is closed last.
    fd = os.open(order["name"], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with closing(_opened(order)) as source:
            _begin(source, order, directory_fd)
            _copy_bytes(fd, copy_fd, deadline_s)
    finally:
        os.close(fd)


def _copy_bytes(fd: int, copy_fd: int, deadline_s: float) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    to = os.open(COPY, flags, 0o600, dir_fd=copy_fd)
    try:
        while os.sendfile(to, fd, None, _CHUNK_BYTES):
            if time.monotonic() > deadline_s:
                raise _NotCopied(IN_USE)
    finally:
        os.close(to)


def _opened(order: Mapping[str, Any]) -> sqlite3.Connection:
    uri = f"file:./{quote(os.fsencode(order['name']))}?mode=ro"
    source = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=order["lock_time_s"])
    source.execute("PRAGMA trusted_schema = OFF")
    source.execute("PRAGMA mmap_size = 0")
    return source


def _begin(source: sqlite3.Connection, order: Mapping[str, Any], directory_fd: int) -> None:
    """Begin a read transaction. Raises `_NotCopied` unless SQLite has opened the files in the directory."""
    source.execute("BEGIN")
    source.execute("SELECT count(*) FROM sqlite_master").fetchone()
    ours = {(order["device"], order["inode"])}
    for side in _SIDE_FILES:
        with suppress(FileNotFoundError):
            ours.add(_identity(os.stat(f"{order['name']}{side}", dir_fd=directory_fd, follow_symlinks=False)))
    for fd in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # the listing's own
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and _identity(status) not in ours:
                raise _NotCopied(CHANGED)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
