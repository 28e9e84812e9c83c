"""Hooks: commands of the device's owner around a job, which dump a database or stop a service.

A hook is a process group of its own, without a terminal, without a shell, without the agent's secrets. When
the hook has ended, the rest of its group is killed. Only a process with a session of its own survives: a hook
starts a lasting service through the service manager, or with setsid(1).
"""

import errno
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import structlog

from agent.base.durations import format_duration
from agent.base.errors import HookFailed
from agent.hook_output import Condition, HookLines, HookOutput
from agent.transfer.cancel import CancelToken

log = structlog.get_logger(__name__)

GRACE_S = 0.5
"""From SIGTERM to SIGKILL; with `KILL_S` below the second in which a cancelled job has to end."""
KILL_S = 0.3
"""The time in which the killed processes must end."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_INHERITED = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": "/", "TMPDIR": ""}
_SHELL_WORD = re.compile(r"[&<>]+|[12]?>{1,2}\S*|\S*[;|]\S*")
_QUOTED = re.compile(r"\\.|'[^']*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
"""A part of a command in which a shell finds no operators, either."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A command and how long it may take."""

    name: str
    """The setting that it comes from, for messages: `backupCmd`."""
    command: str = field(repr=False)
    """The path of an executable, spaces and all, or a command line in a shell's quoting.

    A program without a slash is looked for in PATH; a relative path counts from the agent's directory.
    """
    timeout_s: float


def run_hook(hook: Hook, directory: Path, environment: Mapping[str, str], token: CancelToken) -> None:
    """Run `hook` in `directory` and return when it has succeeded.

    It gets PATH, LANG, HOME and TMPDIR of the agent, and `environment`. Its output is logged line by line.
    Raises `HookFailed` when it cannot be started, ends with another status than 0, is killed, or takes
    longer than its limit, and `Cancelled` within a second after `token` was cancelled.
    """
    token.check()
    words = _words(hook)
    # Messages leave the device without the arguments, which may hold a password.
    program = words[1] if words[0] == "/bin/sh" and len(words) > 1 else words[0]
    title = f"{hook.name} '{os.path.basename(program)}'"
    process = _start(title, words, directory, environment)
    log.info("hook started", hook=hook.name, program=words[0], pid=process.pid)
    started_s = time.monotonic()
    assert process.stdout
    with process.stdout as pipe:
        output = HookOutput(pipe.fileno(), HookLines(hook.name))
        too_late = _after(hook.timeout_s)
        try:
            in_time = output.read_until(
                lambda: _has_ended(process), lambda: token.event.is_set() or too_late()
            )
        finally:
            status = _end(process, output)
    log.info("hook ended", hook=hook.name, status=status, seconds=round(time.monotonic() - started_s, 3))
    token.check()
    if not in_time:
        limit = format_duration(timedelta(seconds=hook.timeout_s))
        raise HookFailed(f"{title} ran longer than {limit}{output.lines.tail()}")
    if status:
        how = f"ended with exit status {status}" if status > 0 else f"was killed by signal {-status}"
        raise HookFailed(f"{title} {how}{output.lines.tail()}")


def check_program(hook: Hook) -> None:
    """Raise `HookFailed` when the program of the hook cannot be started."""
    words = _words(hook)
    if shutil.which(words[0]) is None:
        reason = "not executable" if os.path.isfile(words[0]) else "not found"
        raise HookFailed(f"{hook.name} '{os.path.basename(words[0])}' cannot be started: {reason}")


def shell_words(hook: Hook) -> list[str]:
    """Return the words of the command that only a shell would understand."""
    if "/" in hook.command and os.path.isfile(hook.command):
        return []
    return [word for word in _QUOTED.sub("q", hook.command).split() if _SHELL_WORD.fullmatch(word)]


def _words(hook: Hook) -> list[str]:
    if "/" in hook.command and os.path.isfile(hook.command):
        return _as_script([os.path.abspath(hook.command)])
    try:
        words = shlex.split(hook.command)
    except ValueError as error:
        raise HookFailed(f"{hook.name} cannot be started: a quote or a backslash is left open") from error
    if not words:
        raise HookFailed(f"{hook.name} cannot be started: the command is empty")
    if "/" in words[0]:
        words[0] = os.path.abspath(words[0])  # or it would count from the hook's directory
    return _as_script(words)


def _as_script(words: list[str]) -> list[str]:
    """Put `/bin/sh` before a `.sh` file that the kernel would not run, as Kanto does."""
    if not words[0].endswith(".sh") or not os.path.isfile(words[0]):
        return words
    with suppress(OSError), open(words[0], "rb") as file:
        if os.access(words[0], os.X_OK) and file.read(2) == b"#!":
            return words
    return ["/bin/sh", *words]


def _start(
    title: str, words: list[str], directory: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    given = {name: os.environ.get(name) or default for name, default in _INHERITED.items()}
    inherited = {name: value for name, value in given.items() if value}
    try:
        return subprocess.Popen(
            words, bufsize=0, cwd=directory, env=inherited | dict(environment), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except OSError as error:
        raise HookFailed(f"{title} cannot be started: {_reason(error, words[0], directory)}") from error
    except ValueError as error:  # NUL, or half of a surrogate pair
        reason = "its arguments or its environment hold a character that no program can be given"
        raise HookFailed(f"{title} cannot be started: {reason}") from error


def _reason(error: OSError, program: str, directory: Path) -> str:
    if not os.access(directory, os.X_OK):
        return "its working directory is missing or must not be entered"
    if error.errno == errno.ENOENT:
        return "its interpreter was not found" if os.path.exists(program) else "not found"
    if error.errno == errno.EACCES:
        return "not executable"
    if error.errno == errno.ENOEXEC:
        return "neither a program of this machine nor a script that begins with #!"
    return os.strerror(error.errno) if error.errno else "no reason given"


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Return True when it has ended. It is not reaped: a zombie keeps the number of the group."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    # Refused when all processes left belong to another user, as those of sudo.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _end(process: subprocess.Popen[bytes], output: HookOutput) -> int | None:
    """End the whole group and return the hook's own status; None when it cannot be killed.

    The pipe is still read: a process that waits for room in it cannot end. It ends with the last process of
    the group that holds it.
    """
    if not _has_ended(process):
        _signal_group(process, signal.SIGTERM)
        output.read_until(lambda: _has_ended(process), _after(GRACE_S))
    _signal_group(process, signal.SIGKILL)
    output.read_until(lambda: output.at_end and _has_ended(process), _after(KILL_S))
    output.lines.close()
    if _has_ended(process):
        return process.wait()
    log.error("hook not killed, abandoned", pid=process.pid)
    threading.Thread(target=process.wait, name=f"reap-{process.pid}", daemon=True).start()
    return None


def _after(delay_s: float) -> Condition:
    """Return a condition that is true once `delay_s` have passed."""
    due_s = time.monotonic() + delay_s
    return lambda: time.monotonic() >= due_s
