"""The guard, a process that ends the agent when its mailbox stands still, whatever holds the interpreter.

The guard counts its own ticks, not seconds: a container that was paused, or an agent that was stopped by
SIGSTOP, has not been slow. A timer inside the agent could not tell the two apart when it fires.
"""

import faulthandler
import math
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

_TICK_S = 1.0
_FED, _STDERR = 3, 4
"""The guard's descriptors, besides the usual three."""
_MOST_DESCRIPTORS = 1 << 16
_DUMP_S = 0.5
"""The time for the agent to write the stacks of its threads before it is killed."""


class Guard:
    """The agent's end: `feed` it more often than every `limit_s`."""

    def __init__(self, limit_s: float) -> None:
        """Fork the guard. To be called while the process has one thread."""
        read, self._fed = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # In C, so that it works under code that never lets go of the interpreter, too.
        faulthandler.register(signal.SIGUSR2, _stderr(), all_threads=True)
        agent = os.getpid()
        if os.fork() == 0:
            with suppress(BaseException):
                _guard(agent, read, limit_s)
            os._exit(0)
        os.close(read)

    def feed(self) -> None:
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._fed, b".")


def _stderr() -> int:
    """Return a descriptor of stderr that never blocks: the agent may be stuck on the reader of stderr."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open("/proc/self/fd/2", flags)
    except OSError:  # a socket, as that of systemd's journal, or none at all
        return 2


def _guard(agent: int, fed: int, limit_s: float) -> None:
    """Guard the agent until it is gone, or is ended. Runs in the guard's process."""
    os.dup2(fed, _FED)
    os.dup2(_stderr(), _STDERR)
    os.closerange(_STDERR + 1, _MOST_DESCRIPTORS)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with the agent, and not before
    Path("/proc/self/comm").write_text("edge-backup-dog")
    with suppress(OSError):
        _forget_environment()
    tick_s = min(_TICK_S, limit_s / 4)
    left = allowed = math.ceil(limit_s / tick_s)
    while os.getppid() == agent:
        time.sleep(tick_s)
        if _was_fed():
            left = allowed
        elif not _is_stopped(agent):
            left -= 1
        if left <= 0:
            _end(agent)
            return


def _forget_environment() -> None:
    """Clear what the kernel shows as the environment of this process (proc(5)): it may hold the password."""
    fields = Path("/proc/self/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    begin, end = int(fields[47]), int(fields[48])  # env_start and env_end, the fields 50 and 51
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(begin)
        memory.write(bytes(end - begin))


def _was_fed() -> bool:
    try:
        return bool(os.read(_FED, 4096))
    except BlockingIOError:
        return False


def _is_stopped(pid: int) -> bool:
    """Return True when a signal or a debugger has stopped the process (proc(5), `/proc/pid/stat`)."""
    state = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0]
    return state in "Tt"


def _end(agent: int) -> None:
    with suppress(OSError):
        os.write(_STDERR, b"edge-backup: the agent is stuck and is ended, to be started again\n")
    os.kill(agent, signal.SIGUSR2)
    time.sleep(_DUMP_S)
    if os.getppid() == agent:
        os.kill(agent, signal.SIGKILL)
