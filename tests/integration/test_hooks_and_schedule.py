"""Commands of the owner around a job, and backups that nobody asks for, as wire and disk show them."""

import os
import signal
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.backend import FEATURE, LAST_OPERATION, Backend
from tests.support.mosquitto import Mosquitto
from tests.support.stalling import stalling
from tests.support.trees import differences
from tests.support.waiting import wait_until

from .conftest import contents

AUTO_UPLOAD = f"{FEATURE}/properties/autoUpload"
LOCAL = {"storage.provider": "local", "local.name": "golden.zip"}
START, END = "2100-01-01T00:00:00.000000Z", "2100-01-02T00:00:00.000000Z"
"""A frame that lies ahead: nothing is due while a test runs."""

Started = Callable[..., AgentProcess]


@pytest.fixture
def started(device: AgentProcess, backend: Backend) -> Started:
    """Starts the agent with further settings."""

    def start(**settings: Any) -> AgentProcess:
        device.settings |= {key.replace("_", "."): value for key, value in settings.items()}
        device.start()
        backend.announced()
        return device

    return start


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


# Periodic backups


def begun(backend: Backend) -> list[str]:
    """The ids of all jobs so far, in order."""
    return list(dict.fromkeys(value["correlationId"] for value in backend.values()))


def finished(backend: Backend, count: int) -> None:
    def enough(_: object) -> bool:
        return [value["state"] for value in backend.values()].count("BACKUP_FINISHED") >= count

    backend.wait(enough, f"{count} backups")


def announcements(backend: Backend) -> list[dict[str, Any]]:
    """The values of `autoUpload` in all announcements so far."""
    return [
        m[1]["value"]["properties"]["autoUpload"] for m in list(backend.messages) if m[1]["path"] == FEATURE
    ]


def announced_again(device: AgentProcess, backend: Backend) -> dict[str, Any]:
    """Start the agent again; `autoUpload` as it is announced then."""
    before = len(announcements(backend))
    device.start()
    backend.wait(lambda _: len(announcements(backend)) > before, "another announcement")
    return announcements(backend)[-1]


def frame(active: bool, start: str | None = None, end: str | None = None) -> dict[str, Any]:
    return {"active": active, "startTime": start, "endTime": end}


def test_backups_are_made_in_each_period_and_handed_over(
    started: Started, device: AgentProcess, backend: Backend
) -> None:
    """Each under an id of its own, and offered like one that was asked for."""
    started(active=True, period="300ms", storage_maxStaged=100)
    assert announcements(backend) == [frame(True)]
    finished(backend, 3)
    ids = begun(backend)[:3]
    assert len(set(ids)) == 3
    for correlation_id in ids:
        assert Path(backend.requested(f"{correlation_id}#1")["options"]["file.path"]).is_file()


def test_activate_without_a_frame_backs_up_at_once_and_deactivate_ends_it(
    started: Started, backend: Backend
) -> None:
    """Kanto panics on `activate {}`."""
    started(period="200ms", storage_maxStaged=100)
    assert announcements(backend) == [frame(False)]
    assert backend.values() == []
    assert backend.ask("activate", {})["status"] == 204
    finished(backend, 2)
    assert backend.ask("deactivate")["status"] == 204
    backend.wait(lambda _: len(backend.values(AUTO_UPLOAD)) > 1, "the twin to know that it has ended")
    assert backend.values(AUTO_UPLOAD) == [frame(True), frame(False)]
    for correlation_id in (last := begun(backend)):
        backend.ended(correlation_id)
    # Five periods in which nothing happens but what is asked for, and that is never refused.
    over_s, ours = time.monotonic() + 1, 0
    while time.monotonic() < over_s:
        ours += 1
        assert backend.run("backup", f"ours-{ours}", LOCAL)["state"] == "BACKUP_FINISHED"
    assert begun(backend)[len(last) :] == [f"ours-{number + 1}" for number in range(ours)]


def test_a_beginning_in_the_settings_activates_as_in_kanto(started: Started, backend: Backend) -> None:
    started(activeFrom=START)
    assert announcements(backend) == [frame(True, START)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"from": START, "to": END}, frame(True, START, END)),
        ({"from": 4102444800, "to": "4102531200"}, frame(True, START, END)),
        ({"from": "2100-01-01T02:00:00+02:00"}, frame(True, START)),
        ({"from": START, "to": None}, frame(True, START)),
    ],
)
def test_activate_takes_rfc_3339_and_seconds_since_1970(
    started: Started, backend: Backend, value: dict[str, Any], expected: dict[str, Any]
) -> None:
    started()
    assert backend.ask("activate", value)["status"] == 204
    change = backend.wait(lambda m: m[1]["path"] == AUTO_UPLOAD)[1]
    assert change == {
        "topic": "edge/device/things/twin/commands/modify",
        "headers": {"response-required": False},
        "path": AUTO_UPLOAD,
        "value": expected,
    }
    backend.ask("nothing")
    assert backend.values() == [], "the frame lies ahead"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"from": END, "to": START}, "before the start"),
        ({"from": "tomorrow"}, "RFC 3339"),
        ({"to": True}, "RFC 3339"),
        ({"from": {}}, "from must be a text"),
        ({"from": 4102444800000}, "seconds since 1970"),
    ],
)
def test_activate_with_a_bad_frame_is_400_and_changes_nothing(
    started: Started, backend: Backend, value: dict[str, Any], says: str
) -> None:
    started(active=True, activeFrom=START)
    answer = backend.ask("activate", value)
    assert (answer["status"], answer["value"]["error"]) == (400, "messages:parameter.invalid")
    assert says in answer["value"]["message"]
    backend.ask("nothing")
    assert backend.values(AUTO_UPLOAD) == []
    assert backend.values() == []


