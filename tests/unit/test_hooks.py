"""Hooks, with real processes: what they see, how they end, and that nothing of them is left."""

import errno
import os
import shlex
import signal
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from agent.base.errors import Cancelled, HookFailed
from agent.hook_output import LINE_BYTES, LOGGED_LINES, TAIL_CHARACTERS, TAIL_LINES, HookLines
from agent.hooks import Hook, run_hook
from agent.transfer.cancel import CancelToken
from tests.support.waiting import wait_until

Entries = Sequence[Mapping[str, Any]]
LONG_S = 60.0
STUBBORN = "trap '' TERM\necho $$ > pid.new\nmv pid.new pid\nsleep 60\nsleep 60\n"
"""Ignores SIGTERM, and so do its children; writes `pid` when it does."""


@pytest.fixture
def logged() -> Iterator[Entries]:
    with structlog.testing.capture_logs() as entries:
        yield entries


def run(command: str | Path, directory: Path, timeout_s: float = LONG_S, **environment: str) -> None:
    run_hook(Hook("backupCmd", str(command), timeout_s), directory, environment, CancelToken())


def failure(command: str | Path, directory: Path, timeout_s: float = LONG_S, **environment: str) -> str:
    with pytest.raises(HookFailed) as caught:
        run(command, directory, timeout_s, **environment)
    assert caught.value.code == "hook-failed"
    return str(caught.value)


def said(entries: Entries) -> list[str]:
    return [entry["line"] for entry in entries if entry["event"] == "hook output"]


def script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return path


def sh(text: str) -> str:
    """A command line that runs `text`."""
    return f"sh -c {shlex.quote(text)}"


def is_alive(pid_file: Path) -> bool:
    """Return True when the process runs; one that waits to be reaped by init does not."""
    try:
        state = Path(f"/proc/{int(pid_file.read_text())}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


# What a hook is and what it sees


def test_a_hook_runs_in_its_directory(tmp_path: Path, logged: Entries) -> None:
    run("pwd", tmp_path)
    assert said(logged) == [str(tmp_path)]


@pytest.mark.parametrize(("first", "mode"), [("", 0o755), ("#!/bin/sh\n", 0o644), ("", 0o644)])
@pytest.mark.parametrize("argument", ["", " two"])
def test_a_script_without_bit_or_interpreter_is_run_by_sh(
    tmp_path: Path, logged: Entries, first: str, mode: int, argument: str
) -> None:
    """As Kanto's agent runs each file that ends in `.sh`."""
    path = tmp_path / "collect.sh"
    path.write_text(f"{first}echo ran $1\n")
    path.chmod(mode)
    run(f"{path}{argument}", tmp_path)
    assert said(logged) == [f"ran{argument}"]
    path.write_text(f"{first}exit 3\n")
    assert failure(f"{path}{argument}", tmp_path).startswith(
        "backupCmd 'collect.sh' ended with exit status 3"
    )


def test_a_path_with_spaces_and_quotes_is_run_as_it_is(tmp_path: Path, logged: Entries) -> None:
    run(script(tmp_path / "dump o'clock", "echo ran $# arguments"), tmp_path)
    assert said(logged) == ["ran 0 arguments"]


def test_a_command_line_is_split_as_a_shell_would_and_nothing_else(tmp_path: Path, logged: Entries) -> None:
    run(r"""printf '%s\n' 'two words' "a ""b" c\ d '$HOME' * ; '>' x""", tmp_path)
    assert said(logged) == ["two words", "a b", "c d", "$HOME", "*", ";", ">", "x"]


def test_a_relative_path_counts_from_the_agents_directory(
    tmp_path: Path, logged: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "dump", "echo ran $1")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path)
    run("./dump", tmp_path / "work")
    run("./dump again", tmp_path / "work")
    assert said(logged) == ["ran", "ran again"]


