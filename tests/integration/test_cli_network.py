"""The command line of the installed program, over the network."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent_process import PROGRAM, AgentProcess
from tests.support.backend import Backend
from tests.support.http_network import TOKEN
from tests.support.settings_files import private_file


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    private_file(file, TOKEN)
    return file


@pytest.fixture
def url(device: AgentProcess, backend: Backend, token: Path) -> Iterator[str]:
    device.settings |= {"http.listen": "127.0.0.1:0", "http.tokenFile": str(token)}
    device.start()
    backend.announced()
    yield f"http://{device.wait_for_log('http listening')['address']}"
    assert device.count_log("internal error") == 0
    assert TOKEN not in device.log.read_text()


def edge_backup(url: str, token: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(PROGRAM), *arguments, "--url", url, "--token-file", str(token)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_command_line_asks_a_device_elsewhere(url: str, token: Path, tmp_path: Path) -> None:
    made = edge_backup(url, token, "backup", "-o", "storage.provider=local", "--id", "one")
    assert (made.returncode, made.stdout[:17]) == (0, "backup finished: "), made.stderr
    assert "backup one finished" in edge_backup(url, token, "status", "--follow").stdout
    output = edge_backup(url, token, "backup", "--output", str(tmp_path / "x.zip"))
    assert (output.returncode, "over the Unix socket only" in output.stderr) == (1, True)
    assert not (tmp_path / "x.zip").exists()
    pruned = edge_backup(url, token, "prune")
    assert (pruned.returncode, "over the Unix socket only" in pruned.stderr) == (1, True)
    wrong = tmp_path / "wrong"
    wrong.write_text("another-token-of-nobody-0123456789")
    refused = edge_backup(url, wrong, "status")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "the token is wrong\n"
