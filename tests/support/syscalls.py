"""Strikes at one chosen system call of a process, whichever of its threads makes it.

The kernel stops a thread before each call that changes the disk and asks a supervisor in the test process
what to do (seccomp_unotify(2)). So the count is one for all threads and for what C libraries do too,
which `strace --inject` cannot: it counts for each thread and each call by itself.
"""

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_NUMBERS = {
    "x86_64": {
        "write": 1, "pwrite64": 18, "writev": 20, "fsync": 74, "fdatasync": 75, "truncate": 76,
        "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87,
        "symlink": 88, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "utime": 132,
        "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198,
        "fremovexattr": 199, "utimes": 235, "openat": 257, "mkdirat": 258,
        "fchownat": 260, "futimesat": 261, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266,
        "fchmodat": 268, "utimensat": 280, "fallocate": 285, "pwritev": 296, "syncfs": 306, "renameat2": 316,
        "copy_file_range": 326, "fchmodat2": 452, "open": 2, "sendfile": 40, "seccomp": 317,
    },
    "aarch64": {
        "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15,
        "fremovexattr": 16, "mkdirat": 34, "unlinkat": 35, "symlinkat": 36,
        "linkat": 37, "renameat": 38, "truncate": 45, "ftruncate": 46, "fallocate": 47, "fchmod": 52,
        "fchmodat": 53, "fchownat": 54, "fchown": 55, "openat": 56, "write": 64, "writev": 66, "pwrite64": 68,
        "pwritev": 70, "sendfile": 71, "fsync": 82, "fdatasync": 83, "utimensat": 88, "syncfs": 267,
        "renameat2": 276, "seccomp": 277, "copy_file_range": 285, "fchmodat2": 452,
    },
}  # fmt: skip
_HERE = _NUMBERS.get(platform.machine(), {})
_NAMES = {number: name for name, number in _HERE.items() if name != "seccomp"}
_FLAGS_ARGUMENT = {"openat": 2, "open": 1}
_OPENS_FOR_CHANGE = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_FIRST_ARGUMENT_IS_A_FILE = {
    *("write", "pwrite64", "writev", "pwritev", "ftruncate", "fsync", "fdatasync", "fallocate", "fchmod"),
    *("fchown", "fsetxattr", "fremovexattr", "syncfs"),
}  # fmt: skip
CHANGING = tuple(_NAMES.values())
"""The calls that are watched: all that change the disk, and opening for writing."""

# From linux/seccomp.h, linux/filter.h and linux/bpf_common.h.
_SET_MODE_FILTER, _NEW_LISTENER, _ALLOW, _USER_NOTIF = 1, 8, 0x7FFF0000, 0x7FC00000
_LOAD, _IF_EQUAL, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_RECEIVE, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1
_QUESTION, _ANSWER = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")

SUPPORTED = bool(_HERE)


def _program() -> bytes:
    """Ask about every watched call; openat and open only when they may change something."""
    code = [(_LOAD, 0, 0, 0)]
    for number, name in _NAMES.items():
        if name in _FLAGS_ARGUMENT:
            flags = (_LOAD, 0, 0, 16 + 8 * _FLAGS_ARGUMENT[name])  # offset in struct seccomp_data
            test = (_IF_ANY_BIT, 0, 1, _OPENS_FOR_CHANGE)
            code += [(_IF_EQUAL, 0, 4, number), flags, test, (_RETURN, 0, 0, _USER_NOTIF)]
            code += [(_RETURN, 0, 0, _ALLOW)]
        else:
            code += [(_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _USER_NOTIF)]
    return b"".join(struct.pack("=HBBI", *step) for step in [*code, (_RETURN, 0, 0, _ALLOW)])


def watch_this_process() -> int:
    """Put the calling process, its threads and its children under supervision: the supervisor's descriptor.

    From now on each watched call waits for an answer of whoever holds the descriptor. Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    program = _program()
    code = ctypes.create_string_buffer(program)
    head = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS: needed where it is not root
    listener: int = libc.syscall(_HERE["seccomp"], _SET_MODE_FILTER, _NEW_LISTENER, head)
    if listener < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return listener


@dataclass(frozen=True)
class Call:
    """A system call that is about to happen. `path` is that of its descriptor, "" where it has none."""

    name: str
    path: str


Verdict = int | None
"""An errno to fail with; None lets the call happen."""


def _never(_call: Call, _number: int) -> Verdict:
    return None


@dataclass
class Supervisor:
    """Counts the changing calls of one watched process and decides about each."""

    pid: int
    listener: int
    root: Path
    """Calls on descriptors outside are not counted: sockets, standard error, the log."""
    kill_at: int = 0
    """Kill the process right before its so-many-th call, counted from 1; 0 for never."""
    decide: Callable[[Call, int], Verdict] = _never
    """Told each counted call with its number."""
    calls: list[Call] = field(default_factory=list)
    struck: bool = False

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until the process and all its children have ended."""
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        while not any(event & select.POLLHUP for _, event in poll.poll()):
            question = bytearray(_QUESTION.size)
            try:
                fcntl.ioctl(self.listener, _RECEIVE, question)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR):
                    continue  # whoever asked is gone
                raise
            self._judge(*_QUESTION.unpack(question))
        os.close(self.listener)

    def _judge(self, cookie: int, tid: int, _f: int, number: int, _a: int, _ip: int, *arguments: int) -> None:
        call = _described(_NAMES[number], tid, arguments)
        verdict: Verdict = None
        if call is not None and (not call.path or call.path.startswith(f"{self.root}/")):
            self.calls.append(call)
            if len(self.calls) == self.kill_at:
                self.struck = True
                os.kill(self.pid, signal.SIGKILL)
                return
            verdict = self.decide(call, len(self.calls))
            self.struck = self.struck or verdict is not None
        answer = _ANSWER.pack(cookie, 0, -verdict if verdict else 0, 0 if verdict else _CONTINUE)
        with suppress(FileNotFoundError):  # the thread that asked was killed meanwhile
            fcntl.ioctl(self.listener, _SEND, answer)


def _described(name: str, tid: int, arguments: tuple[int, ...]) -> Call | None:
    if name not in _FIRST_ARGUMENT_IS_A_FILE:
        return Call(name, "")
    try:
        return Call(name, os.readlink(f"/proc/{tid}/fd/{arguments[0]}"))
    except OSError:
        return None
