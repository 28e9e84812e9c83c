"""An agent that is the first process of its container leaves zombies, unless an init collects them."""

import json
import subprocess
from pathlib import Path

from tests.support.agent_process import AgentProcess
from tests.support.require import possible

ROOT = Path(__file__).parents[2]
SAYS = "agent is process 1: start it under an init, such as tini or 'docker run --init'"


def test_the_image_starts_the_agent_under_an_init() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    (entry,) = (line.removeprefix("ENTRYPOINT ") for line in lines if line.startswith("ENTRYPOINT "))
    assert json.loads(entry)[:2] == ["tini", "--"]
    assert any("apt-get install" in line and "tini" in line for line in lines)


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
