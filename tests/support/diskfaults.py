"""Strikes at one chosen system call that changes the disk: a failure, or the end of the process."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_CHANGING = (
    *("chmod", "chown", "fsync", "ftruncate", "link", "mkdir", "removexattr", "rename", "rmdir"),
    *("setxattr", "symlink", "unlink", "utime", "write"),
)
_MAKES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
NEVER = 0


@dataclass
class Count:
    calls: int = 0


@contextmanager
def striking(at: int, strike: Callable[[], None]) -> Iterator[Count]:
    """While inside, the `at`-th call (from 1) in the os module that changes the disk is preceded by `strike`.

    Counts the calls. The functions are wrapped in the module itself, for this process.
    """
    count = Count()

    def wrapped(real: Callable[..., Any], counts: Callable[..., bool]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if counts(*args, **options):
                count.calls += 1
                if count.calls == at:
                    strike()
            return real(*args, **options)

        return call

    real = {name: getattr(os, name) for name in (*_CHANGING, "open")}
    for name in _CHANGING:
        setattr(os, name, wrapped(real[name], lambda *_args, **_options: True))
    os.open = wrapped(real["open"], lambda _path, flags, *_args, **_options: bool(flags & _MAKES))
    try:
        yield count
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def die() -> None:
    """End this process as a power cut would: nothing is flushed, no handler runs."""
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(work: Callable[[], object], uid: int = 0) -> int:
    """Run `work` in a forked child, as user `uid`; the signal that ended it, 0 when it returned.

    Raises AssertionError when it raised.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if uid:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            work()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    _, wait_status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(wait_status):
        return os.WTERMSIG(wait_status)
    assert os.WEXITSTATUS(wait_status) == 0, "the child raised, see above"
    return 0
