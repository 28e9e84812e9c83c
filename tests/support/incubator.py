"""Starts the installed agent many times a second: a process that has imported it forks one for each start.

What runs is the program's own `main` with its own arguments, in a process of its own; only the start of
the interpreter is left out, which takes longer than a whole backup.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from agent.cli import spare_memory
from tests.support.syscalls import Call, Supervisor, Verdict, watch_this_process

_EAGER = (
    *("agent.service", "agent.cli.settings", "agent.settings.load", "providers.local", "providers.https"),
    *("agent.formats.zip.writer", "isal.igzip_lib", "isal.isal_zlib", "zlib_ng.zlib_ng"),
)


FAILED = 70
"""Exit status of an agent that ended with an exception, which is on its standard error."""


class Incubator:
    """Talks to the process that forks. Used by one thread."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def start(self, config: Path, errors: Path, *, watched: bool) -> tuple[int, int | None]:
        """`edge-backup run --config …` in a new process: its pid and, when watched, the listener."""
        request = {"config": str(config), "errors": str(errors), "watched": watched}
        self._control.sendall(json.dumps(request).encode() + b"\n")
        answer, listeners, _, _ = socket.recv_fds(self._control, 64, 1)
        assert answer, "the incubator has ended"
        return int(answer), listeners[0] if listeners else None


@contextmanager
def incubator() -> Iterator[Incubator]:
    here, there = socket.socketpair()
    environment = {key: value for key, value in os.environ.items() if "PROXY" not in key.upper()}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.incubator", str(there.fileno())],
        pass_fds=[there.fileno()], cwd=Path(__file__).parents[2], env=environment,
    )  # fmt: skip
    there.close()
    try:
        with here:
            yield Incubator(here)
    finally:
        process.wait(30)


class Hatched:
    """An agent of the incubator: `edge-backup run` with these settings; started anew by `start`."""

    def __init__(self, incubator: Incubator, work: Path, port: int, **settings: Any) -> None:
        self._incubator, self.work = incubator, work
        self.root = work / "device"
        """All that the agent may change, but its log."""
        self.data, self.storage, self.log = self.root / "data", self.root / "storage", work / "agent.log"
        self.data.mkdir(parents=True)
        self.config = work / "config.json"
        self.config.write_text(
            json.dumps(
                {
                    "broker": f"tcp://127.0.0.1:{port}",
                    "deviceId": "edge:device",
                    "clientId": "edge-backup-under-test",
                    "dir": str(self.data),
                    "storage": str(self.storage),
                    "logFile": str(self.log),
                    "logLevel": "DEBUG",
                    "archive": {"threads": 2},
                    "dedupeWindow": "24h",
                    **settings,
                }
            )
        )
        self._pidfd: int | None = None
        self.pid = 0

    def start(
        self, kill_at: int = 0, decide: Callable[[Call, int], Verdict] | None = None, *, watched: bool = False
    ) -> Supervisor | None:
        watched = watched or bool(kill_at) or decide is not None
        self.pid, listener = self._incubator.start(self.config, self.work / "stderr.txt", watched=watched)
        self.adopt(self.pid)
        if listener is None:
            return None
        supervisor = Supervisor(self.pid, listener, self.root, kill_at)
        if decide:
            supervisor.decide = decide
        return supervisor

    def adopt(self, pid: int) -> None:
        """Take a process that was started in another way for this agent."""
        self.pid, self._pidfd = pid, os.pidfd_open(pid)

    @property
    def alive(self) -> bool:
        return self._pidfd is not None and not select.select([self._pidfd], [], [], 0)[0]

    def signal(self, number: int) -> None:
        """Send a signal, and wait for the end."""
        if self._pidfd is None:
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)
        assert select.select([self._pidfd], [], [], 30)[0], f"the agent does not end by signal {number}"
        os.close(self._pidfd)
        self._pidfd = None

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def failed(self) -> str:
        """Return the traceback with which it ended; "" when it did not end so."""
        errors = self.work / "stderr.txt"
        text = errors.read_text("utf-8", "replace") if errors.exists() else ""
        return text if "Traceback" in text else ""

    def logged(self) -> str:
        return self.log.read_text("utf-8") if self.log.exists() else ""


# From here on: in the process that forks.


def _serve(control: socket.socket) -> None:
    import importlib

    for name in _EAGER:
        with suppress(ImportError):  # some exist on some machines only
            importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the agents here
    with control.makefile("r") as requests:
        for line in requests:
            if os.fork() == 0:
                _become_the_agent(control, **json.loads(line))


def _become_the_agent(control: socket.socket, config: str, errors: str, watched: bool) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    output = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    pid = str(os.getpid()).encode()
    if watched:
        listener = watch_this_process()
        socket.send_fds(control, [pid], [listener])
        os.close(listener)
    else:
        control.sendall(pid)
    control.close()
    from agent.cli import main

    status = FAILED
    try:
        status = main(["run", "--config", config])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)  # whatever happens: this process must not go on as a second incubator


if __name__ == "__main__":
    spare_memory()
    _serve(socket.socket(fileno=int(sys.argv[1])))
