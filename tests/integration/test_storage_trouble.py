"""An agent whose own storage is in trouble when it starts, or goes away under it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.backend import Backend
from tests.support.real_disks import real_disk

pytestmark = pytest.mark.slow

LOCAL = {"storage.provider": "local"}


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
@pytest.mark.parametrize("end", [AgentProcess.kill, AgentProcess.stop])
def test_an_agent_that_starts_on_a_full_disk_answers_and_works_when_there_is_room(
    device: AgentProcess, backend: Backend, tmp_path: Path, end: Callable[[AgentProcess], object], kind: str
) -> None:
    """Otherwise nobody would hear of it, and it would restart for ever."""
    with real_disk(kind, tmp_path / "disk") as disk:
        device.settings |= {"storage": str(disk.path / "storage"), "storage.reserve": 0}
        device.storage = disk.path / "storage"
        with device:
            backend.announced()
            assert backend.run("backup", "before", {})["state"] == "BACKUP_FINISHED"
            backend.requested("before#1")
            end(device)
            (stray,) = (device.storage / "backups").iterdir()
            stray.rename(stray.with_name(f"stray-{stray.name}"))  # one that nobody knows
            with disk.full():
                backend.messages.clear()
                device.start()
                backend.announced()
                assert backend.ask("status")["status"] == 200
                answer = backend.ask("backup", {"correlationID": "full", "options": LOCAL})
            # In the room that was kept for it, or not at all.
            assert answer["status"] in (204, 507)
            if answer["status"] == 204:
                assert backend.ended("full")["statusCode"] in ("", "no-space")
            options = LOCAL | {"local.name": "after.zip"}
            assert backend.run("backup", "after", options)["state"] == "BACKUP_FINISHED"


def test_a_storage_that_cannot_be_used_is_said_in_one_line(device: AgentProcess) -> None:
    device.storage.write_text("a file is in the way")
    device.start()
    assert device.process
    assert device.process.wait(30) == 1
    said = device.log_lines()[-1]["event"]
    assert said == f"storage '{device.storage}' cannot be used: File exists"
    assert "Traceback" not in device.stderr.read_text()
