"""The HTTP API of the installed program, over TCP with a token as from a neighbour on the network."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent_process import PROGRAM, AgentProcess
from tests.support.backend import Backend

TOKEN = "the-token-of-this-device-0123456789"


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
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


@pytest.mark.timeout(300)
def test_whatever_the_description_allows_or_forbids_is_answered_as_it_says(url: str, tmp_path: Path) -> None:
    """By a tool that makes requests from it, right ones and wrong ones, and checks every answer.

    Left out are the streams, which do not end, and three of its rules: a value of the right form may still be
    refused (a directory that is not allowed), not every job can be confirmed, and `Allow` names what a path
    may mean beside the one that is described.
    """
    rules = "positive_data_acceptance,ensure_resource_availability,allow_header_conformance"
    ended = subprocess.run(
        [
            str(PROGRAM.with_name("schemathesis")), "run", f"{url}/api/v1/openapi.json",
            "--url", f"{url}/api/v1", "--header", f"Authorization: Bearer {TOKEN}",
            "--exclude-path-regex", "events", "--exclude-checks", rules, "--phases", "coverage,fuzzing",
            "--max-examples", "5", "--seed", "1", "--generation-database", "none",
            "--workers", "1", "--request-timeout", "70", "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]
