"""Restores that somebody at the device asks the running agent for, in their stages."""

import json
import os
import stat
import subprocess

import pytest

from tests.support.agent_process import PROGRAM
from tests.support.local_agent import LocalAgent, LocalBackend, run
from tests.support.waiting import wait_until

LOCAL = {"storage.provider": "local", "local.name": "it.zip"}
ARGUMENTS = ("-o", "storage.provider=local", "-o", "local.name=it.zip")


@pytest.fixture
def saved(agent: LocalAgent, backend: LocalBackend) -> LocalAgent:
    """A device that was backed up, and has changed since."""
    assert backend.run("backup", "saved", LOCAL)["state"] == "BACKUP_FINISHED"
    (agent.data / "start.sh").write_text("changed")
    (agent.data / "later").touch()
    return agent


def is_back(device: LocalAgent) -> bool:
    return (device.data / "start.sh").read_text().endswith("exec ./app\n")


def test_a_restore_waits_for_its_end(saved: LocalAgent) -> None:
    done = run(saved, "restore", *ARGUMENTS)
    assert (done.returncode, done.stdout.partition(":")[0], done.stderr) == (0, "restore finished", "")
    assert is_back(saved)


def test_a_preview_is_told_and_finalized(saved: LocalAgent, backend: LocalBackend) -> None:
    told = run(saved, "restore", "--preview", "--mode", "replace", *ARGUMENTS)
    assert (told.returncode, told.stderr) == (0, "")
    first, lost, ways = told.stdout.splitlines()
    assert first.startswith("0 added, 1 changed, 1 removed, ")
    assert lost == "  lost: later"
    assert "edge-backup finalize" in ways
    assert not is_back(saved)
    refused = run(saved, "restore", *ARGUMENTS)
    assert (refused.returncode, "is waiting: finalize or discard it first" in refused.stderr) == (1, True)
    done = run(saved, "finalize", "--json")
    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "FINISHED")
    assert (is_back(saved), (saved.data / "later").exists()) == (True, False)


def test_a_preview_is_discarded_and_is_gone_then(saved: LocalAgent) -> None:
    value = json.loads(run(saved, "restore", "--preview", "--json", "--id", "P", *ARGUMENTS).stdout)
    assert (value["state"], value["correlationId"]) == ("waiting", "P")
    assert run(saved, "discard", "--id", "P").returncode == 0
    for command in ("finalize", "discard"):
        again = run(saved, command)
        assert (again.returncode, again.stderr) == (1, "no preview is waiting\n")


def test_a_preview_that_fails_ends_with_status_1(saved: LocalAgent) -> None:
    failed = run(saved, "restore", "--preview", "-o", "storage.provider=local", "-o", "local.name=no.zip")
    assert failed.returncode == 1
    assert failed.stdout.startswith("no preview: ")
    assert failed.stdout.endswith("(not-found)\n")


def test_a_restore_on_trial_waits_for_confirm(saved: LocalAgent, backend: LocalBackend) -> None:
    arguments = ["--confirm-within", "5m", *ARGUMENTS, "--config", str(saved.work / "config.json")]
    with subprocess.Popen(
        [str(PROGRAM), "restore", *arguments],
        stdout=subprocess.PIPE, text=True, cwd=saved.work, env=saved.environment,
    ) as waiting:  # fmt: skip
        wait_until(lambda: run(saved, "confirm").returncode == 0, what="a trial to confirm")
        output, _ = waiting.communicate(timeout=30)
    assert (waiting.returncode, output.partition(":")[0]) == (0, "restore finished")
    assert is_back(saved)
    late = run(saved, "confirm")
    assert (late.returncode, late.stderr) == (1, "no restore waits for a confirmation\n")


def test_files_that_come_back_with_another_owner_are_counted(
    agent: LocalAgent, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without CAP_CHOWN, as under the unit: a service that may not read its files any more said nothing."""
    for name in ("start.sh", "config"):
        os.chown(agent.data / name, 1234, 1234)
    assert backend.run("backup", "saved", LOCAL)["state"] == "BACKUP_FINISHED"
    monkeypatch.setattr("agent.restore.unpack.may_chown", lambda: False)
    counted = "entries with another owner than in the archive: 2; the agent has no right to change owners"
    for command in (["restore", *ARGUMENTS], ["restore", "--preview", *ARGUMENTS], ["finalize"]):
        done = run(agent, *command)
        assert done.returncode == 0, done
        assert counted in done.stdout, command
    agent.stop()
    agent.settings["restore.owner"] = False
    agent.start()
    assert "another owner" not in run(agent, "restore", *ARGUMENTS).stdout


def test_entries_that_come_back_without_the_rights_that_they_lend_are_counted(
    agent: LocalAgent, backend: LocalBackend
) -> None:
    """A shared directory that does not hand on its group any more said nothing (backintime issue 661)."""
    for name, mode in {"start.sh": 0o4755, "config": 0o2775, "empty": 0o2775}.items():
        (agent.data / name).chmod(mode)
    assert backend.run("backup", "saved", LOCAL)["state"] == "BACKUP_FINISHED"
    (agent.data / "empty").rmdir()  # config keeps its bit: the restore finds it there
    done = run(agent, "restore", *ARGUMENTS)
    assert "set-group-id bit or capabilities that they have in the archive: 2 (restore.special" in done.stdout
    assert stat.S_IMODE((agent.data / "config").stat().st_mode) == 0o2775
    agent.stop()
    agent.settings["restore.specialBits"] = True
    agent.start()
    assert "set-group-id" not in run(agent, "restore", *ARGUMENTS).stdout
