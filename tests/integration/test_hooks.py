"""Commands of the owner around a job, as wire and disk show them."""

import os
import signal
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.backend import LAST_OPERATION, Backend
from tests.support.trees import differences
from tests.support.waiting import wait_until

from .conftest import Started, contents

LOCAL = {"storage.provider": "local", "local.name": "golden.zip"}


def script(device: AgentProcess, name: str, body: str) -> str:
    """The path of a shell script that finds `$work`, where tests look for what it did."""
    path = device.work / name
    path.write_text(f"#!/bin/sh\nset -e\nwork='{device.work}'\n{body}\n")
    path.chmod(0o755)
    return str(path)


def lines(device: AgentProcess, name: str = "told") -> list[str]:
    """What hooks wrote to `$work/<name>`."""
    path = device.work / name
    return path.read_text().splitlines() if path.exists() else []


def work_directories(device: AgentProcess) -> list[str]:
    return [path.name for path in device.storage.glob("work-*")]


# A hook that goes on for ever, with a child; `$work/pids` names both. It lets nobody wait for nothing.
ENDLESS = 'sleep 600 & echo $$ $! > "$work/pids.new"; mv "$work/pids.new" "$work/pids"; wait'


def endless_pids(device: AgentProcess) -> list[int]:
    wait_until((device.work / "pids").exists, what="the endless hook to run")
    return [int(pid) for pid in (device.work / "pids").read_text().split()]


