"""An agent that is the first process of its container leaves zombies, unless an init collects them."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.agent_process import AgentProcess
from tests.support.require import possible
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
SAYS = "agent is process 1: start it under an init, such as tini or 'docker run --init'"


def the_line(start: str) -> str:
    """Return the rest of the only line with this beginning."""
    (line,) = [line for line in DOCKERFILE if line.startswith(start)]
    return line.removeprefix(start)


def test_the_image_starts_the_agent_under_an_init() -> None:
    assert json.loads(the_line("ENTRYPOINT "))[:2] == ["tini", "--"]
    assert "tini" in the_line("RUN apt-get update ")


def test_the_image_is_healthy_while_its_agent_answers_and_only_then(tmp_path: Path) -> None:
    """A process that runs and answers nobody makes no backups."""
    program, *asks = json.loads(the_line("    CMD "))
    assert program == "edge-backup"
    asks[asks.index("--config") + 1] = str(tmp_path / "config.json")

    def status() -> int:
        ask = [sys.executable, "-m", "agent", *asks]
        return subprocess.run(ask, check=False, capture_output=True).returncode

    with AgentProcess(tmp_path, 1):
        wait_until(lambda: status() == 0, what="health")
    assert status() == 3


def test_the_image_knows_time_zones_and_its_bases_by_digest() -> None:
    """A slim base may lose tzdata, and a tag means another image tomorrow."""
    assert "tzdata" in the_line("RUN apt-get update ")
    bases = [line for line in DOCKERFILE if line.startswith("FROM ")]
    assert all("@sha256:" in base for base in bases)


def test_an_agent_that_is_process_1_says_so(tmp_path: Path) -> None:
    """Otherwise children of hooks stay as zombies until no process can be made any more."""
    made = subprocess.run(["unshare", "--fork", "--pid", "true"], check=False, capture_output=True)
    possible(made.returncode == 0, "make a process namespace")
    agent = AgentProcess(tmp_path, 1)
    agent.start("unshare", "--fork", "--pid", "--kill-child")
    try:
        agent.wait_for_log(SAYS)
    finally:
        agent.kill()
