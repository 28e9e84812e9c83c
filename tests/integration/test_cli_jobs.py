"""Jobs that somebody at the device asks for while no agent runs, or none any more."""

import os
import pty
import select
import signal
import subprocess
import threading

import pytest

from tests.support.agent_process import PROGRAM, AgentProcess
from tests.support.backend import Backend


def run(device: AgentProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAM), *arguments, "--config", str(device.work / "config.json")],
        capture_output=True, text=True, timeout=60, cwd=device.work, env=device.environment, check=False,
    )  # fmt: skip


def test_an_agent_that_is_killed_meanwhile_is_told(device: AgentProcess, backend: Backend) -> None:
    device.settings["backupCmd"] = "sleep 600"
    device.start()
    backend.announced()

    def kill() -> None:
        device.wait_for_log("backup started")
        device.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    ended = run(device, "backup", "--id", "cut")
    killer.join()
    assert ended.returncode == 3
    assert ended.stderr == (
        "the agent went away: when it is back, ask it what became of the job: edge-backup show cut\n"
    )


def test_an_agent_that_stops_before_a_restore_is_confirmed_is_told(
    agent: AgentProcess, backend: Backend
) -> None:
    """As for an upgrade of the package: the restore goes on after the start, and has not ended."""
    options = ["-o", "storage.provider=local"]
    assert run(agent, "backup", *options).returncode == 0

    def stop() -> None:
        agent.wait_for_log("restore waits for confirmation")
        agent.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    left = run(agent, "restore", "--confirm-within", "10m", "--id", "cut", *options)
    stopper.join()
    assert (left.returncode, left.stderr) == (
        3,
        "the agent went away: when it is back, ask it what became of the job: edge-backup show cut\n",
    )


def test_after_ctrl_c_the_job_continues(device: AgentProcess, backend: Backend) -> None:
    device.settings["backupCmd"] = "sleep 600"
    device.start()
    backend.announced()
    command = [str(PROGRAM), "backup", "--id", "long", "--config", str(device.work / "config.json")]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=device.work, env=device.environment
    ) as waiting:
        device.wait_for_log("backup started")
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=30)
    assert (waiting.returncode, said) == (
        130,
        "the job continues: edge-backup show long; stop it: edge-backup cancel --id long\n",
    )
    assert "collecting" in run(device, "status").stdout


@pytest.mark.parametrize(("answer", "ends"), [("y", True), ("\x03", False)])
def test_ctrl_c_on_a_terminal_asks_whether_the_job_is_to_stop(
    device: AgentProcess, backend: Backend, answer: str, ends: bool
) -> None:
    """Most people who press it want the job to stop; a restore goes back, so only they can tell."""
    device.settings["backupCmd"] = "sleep 600"
    device.start()
    backend.announced()
    keyboard, terminal = pty.openpty()
    with subprocess.Popen(
        ["setsid", "--ctty", "--wait", PROGRAM, "backup", "--id", "long", "--config", "config.json"],
        stdin=terminal, stdout=terminal, stderr=terminal, cwd=device.work, env=device.environment,
    ) as waiting:  # fmt: skip
        os.close(terminal)
        device.wait_for_log("backup started")
        assert "Stop the job?" in typed(keyboard, "\x03", until="[y/N] ")
        said = typed(keyboard, answer if answer == "\x03" else f"{answer}\n", until="")
        status = waiting.wait(30)
    os.close(keyboard)
    if ends:
        assert (status, "backup failed: cancelled by a command (cancelled)" in said) == (1, True)
        assert run(device, "status").stdout.startswith("idle; last: backup long failed")
    else:
        assert (status, "edge-backup cancel --id long" in said) == (130, True)
        assert run(device, "cancel", "--id", "long").returncode == 0


def typed(keyboard: int, keys: str, until: str) -> str:
    """Type on a terminal; return what it shows then, up to a text, or to its end for an empty one.

    Keys that bring nothing are typed again, as people do: Python sleeps over a Ctrl-C between two calls.
    """
    os.write(keyboard, keys.encode())
    shown = ""
    while not (until and shown.endswith(until)):
        try:
            while not select.select([keyboard], [], [], 15)[0]:
                os.write(keyboard, keys.encode())
            shown += os.read(keyboard, 1 << 10).decode()
        except OSError:  # the program has ended
            break
    return shown


def test_without_an_agent_it_says_how_to_start_one(device: AgentProcess) -> None:
    device.start().kill()
    answer = run(device, "backup")
    assert answer.returncode == 3
    assert "start it with" in answer.stderr