def test_a_frame_set_by_a_command_survives_crashes_restarts_and_reconnects(
    started: Started, device: AgentProcess, backend: Backend, broker: Mosquitto
) -> None:
    """Kanto's agent forgets it."""
    started()
    backend.ask("activate", {"from": START, "to": END})
    device.kill()
    assert announced_again(device, backend) == frame(True, START, END)
    backend.ask("deactivate")
    assert device.stop() == 0
    assert announced_again(device, backend) == frame(False)
    backend.ask("activate", {"from": START})
    before = len(announcements(backend))
    broker.stop()
    broker.start()
    backend.wait(lambda _: len(announcements(backend)) > before, "the agent to be back")
    assert announcements(backend)[-1] == frame(True, START)


def test_ticks_missed_while_the_agent_was_off_are_made_up_for_once(
    started: Started, device: AgentProcess, backend: Backend
) -> None:
    """One backup for all of them, at once, and the rest is said to be missed."""
    started(period="1s", storage_maxStaged=100)
    backend.ask("activate", {})
    finished(backend, 1)
    device.kill()
    known, off_from = begun(backend), datetime.now(UTC)
    wait_until(lambda: datetime.now(UTC) - off_from > timedelta(seconds=2.5), what="two ticks to pass")
    device.start()
    missed = device.wait_for_log("periodic backups missed")
    assert missed["count"] >= 1
    backend.wait(lambda _: len(begun(backend)) > len(known), "the one backup that makes up for them")


def test_edited_settings_win_over_an_earlier_command(
    started: Started, device: AgentProcess, backend: Backend
) -> None:
    """The later change wins: unedited, the command's frame stays; edited, the settings'."""
    started(active=True, activeFrom=START)
    assert announcements(backend) == [frame(True, START)]
    backend.ask("activate", {"from": END})
    device.stop()
    assert announced_again(device, backend) == frame(True, END)
    device.stop()
    device.settings |= {"activeFrom": START, "activeTill": END}
    assert announced_again(device, backend) == frame(True, START, END)
    device.stop()
    device.settings |= {"active": False, "activeFrom": "", "activeTill": ""}
    assert announced_again(device, backend) == frame(False)
    backend.ask("activate", {"from": END})
    device.kill()
    assert announced_again(device, backend) == frame(True, END), "and a command after that wins again"


def test_a_frame_that_edited_settings_begin_runs_at_once_when_its_start_has_passed(
    started: Started, device: AgentProcess, backend: Backend
) -> None:
    """What the frame before it had dealt with says nothing about the new one."""
    started()
    backend.ask("activate", {})
    finished(backend, 1)
    device.stop()
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    device.settings["activeFrom"] = an_hour_ago.isoformat()
    device.start()
    finished(backend, 2)


def test_a_tick_while_a_job_runs_is_skipped_and_logged(
    started: Started, device: AgentProcess, backend: Backend
) -> None:
    """It neither waits nor disturbs; the next one is as good."""
    started(period="300ms", storage_maxStaged=100)
    with stalling() as place:
        backend.ask("backup", {"correlationID": "long", "options": {"https.url": place.url}})
        assert place.reached.wait(20)
        backend.ask("activate", {})
        skipped = device.wait_for_log("periodic backup skipped")
        assert skipped["reason"] == "Backup operation is currently in progress!"
        assert begun(backend) == ["long"]
        place.release.set()
        assert backend.ended("long")["state"] == "BACKUP_FINISHED"
    finished(backend, 2)


def test_a_periodic_backup_runs_backup_cmd(device: AgentProcess, started: Started, backend: Backend) -> None:
    """Under the id that the twin is told."""
    tell = 'echo "$EDGE_BACKUP_CORRELATION_ID" >> "$work/told"; echo dump > dump'
    started(backupCmd=script(device, "collect.sh", tell))
    backend.ask("activate", {})
    value = backend.wait(lambda m: m[1]["path"] == LAST_OPERATION)[1]["value"]
    assert backend.ended(value["correlationId"])["state"] == "BACKUP_FINISHED"
    assert lines(device) == [value["correlationId"]]
