"""Commands of the owner around a job, as wire and disk show them."""

import time
import zipfile
from typing import Any

import pytest

from tests.support.backend import LAST_OPERATION
from tests.support.hooks import ENDLESS, LOOK, endless_pids, is_alive, lines, script, work_directories
from tests.support.local_agent import LocalAgent, LocalBackend, run
from tests.support.trees import contents, differences
from tests.support.waiting import wait_until

from .conftest import Started

LOCAL = {"storage.provider": "local", "local.name": "golden.zip"}


# backupCmd


def test_backup_cmd_collects_what_is_archived_in_an_empty_directory(
    device: LocalAgent, started: Started, backend: LocalBackend
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


def test_cancel_kills_backup_cmd_with_its_children_within_a_second(
    device: LocalAgent, started: Started, backend: LocalBackend
) -> None:
    started(backupCmd=script(device, "collect.sh", f"trap '' TERM\n{ENDLESS}"))
    assert backend.ask("backup", {"correlationID": "X", "options": LOCAL})["status"] == 204
    pids = endless_pids(device)
    began_s = time.monotonic()
    assert backend.ask("cancel", {"correlationID": "X"})["status"] == 204
    ended = backend.ended("X")
    assert time.monotonic() - began_s < 10
    assert (ended["state"], ended["statusCode"]) == ("BACKUP_FAILED", "cancelled")
    assert not any(map(is_alive, pids))
    wait_until(lambda: work_directories(device) == [], what="the directory to go")


def test_a_stop_of_the_agent_kills_backup_cmd(
    device: LocalAgent, started: Started, backend: LocalBackend
) -> None:
    """After `stopTimeout`, not before: the hook has this time to come to its end."""
    started(backupCmd=script(device, "collect.sh", ENDLESS), stopTimeout="200ms")
    backend.ask("backup", {"correlationID": "X", "options": LOCAL})
    pids = endless_pids(device)
    assert device.stop() == 0
    ended = backend.ended("X")
    assert (ended["state"], ended["statusCode"]) == ("BACKUP_FAILED", "interrupted")
    assert not any(map(is_alive, pids))


def test_the_command_line_stops_the_job_that_runs(
    device: LocalAgent, started: Started, backend: LocalBackend
) -> None:
    started(backupCmd=script(device, "collect.sh", ENDLESS))
    assert run(device, "cancel").stderr == "no job runs\n"
    assert backend.ask("backup", {"correlationID": "X", "options": LOCAL})["status"] == 204
    endless_pids(device)
    assert run(device, "cancel").returncode == 0
    assert backend.ended("X")["statusCode"] == "cancelled"


# restoreCmd


def test_restore_cmd_gets_the_unpacked_archive_and_the_agent_commits_nothing(
    device: LocalAgent, started: Started, backend: LocalBackend
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


def test_a_bad_archive_never_reaches_restore_cmd(
    device: LocalAgent, started: Started, backend: LocalBackend
) -> None:
    started(restoreCmd=script(device, "deliver.sh", 'touch "$work/told"'))
    (device.storage / "archives" / "golden.zip").write_bytes(b"no archive")
    failed = backend.run("restore", "Y", LOCAL)
    assert (failed["state"], failed["statusCode"]) == ("RESTORE_FAILED", "archive-invalid")
    assert not (device.work / "told").exists()


# beforeRestoreCmd and afterRestoreCmd


def damaged(device: LocalAgent, backend: LocalBackend) -> dict[str, Any]:
    """A golden archive, and a device that has changed since; what is on it now."""
    backend.run("backup", "golden", LOCAL)
    (device.data / "config" / "app.json").write_text("damaged\n")
    (device.data / "start.sh").unlink()
    return contents(device.data)


def test_before_and_after_restore_cmd_surround_the_commit(
    device: LocalAgent, started: Started, backend: LocalBackend
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
    device: LocalAgent, started: Started, backend: LocalBackend
) -> None:
    started(beforeRestoreCmd=script(device, "stop.sh", "echo it does not stop; exit 1"))
    old = damaged(device, backend)
    failed = backend.run("restore", "Y", LOCAL)
    assert (failed["state"], failed["statusCode"]) == ("RESTORE_FAILED", "hook-failed")
    assert failed["message"] == "beforeRestoreCmd 'stop.sh' ended with exit status 1: it does not stop"
    assert differences(old, contents(device.data)) == []


def test_after_restore_cmd_that_fails_rolls_back_and_runs_again_over_the_old_data(
    device: LocalAgent, started: Started, backend: LocalBackend
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
    device: LocalAgent, started: Started, backend: LocalBackend
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
    device: LocalAgent, started: Started, backend: LocalBackend, hanging: str
) -> None:
    """The cancel was not for the command after the rollback: the service has to come back."""
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


def test_a_periodic_backup_runs_backup_cmd(
    device: LocalAgent, started: Started, backend: LocalBackend
) -> None:
    """Under the id that the twin is told."""
    tell = 'echo "$EDGE_BACKUP_CORRELATION_ID" >> "$work/told"; echo dump > dump'
    started(backupCmd=script(device, "collect.sh", tell))
    backend.ask("activate", {})
    value = backend.wait(lambda m: m[1]["path"] == LAST_OPERATION)[1]["value"]
    assert backend.ended(value["correlationId"])["state"] == "BACKUP_FINISHED"
    assert lines(device) == [value["correlationId"]]


# Around a backup, and after a failure


def test_the_commands_around_a_backup_run_with_those_of_its_data_sets(
    device: LocalAgent, started: Started, backend: LocalBackend
) -> None:
    """The owner's program is stopped before anything is read, and started when all is read."""
    told = {name: script(device, f"{name}.sh", f'echo {name} >> "$work/told"') for name in "abcd"}
    started(
        beforeBackupCmd=told["a"],
        afterBackupCmd=told["d"],
        dataSets={
            "app": {"paths": str(device.data), "beforeBackupCmd": told["b"], "afterBackupCmd": told["c"]},
            "other": {"paths": "/usr/share/doc", "beforeBackupCmd": "/bin/false"},
        },
    )
    ended = backend.run("backup", "X", LOCAL | {"backup.dataTypes": "app"})
    assert ended["state"] == "BACKUP_FINISHED"
    assert lines(device) == ["a", "b", "c", "d"]


def test_after_backup_cmd_runs_whatever_becomes_of_the_backup(
    device: LocalAgent, started: Started, backend: LocalBackend
) -> None:
    """Also when the first command fails, and when somebody cancels."""
    after = script(device, "after.sh", 'echo "after $EDGE_BACKUP_DIRECTORY" >> "$work/told"')
    before = f'test ! -e "$work/fails" || exit 3; test ! -e "$work/hangs" || {{ {ENDLESS}; }}'
    started(beforeBackupCmd=script(device, "before.sh", before), afterBackupCmd=after)
    (device.work / "fails").touch()
    ended = backend.run("backup", "fails", LOCAL)
    assert ended["statusCode"] == "hook-failed"
    assert "beforeBackupCmd 'before.sh' ended with exit status 3" in ended["message"]
    (device.work / "fails").unlink()
    (device.work / "hangs").touch()
    assert backend.ask("backup", {"correlationID": "cancelled", "options": LOCAL})["status"] == 204
    endless_pids(device)
    assert backend.ask("cancel", {"correlationID": "cancelled"})["status"] == 204
    assert backend.ended("cancelled")["statusCode"] == "cancelled"
    assert lines(device) == [f"after {device.data}"] * 2


def test_a_good_backup_says_that_the_command_after_it_failed(
    device: LocalAgent, started: Started, backend: LocalBackend
) -> None:
    started(afterBackupCmd=script(device, "after.sh", "echo no such service; exit 5"))
    ended = backend.run("backup", "X", LOCAL)
    assert ended["state"] == "BACKUP_FINISHED"
    assert "afterBackupCmd 'after.sh' ended with exit status 5: no such service" in ended["message"]


def test_on_failure_cmd_hears_of_every_job_that_failed(
    device: LocalAgent, started: Started, backend: LocalBackend
) -> None:
    tell = (
        'echo "$EDGE_BACKUP_OPERATION $EDGE_BACKUP_CORRELATION_ID $EDGE_BACKUP_STATUS_CODE" >> "$work/told"'
    )
    started(onFailureCmd=script(device, "alarm.sh", tell), beforeBackupCmd="/bin/false")
    assert backend.run("backup", "X", LOCAL)["state"] == "BACKUP_FAILED"
    assert backend.run("restore", "Y", LOCAL)["state"] == "RESTORE_FAILED"
    wait_until(lambda: len(lines(device)) == 2, what="the commands")
    assert lines(device)[0] == "backup X hook-failed"
    assert lines(device)[1].startswith("restore Y ")
