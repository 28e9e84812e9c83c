"""Directories on a file server that is gone: whoever looks at them waits, and the agent must not."""

import time
from pathlib import Path

import pytest

from agent.jobs import filesystem_probe
from tests.support.hung_disk import LOCAL, ask_for_backup, far_in, hung_disk
from tests.support.local_agent import LocalAgent, LocalBackend
from tests.support.waiting import wait_until
from tests.whole.conftest import Started


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second is enough to see that nobody answers."""
    monkeypatch.setattr(filesystem_probe, "PATIENCE_S", 0.5)


@pytest.fixture
def far(device: LocalAgent) -> Path:
    return far_in(device.data)


@pytest.mark.parametrize("operation", ["backup", "restore"])
def test_a_directory_that_does_not_answer_is_refused_and_the_agent_goes_on(
    device: LocalAgent,
    backend: LocalBackend,
    started: Started,
    far: Path,
    operation: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Asked for again it is refused at once, while the first look still waits; later it works."""
    agent = started()
    value = {"options": LOCAL | {"backup.dir": str(far), "local.name": "it.zip"}}
    with hung_disk(far):
        refused = backend.ask(operation, value)
        assert refused["status"] == 400
        assert refused["value"]["message"] == f"backup.dir '{far}' does not answer: is its file server there?"
        monkeypatch.setattr(filesystem_probe, "PATIENCE_S", 60)
        began_s = time.monotonic()
        assert backend.ask(operation, value)["status"] == 400
        assert backend.ask("status")["status"] == 200
        assert time.monotonic() - began_s < 30
        options = LOCAL | {"backup.dir": str(device.data / "config")}
        assert backend.run("backup", "elsewhere", options)["state"] == "BACKUP_FINISHED"
    wait_until(lambda: ask_for_backup(backend, far)["status"] == 204, what="the directory to be taken")
    assert agent.stop() == 0


def test_a_target_that_does_not_answer_is_refused(
    device: LocalAgent, backend: LocalBackend, started: Started, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    started(targets={"device": {"path": str(device.work)}, "far": {"path": str(target)}})
    with hung_disk(target):
        refused = ask_for_backup(backend, device.data, **{"local.target": "far"})
        assert refused["status"] == 400
        assert refused["value"]["message"] == "target 'far' does not answer: is its file server there?"
        assert backend.run("backup", "here", LOCAL)["state"] == "BACKUP_FINISHED"


@pytest.mark.slow
def test_periodic_backups_of_a_directory_that_does_not_answer_are_refused(
    device: LocalAgent, backend: LocalBackend, started: Started, far: Path
) -> None:
    """Each of them would block the agent, and after a restart the next one."""
    with hung_disk(far):
        agent = started(dir=str(far), active=True, period="1s")
        wait_until(lambda: agent.count_log("periodic backup refused") >= 3, what="refused backups")
        assert backend.ask("status")["status"] == 200


def test_info_tells_the_rest_when_a_target_and_a_data_set_do_not_answer(
    device: LocalAgent, backend: LocalBackend, started: Started, far: Path
) -> None:
    targets = {"far": {"path": str(far)}, "device": {"path": str(device.storage / "archives")}}
    data_sets = {"far": {"paths": f"{far}/file"}, "near": {"paths": f"{device.data}/start.sh"}}
    started(targets=targets, dataSets=data_sets)
    with hung_disk(far):
        options = {"backup.dir": f"{device.data}/config"}
        value = backend.ask("info", {"options": options}, request_id="a")["value"]
        assert (value["complete"], value["files"]) == (True, 2)
        assert value["targets"]["device"]["present"]
        assert "does not answer" in value["targets"]["far"]["problem"]
        assert backend.ask("status")["status"] == 200