def is_alive(pid: int) -> bool:
    """One that is dead, and waits for init to reap it, is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# backupCmd


def test_backup_cmd_collects_what_is_archived_in_an_empty_directory(
    device: AgentProcess, started: Started, backend: Backend
) -> None:
    """It knows the operation, the id and the directory; what it says is in the log, under that id."""
    collect = """
    ls -A | wc -l > "$work/told"
    printf '%s\\n' "$EDGE_BACKUP_OPERATION" "$EDGE_BACKUP_CORRELATION_ID" >> "$work/told"
    test "$EDGE_BACKUP_DIRECTORY" = "$(pwd -P)"
    mkdir db; echo dump > db/dump.sql
    echo dumped one table
    """
    started(backupCmd=script(device, "collect it.sh", collect))
    assert backend.run("backup", "X", LOCAL)["state"] == "BACKUP_FINISHED"
    assert lines(device) == ["0", "backup", "X"]
    with zipfile.ZipFile(device.storage / "archives" / "golden.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "db/": b"", "db/dump.sql": b"dump\n",
        }  # fmt: skip
    assert device.wait_for_log("hook output", correlation_id="X")["line"] == "dumped one table"
    assert work_directories(device) == []


def test_backup_cmd_that_fails_fails_the_backup_with_its_status_and_last_words(
    device: AgentProcess, started: Started, backend: Backend
) -> None:
    started(backupCmd=script(device, "collect.sh", "echo partial > dump; echo no database >&2; exit 3"))
    failed = backend.run("backup", "X", LOCAL)
    assert (failed["state"], failed["statusCode"]) == ("BACKUP_FAILED", "hook-failed")
    assert failed["message"] == "backupCmd 'collect.sh' ended with exit status 3: no database"
    assert list((device.storage / "archives").iterdir()) == []
    assert work_directories(device) == []


def test_backup_cmd_that_takes_too_long_is_ended_and_fails_the_backup(
    device: AgentProcess, started: Started, backend: Backend
) -> None:
    started(backupCmd=script(device, "collect.sh", ENDLESS), hookTimeout="500ms")
    failed = backend.run("backup", "X", LOCAL)
    assert (failed["state"], failed["statusCode"]) == ("BACKUP_FAILED", "hook-failed")
    assert "ran longer than 500ms" in failed["message"]
    assert not any(map(is_alive, endless_pids(device)))


def test_cancel_kills_backup_cmd_with_its_children_within_a_second(
    device: AgentProcess, started: Started, backend: Backend
) -> None:
    started(backupCmd=script(device, "collect.sh", f"trap '' TERM\n{ENDLESS}"))
    assert backend.ask("backup", {"correlationID": "X", "options": LOCAL})["status"] == 204
    pids = endless_pids(device)
    began_s = time.monotonic()
    assert backend.ask("cancel", {"correlationID": "X"})["status"] == 204
    ended = backend.ended("X")
    assert time.monotonic() - began_s < 1.5
    assert (ended["state"], ended["statusCode"]) == ("BACKUP_FAILED", "cancelled")
    assert not any(map(is_alive, pids))
    assert work_directories(device) == []


def test_a_stop_of_the_agent_kills_backup_cmd(
    device: AgentProcess, started: Started, backend: Backend
) -> None:
    """After `stopTimeout`, not before: the hook has this time to come to its end."""
    started(backupCmd=script(device, "collect.sh", ENDLESS), stopTimeout="200ms")
    backend.ask("backup", {"correlationID": "X", "options": LOCAL})
    pids = endless_pids(device)
    assert device.stop() == 0
    ended = backend.ended("X")
    assert (ended["state"], ended["statusCode"]) == ("BACKUP_FAILED", "interrupted")
    assert not any(map(is_alive, pids))


def test_what_backup_cmd_had_collected_is_gone_after_a_crash(
    device: AgentProcess, started: Started, backend: Backend
) -> None:
    started(backupCmd=script(device, "collect.sh", f"echo half > dump; exec {ENDLESS[:9]}"))
    backend.ask("backup", {"correlationID": "X", "options": LOCAL})
    hook = device.wait_for_log("hook started")
    wait_until(lambda: list(device.storage.glob("work-*/dump")), what="the hook to have collected something")
    device.kill()
    os.kill(hook["pid"], 9)
    device.start()
    assert backend.ended("X")["statusCode"] == "interrupted"
    assert work_directories(device) == []


# restoreCmd


def test_restore_cmd_gets_the_unpacked_archive_and_the_agent_commits_nothing(
    device: AgentProcess, started: Started, backend: Backend
) -> None:
    """Modes, times and links are as they were, so that a plain `cp -a` is all that it takes."""
    deliver = """
    printf '%s\\n' "$EDGE_BACKUP_OPERATION" "$EDGE_BACKUP_CORRELATION_ID" > "$work/told"
    test "$EDGE_BACKUP_DIRECTORY" = "$(pwd -P)"
    cp -a . "$work/delivered"
    """
    started(restoreCmd=script(device, "deliver.sh", deliver))
    before = contents(device.data)
    backend.run("backup", "X", LOCAL)
    (device.data / "start.sh").write_text("newer than the archive")
    newer = contents(device.data)
    assert backend.run("restore", "Y", LOCAL)["state"] == "RESTORE_FINISHED"
    assert lines(device) == ["restore", "Y"]
    assert differences(before, contents(device.work / "delivered")) == []
    assert differences(newer, contents(device.data)) == []
    assert work_directories(device) == []


def test_restore_cmd_that_fails_fails_the_restore(
    device: AgentProcess, started: Started, backend: Backend
) -> None:
    started(restoreCmd=script(device, "deliver.sh", "echo no room >&2; exit 9"))
    backend.run("backup", "X", LOCAL)
    failed = backend.run("restore", "Y", LOCAL)
    assert (failed["state"], failed["statusCode"]) == ("RESTORE_FAILED", "hook-failed")
    assert failed["message"] == "restoreCmd 'deliver.sh' ended with exit status 9: no room"
    assert work_directories(device) == []


def test_a_bad_archive_never_reaches_restore_cmd(
    device: AgentProcess, started: Started, backend: Backend
) -> None:
    started(restoreCmd=script(device, "deliver.sh", 'touch "$work/told"'))
    (device.storage / "archives" / "golden.zip").write_bytes(b"no archive")
    failed = backend.run("restore", "Y", LOCAL)
    assert (failed["state"], failed["statusCode"]) == ("RESTORE_FAILED", "archive-invalid")
    assert not (device.work / "told").exists()


# beforeRestoreCmd and afterRestoreCmd

LOOK = 'echo "%s $(cat "$EDGE_BACKUP_DIRECTORY/config/app.json")" >> "$work/told"'
"""Tells what the data is while the hook runs."""


def damaged(device: AgentProcess, backend: Backend) -> dict[str, Any]:
    """A golden archive, and a device that has changed since; what is on it now."""
    backend.run("backup", "golden", LOCAL)
    (device.data / "config" / "app.json").write_text("damaged\n")
    (device.data / "start.sh").unlink()
    return contents(device.data)


def test_before_and_after_restore_cmd_surround_the_commit(
    device: AgentProcess, started: Started, backend: Backend
) -> None:
    """The service that owns the data is stopped over the old data, and started over the new."""
    started(
        beforeRestoreCmd=script(device, "stop.sh", LOOK % "before"),
        afterRestoreCmd=script(device, "start.sh", LOOK % "after"),
    )
    before = contents(device.data)
    damaged(device, backend)
    assert backend.run("restore", "Y", LOCAL)["state"] == "RESTORE_FINISHED"
    assert lines(device) == ["before damaged", 'after {"interval": 30}']
    assert differences(before, contents(device.data)) == []


def test_before_restore_cmd_that_fails_leaves_the_data_alone(
    device: AgentProcess, started: Started, backend: Backend
) -> None:
    started(beforeRestoreCmd=script(device, "stop.sh", "echo it does not stop; exit 1"))
    old = damaged(device, backend)
    failed = backend.run("restore", "Y", LOCAL)
    assert (failed["state"], failed["statusCode"]) == ("RESTORE_FAILED", "hook-failed")
    assert failed["message"] == "beforeRestoreCmd 'stop.sh' ended with exit status 1: it does not stop"
    assert differences(old, contents(device.data)) == []


def test_after_restore_cmd_that_fails_rolls_back_and_runs_again_over_the_old_data(
    device: AgentProcess, started: Started, backend: Backend
) -> None:
    """A service that does not come up with the new data comes up with the old."""
    after = f"{LOOK % 'after'}\ngrep -q damaged config/app.json || {{ echo new data is bad; exit 7; }}"
    started(
        beforeRestoreCmd=script(device, "stop.sh", LOOK % "before"),
        afterRestoreCmd=script(device, "start.sh", after),
    )
    old = damaged(device, backend)
    failed = backend.run("restore", "Y", LOCAL)
    assert (failed["state"], failed["statusCode"]) == ("RESTORE_FAILED", "hook-failed")
    assert failed["message"] == "afterRestoreCmd 'start.sh' ended with exit status 7: new data is bad"
    assert lines(device) == ["before damaged", 'after {"interval": 30}', "after damaged"]
    assert differences(old, contents(device.data)) == []
    assert backend.run("backup", "next", LOCAL)["state"] == "BACKUP_FINISHED"


def test_after_restore_cmd_that_fails_over_the_old_data_too_is_told(
    device: AgentProcess, started: Started, backend: Backend
) -> None:
    """The old data is there, and nobody works with it: somebody has to know that."""
    after = "if grep -q damaged config/app.json; then echo no licence; exit 3; fi; echo bad data; exit 7"
    started(
        beforeRestoreCmd=script(device, "stop.sh", "true"), afterRestoreCmd=script(device, "start.sh", after)
    )
    old = damaged(device, backend)
    failed = backend.run("restore", "Y", LOCAL)
    assert (failed["state"], failed["statusCode"]) == ("RESTORE_FAILED", "hook-failed")
    assert failed["message"] == (
        "afterRestoreCmd 'start.sh' ended with exit status 7: bad data; over the old data: "
        "afterRestoreCmd 'start.sh' ended with exit status 3: no licence"
    )
    assert differences(old, contents(device.data)) == []
    assert backend.run("backup", "next", LOCAL)["state"] == "BACKUP_FINISHED"


@pytest.mark.parametrize("hanging", ["beforeRestoreCmd", "afterRestoreCmd"])
def test_cancel_kills_a_hook_around_the_commit_and_the_old_data_is_there(
    device: AgentProcess, started: Started, backend: Backend, hanging: str
) -> None:
    """What runs again after the rollback is not what was cancelled: the service has to come back."""
    hang_once = f'test ! -e "$work/pids" || exit 0\n{ENDLESS}'
    hooks = dict.fromkeys(("beforeRestoreCmd", "afterRestoreCmd"), "true")
    started(**hooks | {hanging: script(device, "hang.sh", hang_once)})
    old = damaged(device, backend)
    assert backend.ask("restore", {"correlationID": "Y", "options": LOCAL})["status"] == 204
    pids = endless_pids(device)
    assert backend.ask("cancel", {"correlationID": "Y", "statusCode": "late"})["status"] == 204
    ended = backend.ended("Y")
    assert (ended["state"], ended["statusCode"]) == ("RESTORE_FAILED", "late")
    assert not any(map(is_alive, pids))
    assert differences(old, contents(device.data)) == []


@pytest.mark.parametrize("hanging", ["stop.sh", "start.sh"])
def test_after_a_crash_between_the_two_after_restore_cmd_runs_once(
    device: AgentProcess, started: Started, backend: Backend, hanging: str
) -> None:
    """Whoever was stopped is started again, over the old data; nothing else runs meanwhile."""
    hang_once = f'test -e "$work/pids" || {{ {ENDLESS}; }}'
    bodies = {"stop.sh": LOOK % "before", "start.sh": LOOK % "after"}
    bodies[hanging] = f"{hang_once}\n{bodies[hanging]}"
    stop, start = (script(device, name, body) for name, body in bodies.items())
    started(beforeRestoreCmd=stop, afterRestoreCmd=start)
    damaged(device, backend)
    assert backend.ask("restore", {"correlationID": "Y", "options": LOCAL})["status"] == 204
    pids = endless_pids(device)
    device.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    told = lines(device)
    device.start()
    wait_until(lambda: lines(device) != told, what="afterRestoreCmd")
    assert lines(device) == [*told, "after damaged"]
    ended = backend.ended("Y")
    assert (ended["state"], ended["statusCode"]) == ("RESTORE_FAILED", "interrupted")
    device.stop()
    device.start()
    wait_until(lambda: device.count_log("connected") == 3, what="the agent to be back")
    assert backend.run("backup", "next", LOCAL)["state"] == "BACKUP_FINISHED"
    assert lines(device) == [*told, "after damaged"]


def test_a_periodic_backup_runs_backup_cmd(device: AgentProcess, started: Started, backend: Backend) -> None:
    """Under the id that the twin is told."""
    tell = 'echo "$EDGE_BACKUP_CORRELATION_ID" >> "$work/told"; echo dump > dump'
    started(backupCmd=script(device, "collect.sh", tell))
    backend.ask("activate", {})
    value = backend.wait(lambda m: m[1]["path"] == LAST_OPERATION)[1]["value"]
    assert backend.ended(value["correlationId"])["state"] == "BACKUP_FINISHED"
    assert lines(device) == [value["correlationId"]]
