"""An interrupted job left a disk that does not answer: the agent starts, works, and looks again."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Started
from tests.support.agent_process import AgentProcess, with_constants
from tests.support.backend import Backend
from tests.support.hung_disk import LOCAL, ask_for_backup, far_in, hung_disk
from tests.support.require import possible, require
from tests.support.stalling import stalling
from tests.support.unmounting import unmount
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

IMPATIENT = with_constants(
    "agent.jobs.restore_recovery.PATIENCE_S = 1.0", "agent.jobs.restore_recovery.AGAIN_S = 0.3"
)
"""Waits for file systems for one second instead of ten."""


@pytest.fixture
def far(device: AgentProcess) -> Path:
    return far_in(device.data)


def test_an_agent_starts_and_works_while_the_directory_of_an_interrupted_restore_does_not_answer(
    device: AgentProcess, backend: Backend, started: Started, far: Path
) -> None:
    """The end of the restore is told when the file server is back; until then nothing goes there."""
    hang = device.work / "hang.sh"
    hang.write_text("#!/bin/sh\nexec sleep 600\n")
    hang.chmod(0o755)
    agent = started(afterRestoreCmd=str(hang))
    backend.run("backup", "golden", LOCAL | {"local.name": "it.zip", "backup.dir": str(far)})
    options = LOCAL | {"local.name": "it.zip", "backup.dir": str(far)}
    assert backend.ask("restore", {"correlationID": "X", "options": options})["status"] == 204
    hook = agent.wait_for_log("hook started")
    agent.kill()
    os.killpg(hook["pid"], signal.SIGKILL)
    with hung_disk(far):
        backend.messages.clear()
        agent.start(*IMPATIENT)
        backend.announced()
        agent.wait_for_log("restore not recovered yet: its directory does not respond")
        options = LOCAL | {"backup.dir": str(device.data / "config")}
        assert backend.run("backup", "elsewhere", options)["state"] == "BACKUP_FINISHED"
        busy = ask_for_backup(backend, device.data)
        assert busy["status"] == 409
        assert "interrupted restore" in busy["value"]["message"]
    assert backend.ended("X")["statusCode"] == "interrupted"
    assert (far / "file").read_text() == "old"


@pytest.fixture
def stick(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """A file system at `tmp_path/stick` that can be unplugged and plugged in again, by turns."""
    require(os.geteuid() == 0, "root, to mount")
    kept, destination = tmp_path / "kept", tmp_path / "stick"
    kept.mkdir()
    destination.mkdir()
    plugged = False

    def turn() -> None:
        nonlocal plugged
        if plugged:
            unmount(destination)
        else:
            subprocess.run(["mount", "--bind", str(kept), str(destination)], check=True)
        plugged = not plugged

    mounted = subprocess.run(["mount", "-t", "tmpfs", "none", kept], check=False, capture_output=True)
    possible(mounted.returncode == 0, "mount a tmpfs")
    turn()
    yield turn
    if plugged:
        turn()
    unmount(kept)


def test_a_restore_that_was_interrupted_on_a_stick_waits_for_the_stick(
    device: AgentProcess, backend: Backend, started: Started, tmp_path: Path, stick: Callable[[], None]
) -> None:
    """The directory of that name is not the one that is half restored."""
    data = tmp_path / "stick/data"
    data.mkdir()
    (data / "file").write_text("old")
    hang = device.work / "hang.sh"
    hang.write_text("#!/bin/sh\nexec sleep 600\n")
    hang.chmod(0o755)
    agent = started(dir=str(data), afterRestoreCmd=str(hang))
    backend.run("backup", "golden", LOCAL | {"local.name": "it.zip"})
    (data / "file").write_text("changed")
    options = LOCAL | {"local.name": "it.zip"}
    assert backend.ask("restore", {"correlationID": "X", "options": options})["status"] == 204
    hook = agent.wait_for_log("hook started")
    agent.kill()
    os.killpg(hook["pid"], signal.SIGKILL)
    assert (data / "file").read_text() == "old", "all is in place, and not yet confirmed"
    stick()
    (tmp_path / "stick/data").mkdir()
    agent.start(*IMPATIENT)
    agent.wait_for_log("restore not recovered yet")
    wait_until(lambda: ask_for_backup(backend, data)["status"] == 409, what="a backup to be refused")
    assert [value["state"] for value in backend.values() if value["correlationId"] == "X"] == [
        "RESTORE_STARTED"
    ]
    stick()
    assert backend.ended("X")["statusCode"] == "interrupted"
    assert (data / "file").read_text() == "changed"
    assert ask_for_backup(backend, data)["status"] == 204


def test_an_agent_starts_and_works_while_a_target_of_an_interrupted_backup_does_not_answer(
    device: AgentProcess, backend: Backend, started: Started, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    started(targets={"device": {"path": str(device.work)}, "far": {"path": str(target)}})
    with stalling() as destination:
        value = {"correlationID": "X", "options": {"https.url": destination.url}}
        assert backend.ask("backup", value)["status"] == 204
        assert destination.reached.wait(60)
        device.kill()
    with hung_disk(target):
        device.start(*IMPATIENT)
        assert backend.ended("X")["statusCode"] == "interrupted"
        assert backend.run("backup", "here", LOCAL)["state"] == "BACKUP_FINISHED"
