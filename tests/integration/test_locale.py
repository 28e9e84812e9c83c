"""A device whose locale is not UTF-8 keeps and gets back the names that its file system has."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.agent_process import PROGRAM, AgentProcess
from tests.support.backend import Backend
from tests.support.locales import EIGHT_BIT, without_utf8

NAMES = {"Größe.conf".encode(): b"1", "€.txt".encode(): b"2", b"raw-\xf6\xff": b"3"}
LOCAL = {"storage.provider": "local", "local.name": "it.zip"}


@pytest.mark.parametrize("locale", EIGHT_BIT)
@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_names_survive_a_locale_that_is_not_utf8(
    device: AgentProcess, backend: Backend, tmp_path: Path, locale: str, mode: str
) -> None:
    """A name that was decoded by one encoding and encoded by another is another file, and `replace`
    removed the true one."""
    device.environment |= without_utf8(locale, tmp_path)
    data = os.fsencode(device.data)
    for name, content in NAMES.items():
        Path(os.fsdecode(data + b"/" + name)).write_bytes(content)
    before = sorted(os.listdir(data))
    device.start()
    backend.announced()
    assert backend.run("backup", "b", LOCAL)["state"] == "BACKUP_FINISHED"
    Path(os.fsdecode(data + b"/raw-\xf6\xff")).write_bytes(b"changed")
    assert backend.run("restore", "r", {**LOCAL, "restore.mode": mode})["state"] == "RESTORE_FINISHED"
    assert sorted(os.listdir(data)) == before
    assert {name: Path(os.fsdecode(data + b"/" + name)).read_bytes() for name in NAMES} == NAMES


@pytest.mark.parametrize("locale", EIGHT_BIT)
def test_the_command_line_takes_names_as_bytes(device: AgentProcess, tmp_path: Path, locale: str) -> None:
    """An argument reaches the restarted interpreter byte for byte."""
    config, data = tmp_path / "Größe.json", tmp_path / "größe"
    data.mkdir()
    config.write_text(json.dumps({"dir": str(data), "logFile": ""}), "utf-8")
    done = subprocess.run(
        [str(PROGRAM), "check-config", "--config", str(config)],
        capture_output=True, env=device.environment | without_utf8(locale, tmp_path), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"/gr" in done.stdout
