"""The commands in docs/documents.md do what the text says: each is executed as it stands."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_client import ApiClient
from tests.support.local_agent import LocalAgent
from tests.support.require import require
from tests.support.waiting import wait_until

from .conftest import Started

TEXT = (Path(__file__).parents[2] / "docs" / "documents.md").read_text("utf-8")
COMMANDS = [
    command
    for block in re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for command in re.findall(r"^curl(?:.*\\\n)*.*$", block, re.MULTILINE)
]
SOCKET = "/var/lib/edge-backup/storage/http.sock"


@pytest.fixture
def agent(started: Started, tmp_path: Path) -> LocalAgent:
    require(shutil.which("curl") is not None, "curl (Debian package curl)")
    for name in ("archives", "stick"):
        (tmp_path / name).mkdir()
    targets = {name: {"path": str(tmp_path / name)} for name in ("archives", "stick")}
    return started(targets={"device": targets["archives"], "UsbKey": targets["stick"]})


def execute(agent: LocalAgent, command: str) -> dict[str, Any]:
    assert SOCKET in command
    words = shlex.split(command.replace(SOCKET, str(agent.storage / "http.sock")))
    done = subprocess.run([*words, "-sS", "--fail-with-body"], capture_output=True, check=True, timeout=30)
    api = ApiClient(agent.storage / "http.sock")
    wait_until(lambda: api.get("/status").value["job"] is None, what="the end of the job")
    return dict(json.loads(done.stdout))


def test_the_commands_of_the_documentation_work(agent: LocalAgent, tmp_path: Path) -> None:
    create, follow, onto_the_stick = COMMANDS
    job = execute(agent, create)
    assert job["status"] == "SUBMITTED"
    assert execute(agent, follow.replace("<jobid>", job["jobid"]))["status"] == "SUCCEEDED"
    assert execute(agent, onto_the_stick)["JobId"]
    assert [path.name.partition("-")[0] for path in (tmp_path / "stick").iterdir()] == ["GYM24"]
