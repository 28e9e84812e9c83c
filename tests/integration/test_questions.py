"""What the agent says of itself: over a real broker, and to the command line beside it."""

import json
import subprocess

import pytest

from tests.support.agent_process import PROGRAM, AgentProcess
from tests.support.backend import Backend

LOCAL = {"storage.provider": "local"}


def run(device: AgentProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAM), *arguments, "--config", str(device.work / "config.json")],
        capture_output=True, text=True, timeout=30, cwd=device.work, env=device.environment, check=False,
    )  # fmt: skip


def test_the_backend_reads_status_and_history(agent: AgentProcess, backend: Backend) -> None:
    backend.ask("backup", {"correlationId": "one", "options": LOCAL})
    backend.ended("one")
    status = backend.ask("status")
    assert (status["status"], status["value"]) == (200, {"job": None})
    (entry,) = backend.ask("history")["value"]["entries"]
    assert (entry["correlationId"], entry["kind"], entry["state"]) == ("one", "backup", "FINISHED")
    described = backend.ask("describe", {"correlationId": "one"}, request_id="r1")["value"]
    assert described["id"] == entry["id"]
    assert described["place"].startswith("local:device/backup-")
    assert len(described["sha256"]) == 64
    unknown = backend.ask("describe", {"correlationId": "nix"}, request_id="r2")
    assert (unknown["status"], unknown["value"]["error"]) == (404, "messages:parameter.invalid")


def test_the_same_question_is_answered_anew_each_time(agent: AgentProcess, backend: Backend) -> None:
    """WIRE section 1: subjects that only read always run, also with the same ids."""
    before = backend.ask("history", request_id="r", correlation_id="h")
    backend.ask("backup", {"correlationId": "one", "options": LOCAL})
    backend.ended("one")
    count = len(backend.messages)
    backend.send("history", request_id="r", correlation_id="h")
    _, after = backend.wait(lambda message: message in backend.messages[count:], "another answer")
    assert before["value"] == {"entries": []}
    assert len(after["value"]["entries"]) == 1


def test_the_command_line_shows_the_same(agent: AgentProcess, backend: Backend) -> None:
    backend.ask("backup", {"correlationId": "one", "options": LOCAL})
    backend.ended("one")
    assert run(agent, "status").stdout == "idle\n"
    assert "backup   FINISHED" in run(agent, "history").stdout
    shown = json.loads(run(agent, "show", "one", "--json").stdout)
    assert shown == backend.ask("describe", {"correlationId": "one"})["value"]
    unknown = run(agent, "show", "nix")
    assert (unknown.returncode, unknown.stderr) == (1, "no job 'nix' in the history\n")


def test_without_an_agent_the_command_line_says_so(device: AgentProcess) -> None:
    device.start().kill()
    answer = run(device, "status")
    assert answer.returncode == 3
    assert "no agent runs" in answer.stderr


@pytest.mark.parametrize("question", ["status", "history", "describe"])
def test_a_device_may_keep_it_to_itself(device: AgentProcess, backend: Backend, question: str) -> None:
    device.settings["allow"] = {"operations": ["backup", "restore"]}
    device.start()
    backend.announced()
    assert backend.ask(question, {"correlationId": "x"}, request_id="r")["status"] == 403
