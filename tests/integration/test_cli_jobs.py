"""Jobs that somebody at the device asks for while no agent runs, or none any more."""

import signal
import subprocess
import threading

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
    assert (waiting.returncode, said) == (130, "the job continues: edge-backup show long\n")
    assert "collecting" in run(device, "status").stdout


def test_without_an_agent_it_says_how_to_start_one(device: AgentProcess) -> None:
    device.start().kill()
    answer = run(device, "backup")
    assert answer.returncode == 3
    assert "start it with" in answer.stderr