def test_a_name_without_a_slash_is_looked_for_in_path_only(
    tmp_path: Path, logged: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a file that somebody leaves in the agent's directory would be run in place of the program."""
    script(tmp_path / "pwd", "echo a trap")
    monkeypatch.chdir(tmp_path)
    run("pwd", tmp_path)
    assert said(logged) == [str(tmp_path)]


def test_a_hook_sees_nothing_of_the_agents_environment_but_four_variables(
    tmp_path: Path, logged: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "EDGE_BACKUP_PASSWORD", "CREDENTIALS_DIRECTORY", "LD_PRELOAD_X"):
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("HOME", "/home/of/agent")
    monkeypatch.setenv("TMPDIR", "/own/tmp")
    monkeypatch.delenv("LANG", raising=False)
    run("/usr/bin/env", tmp_path, EDGE_BACKUP_OPERATION="backup", EDGE_BACKUP_CORRELATION_ID="a b\nc")
    assert sorted(said(logged)) == [
        *("EDGE_BACKUP_CORRELATION_ID=a b", "EDGE_BACKUP_OPERATION=backup"),
        *("HOME=/home/of/agent", "LANG=C.UTF-8", f"PATH={os.environ['PATH']}", "TMPDIR=/own/tmp", "c"),
    ]


def test_standard_input_is_empty_and_descriptors_are_closed(tmp_path: Path, logged: Entries) -> None:
    """A hook that asks a question must not wait for ever, and must not hold the journal open."""
    with (tmp_path / "journal").open("wb") as journal:
        os.set_inheritable(journal.fileno(), True)
        run(sh("cat; ls -l /proc/self/fd"), tmp_path)
    assert any(line.endswith("0 -> /dev/null") for line in said(logged))
    assert not any("journal" in line for line in said(logged))


# How it ends


def test_both_outputs_are_logged_line_by_line(tmp_path: Path, logged: Entries) -> None:
    run(sh("echo one; echo two >&2; echo; printf '3 %%\\r4 %%\\r'; printf end"), tmp_path)
    assert said(logged) == ["one", "two", "3 %", "4 %", "end"]
    assert [(entry["hook"], entry["log_level"]) for entry in logged] == [("backupCmd", "info")] * len(logged)


def test_an_exit_status_fails_the_job_with_the_last_lines(tmp_path: Path) -> None:
    dump = script(tmp_path / "make-dump", "seq 8", "echo no such table >&2", "exit 3")
    assert failure(dump, tmp_path) == (
        "backupCmd 'make-dump' ended with exit status 3: 5 | 6 | 7 | 8 | no such table"
    )


def test_a_signal_fails_the_job(tmp_path: Path) -> None:
    assert failure(sh("kill -9 $$"), tmp_path) == "backupCmd 'sh' was killed by signal 9"


def test_arguments_and_secrets_do_not_leave_the_device(tmp_path: Path) -> None:
    """The message goes to the twin. Command lines hold passwords, and so do the programs' complaints."""
    text = failure(sh("echo 'cannot log in with password=hunter2 to http://me:hunter3@db'; exit 1"), tmp_path)
    assert text == "backupCmd 'sh' ended with exit status 1: cannot log in with password=*** to http://***@db"
    assert "hunter" not in repr(Hook("backupCmd", "dump --password=hunter2", 1))


def test_the_message_is_bounded_and_printable(tmp_path: Path) -> None:
    binary = tmp_path / "binary.py"
    binary.write_text("import sys; sys.stdout.buffer.write(bytes(range(256)) * 1000); sys.exit(1)")
    text = failure(f"{sys.executable} {binary}", tmp_path)
    head = f"backupCmd '{Path(sys.executable).name}' ended with exit status 1: "
    assert text.startswith(head)
    assert text.isprintable()
    assert len(text) == len(head) + TAIL_CHARACTERS


def _not_executable(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    return path


def _without_interpreter(path: Path) -> Path:
    path.write_text("#!/no/such/shell\n")
    path.chmod(0o755)
    return path


def _no_program(path: Path) -> Path:
    path.write_text("echo hello\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path, "backupCmd 'it' cannot be started: not found"),
        (_not_executable, "backupCmd 'it' cannot be started: not executable"),
        (_without_interpreter, "backupCmd 'it' cannot be started: its interpreter was not found"),
        (_no_program, "backupCmd 'it' cannot be started: neither a program of this machine nor a script"),
        (lambda path: path.mkdir() or path, "backupCmd 'it' cannot be started: not executable"),
        (lambda path: "no-such-program -v", "backupCmd 'no-such-program' cannot be started: not found"),
        (lambda path: "echo 'open", "backupCmd cannot be started: a quote or a backslash is left open"),
        (lambda path: "  ", "backupCmd cannot be started: the command is empty"),
        (lambda path: "echo \0", "backupCmd 'echo' cannot be started: its arguments or its environment hold"),
        (lambda path: "echo " + "x" * 140_000, "backupCmd 'echo' cannot be started: Argument list too long"),
    ],
)  # fmt: skip
def test_what_cannot_be_started_says_why(tmp_path: Path, make: Any, reason: str) -> None:
    assert failure(make(tmp_path / "it"), tmp_path).startswith(reason)


def test_a_correlation_id_that_no_environment_can_hold_fails_the_hook(tmp_path: Path) -> None:
    for correlation_id in ("a\0b", "\ud800"):
        text = failure("true", tmp_path, EDGE_BACKUP_CORRELATION_ID=correlation_id)
        assert "hold a character that no program can be given" in text


def test_a_missing_directory_is_not_called_a_missing_program(tmp_path: Path) -> None:
    assert failure("true", tmp_path / "gone").endswith(
        "its working directory is missing or must not be entered"
    )


# Floods


def test_a_hundred_megabytes_in_one_line_take_no_memory(tmp_path: Path, logged: Entries) -> None:
    tracemalloc.start()
    try:
        run(sh("head -c 100000000 /dev/zero | tr '\\0' x"), tmp_path)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert said(logged) == ["x" * LINE_BYTES + "…"]
    assert peak_bytes < 1_000_000


def test_a_flood_of_lines_is_logged_up_to_a_number_and_counted(tmp_path: Path, logged: Entries) -> None:
    """It passes through, so that the hook ends; but the log keeps room for other things."""
    text = failure(sh("yes a line of some length | head -n 4000000; echo the end; exit 1"), tmp_path)
    assert len(said(logged)) == LOGGED_LINES
    assert [entry["unlogged"] for entry in logged if "unlogged" in entry] == [4_000_001 - LOGGED_LINES]
    assert text.endswith("a line of some length | the end")


@given(st.binary(max_size=3000), st.integers(1, 500))
def test_lines_do_not_depend_on_how_they_arrive(data: bytes, chunk_bytes: int) -> None:
    expected = [line for line in data.replace(b"\r", b"\n").split(b"\n") if line.strip()]
    with structlog.testing.capture_logs() as entries:
        lines = HookLines("backupCmd")
        for start in range(0, len(data), chunk_bytes):
            lines.feed(data[start : start + chunk_bytes])
        lines.close()
    assert len(said(entries)) == len(expected)
    for line, raw in zip(said(entries), expected, strict=True):
        assert line.isprintable()
        assert len(line) <= LINE_BYTES + 1
        assert line.endswith("…") or len(raw) <= LINE_BYTES
    assert lines.tail().count(" | ") < TAIL_LINES or b"|" in data
    assert len(lines.tail()) <= TAIL_CHARACTERS + len(": ")


# Limits, cancelling, and what is left behind


def test_a_hook_that_takes_too_long_is_ended_with_all_its_children(tmp_path: Path) -> None:
    text = failure(sh("sleep 60 & echo $! > pid; wait"), tmp_path, timeout_s=0.5)
    assert text == "backupCmd 'sh' ran longer than 500ms"
    wait_until(lambda: not is_alive(tmp_path / "pid"), what="the end of the hook's child")


def cancel_when(file: Path, command: Path) -> float:
    """Run `command` in the directory of `file`, and cancel when that is there: seconds until it ended."""
    token, hook, times_s = CancelToken(), Hook("restoreCmd", str(command), LONG_S), []

    def job() -> None:
        with pytest.raises(Cancelled, match="by the operator"):
            run_hook(hook, file.parent, {}, token)
        times_s.append(time.monotonic())

    worker = threading.Thread(target=job)
    worker.start()
    wait_until(file.exists, what=f"'{file.name}' of the hook")
    cancelled_s = time.monotonic()
    token.cancel("by the operator")
    worker.join()
    return times_s[0] - cancelled_s


def test_a_hook_that_is_cancelled_ends_within_a_second_whatever_it_does(tmp_path: Path) -> None:
    """Here a grandchild ignores SIGTERM and holds the pipe, and so does the hook itself."""
    script(tmp_path / "child.sh", STUBBORN)
    parent = script(tmp_path / "parent.sh", "trap '' TERM", "./child.sh &", "wait", "sleep 60")
    assert cancel_when(tmp_path / "pid", parent) < 1.0
    wait_until(lambda: not is_alive(tmp_path / "pid"), what="the end of the grandchild")


def test_a_hook_has_a_moment_to_clean_up(tmp_path: Path) -> None:
    tidy = script(tmp_path / "tidy", "trap 'rm lock; exit 7' TERM", "touch lock", "sleep 60 & wait")
    cancel_when(tmp_path / "lock", tidy)
    assert not (tmp_path / "lock").exists()


def test_a_cancelled_job_starts_no_hook(tmp_path: Path) -> None:
    token = CancelToken()
    token.cancel("too late")
    with pytest.raises(Cancelled, match="too late"):
        run_hook(Hook("backupCmd", "touch started", LONG_S), tmp_path, {}, token)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("output", ["", " > /dev/null 2>&1"])
def test_a_child_that_a_good_hook_leaves_behind_is_killed(
    tmp_path: Path, logged: Entries, output: str
) -> None:
    """Even one that ignores SIGTERM; and the hook's end does not wait for the pipe that it holds."""
    script(tmp_path / "child.sh", STUBBORN)
    wait_for_pid = "while ! [ -e pid ]; do sleep 0.01; done"
    run(script(tmp_path / "leaving", f"./child.sh{output} &", wait_for_pid, "echo done"), tmp_path)
    assert said(logged) == ["done"]
    wait_until(lambda: not is_alive(tmp_path / "pid"), what="the end of the child")


def test_a_service_in_a_session_of_its_own_stays(tmp_path: Path, logged: Entries) -> None:
    """A program that `afterRestoreCmd` starts may live on, even when it keeps the hook's output."""
    daemon = "import os, time\nif os.fork():\n os._exit(0)\nos.setsid()\n"
    daemon += "open('new', 'w').write(str(os.getpid()))\nos.rename('new', 'pid')\ntime.sleep(60)\n"
    command = f"{sys.executable} -c {shlex.quote(daemon)}; while ! [ -e pid ]; do sleep 0.01; done"
    run(sh(command), tmp_path)
    assert is_alive(tmp_path / "pid")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_hook_that_closes_its_output_is_still_waited_for(tmp_path: Path) -> None:
    run(sh("exec > /dev/null 2>&1; sleep 0.2; touch finished"), tmp_path)
    assert (tmp_path / "finished").exists()


def test_a_hook_that_cannot_be_killed_does_not_hold_the_agent(
    tmp_path: Path, logged: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of another user, behind sudo, or one that hangs in the kernel."""

    def refuse(_group: int, _signal: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patched:
        patched.setattr(os, "killpg", refuse)
        assert failure("sleep 60", tmp_path, timeout_s=0.1) == "backupCmd 'sleep' ran longer than 100ms"
    (pid,) = (entry["pid"] for entry in logged if entry["event"].startswith("hook not killed"))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="the hook to be reaped in the end")


def test_no_descriptor_thread_or_zombie_is_left(tmp_path: Path, logged: Entries) -> None:
    run("true", tmp_path)
    descriptors = os.listdir("/proc/self/fd")
    for _ in range(20):
        run("true", tmp_path)
        failure("false", tmp_path)
        failure("no-such-program", tmp_path)
    assert os.listdir("/proc/self/fd") == descriptors
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("reap-")]
    pids = [entry["pid"] for entry in logged if entry["event"] == "hook started"]
    assert len(pids) == 41
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
