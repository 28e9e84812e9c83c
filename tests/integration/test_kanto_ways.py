"""The installed program does what Kanto's agent does."""

import os
import subprocess
import zipfile

import pytest

from tests.support.agent_process import PROGRAM, AgentProcess
from tests.support.backend import LAST_UPLOAD, Backend
from tests.support.http_server import HttpServer, Received, Say
from tests.support.stalling import stalling
from tests.support.waiting import wait_until

from .conftest import Started

LOCAL = {"storage.provider": "local", "local.name": "it.zip"}


def test_the_method_of_an_upload_may_be_in_small_letters(agent: AgentProcess, backend: Backend) -> None:
    def take(_request: Received) -> Say:
        return Say(201)

    with HttpServer(take) as server:
        options = {"https.url": f"{server.url}/a.zip", "https.method": "put"}
        assert backend.run("backup", "X", options)["state"] == "BACKUP_FINISHED"
        assert {request.method for request in server.requests} == {"PUT"}


@pytest.mark.parametrize(("first", "mode"), [("", 0o644), ("", 0o755), ("#!/bin/sh\n", 0o644)])
def test_every_command_may_be_a_script_without_bit_or_interpreter(
    started: Started, backend: Backend, first: str, mode: int
) -> None:
    """Kanto's agent runs each with `sh`."""
    device = started()
    device.stop()
    for name in ("backupCmd", "beforeRestoreCmd", "afterRestoreCmd"):
        script = device.work / f"{name}.sh"
        script.write_text(f"{first}echo content > {device.work}/{name}.ran; echo content > collected\n")
        script.chmod(mode)
        device.settings[name] = str(script)
    device.start()
    assert backend.run("backup", "X", LOCAL)["state"] == "BACKUP_FINISHED"
    assert backend.run("restore", "Y", LOCAL)["state"] == "RESTORE_FINISHED"
    assert sorted(path.stem for path in device.work.glob("*.ran")) == [
        "afterRestoreCmd", "backupCmd", "beforeRestoreCmd",
    ]  # fmt: skip
    assert (device.data / "collected").read_text() == "content\n"


def test_a_cancel_gives_up_an_archive_that_waits_for_its_upload(
    agent: AgentProcess, backend: Backend
) -> None:
    backend.run("backup", "X", {})
    path = backend.requested("X#1")["options"]["file.path"]
    assert os.path.exists(path)
    assert backend.ask("cancel", {"correlationId": "X"})["status"] == 204
    assert backend.ended("X", LAST_UPLOAD)["state"] == "CANCELED"
    wait_until(lambda: not os.path.exists(path), what="the archive to go, after everybody was told")
    assert backend.ask("cancel", {"correlationId": "X"})["status"] == 404


def test_a_trigger_may_pass_over_single_upload(started: Started, backend: Backend) -> None:
    started(singleUpload=True)
    backend.run("backup", "X", {})
    backend.requested("X#1")
    with stalling() as destination:
        value = {"correlationId": "X#1", "options": {"https.url": destination.url}}
        assert backend.ask("start", value)["status"] == 204
        assert destination.reached.wait(60)
        said = [
            backend.ask("trigger", {"correlationId": f"T{number}", "options": options})["status"]
            for number, options in enumerate(({}, {"force": "false"}, {"force": "true"}))
        ]
        assert said == [409, 409, 204]
        backend.ask("cancel", {"correlationId": "X"})


@pytest.mark.parametrize("option", ["-version", "--version"])
def test_the_version_is_printed(option: str) -> None:
    done = subprocess.run([PROGRAM, option], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "edge-backup", "")


def test_an_archive_in_kanto_s_dialect_has_what_kanto_can_restore(started: Started, backend: Backend) -> None:
    """Its restore failed over a name with a backslash; what is not in it is told, and so does `info`."""
    device = started(archive_dialect="kanto")
    (device.data / "C:\\logs").mkdir()
    reasons = {
        "link, which Kanto cannot restore": 1,
        "name with a backslash, which Kanto cannot restore": 1,
    }
    assert backend.ask("info")["value"]["reasons"] == reasons
    ended = backend.run("backup", "X", LOCAL)
    assert ended["message"].startswith("2 entries skipped: 1 link, which Kanto cannot restore, 1 name with")
    with zipfile.ZipFile(device.storage / "archives/it.zip") as archive:
        names = archive.namelist()
    assert {"config\\", "empty\\", "config/app.json"} <= set(names)
    assert not any("\\" in name[:-1] for name in names)
    assert "config/current" not in names
