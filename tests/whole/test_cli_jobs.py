"""Jobs that somebody at the device asks for: the installed program beside a running agent."""

import json
import os
import stat
import subprocess
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from tests.support.local_agent import LocalAgent, LocalBackend, run

from .conftest import Started


def entry(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert finished.returncode == 0, finished.stderr
    return dict(json.loads(finished.stdout))


def test_a_backup_into_a_file_replaces_it_in_one_step(
    agent: LocalAgent, backend: LocalBackend, tmp_path: Path
) -> None:
    """Whoever has the old file open still reads the old one, and nothing else is left there."""
    output = tmp_path / "out" / "my backup.zip"
    output.parent.mkdir()
    output.write_bytes(b"old")
    with output.open("rb") as old:
        made = run(agent, "backup", "--output", os.path.relpath(output, agent.work))
        assert old.read() == b"old"
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.startswith("backup finished: 4 files, ")
    assert str(output) in made.stdout
    assert os.listdir(output.parent) == [output.name]
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert "logs/app.log" in zipfile.ZipFile(output).namelist()
    backend.wait(lambda _: backend.values()[-1]["state"] == "BACKUP_FINISHED", "the end of the backup")


def test_a_backup_with_all_that_can_be_said(agent: LocalAgent, backend: LocalBackend, tmp_path: Path) -> None:
    secret = tmp_path / "passcode"
    secret.write_text("correct horse\n")
    made = entry(run(
        agent, "backup", "--name", "n", "--description", "\u00e4", "--retention-date", "2999-01-01T00:00:00Z",
        "--dir", "data/config", "--exclude", "*.txt", "--exclude", "current", "-o", "storage.provider=local",
        "--secret", f"backup.passcode=@{secret}", "--id", "by-hand", "--json",
    ))  # fmt: skip
    assert fnmatch(made["archive"], "n-*.zip.age")
    facts = (
        made["correlationId"],
        made["description"],
        made["retentionDate"],
        made["files"],
        made["excluded"],
    )
    assert facts == ("by-hand", "\u00e4", "2999-01-01T00:00:00.000000Z", 1, 2)
    assert backend.ended("by-hand")["state"] == "BACKUP_FINISHED"


def test_a_job_that_failed_ends_with_status_1_and_its_reason(started: Started) -> None:
    agent = started(transfer_attempts=1)
    url = ["-o", "https.url=http://127.0.0.1:9/x"]
    failed = run(agent, "backup", *url, "--id", "f")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("backup failed: ")
    assert failed.stderr.endswith(" (unreachable)\n")
    shown = run(agent, "backup", *url, "--json")
    assert (shown.returncode, json.loads(shown.stdout)["state"]) == (1, "FAILED")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (
            ["--output", "/no/such/place/x.zip"],
            1,
            "output '/no/such/place/x.zip' cannot be written: target '/no/such/place' is not",
        ),
        (["--output", "/"], 1, "must be the absolute path of a file"),
        (["--output", "{data}/x.zip"], 1, "must not be inside '{data}'"),
        (["--output", "{storage}/archives/x.zip"], 1, "must not be inside '{storage}'"),
        (["--output", "/tmp/x.zip", "-o", "storage.provider=local"], 1, "not both"),
        (["--name", "a/b"], 1, "option 'backup.name' must be"),
        (["--retention-date", "1"], 1, "must be in the future"),
        (["--store", "nix"], 1, "option 'backup.store' must be one of: device"),
        (["--dir", "/etc"], 1, "outside"),
        (["--name", "x", "-o", "backup.name=y"], 2, "'backup.name' is given twice"),
        (["-o", "backup.passcode=12345678"], 2, "'backup.passcode' is a secret"),
        (["--secret", "backup.passcode=@/no/such"], 2, "'/no/such' cannot be read"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_begun(
    agent: LocalAgent, backend: LocalBackend, arguments: list[str], status: int, says: str
) -> None:
    paths = {"data": agent.data, "storage": agent.storage}
    refused = run(agent, "backup", *[text.format(**paths) for text in arguments])
    assert (refused.returncode, refused.stdout) == (status, "")
    assert says.format(**paths) in refused.stderr
    assert backend.values() == []


def test_no_backend_can_name_an_output_file(agent: LocalAgent, backend: LocalBackend, tmp_path: Path) -> None:
    """It would be a file anywhere on the device, overwritten."""
    value = {
        "correlationId": "x",
        "Output": str(tmp_path / "x.zip"),
        "options": {"storage.provider": "local"},
    }
    backend.ask("backup", value)
    assert backend.ended("x")["state"] == "BACKUP_FINISHED"
    assert not (tmp_path / "x.zip").exists()
