"""A restore on trial stays when it is confirmed and the device is well; else the old data comes back."""

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.base.job import COMMITTED, UNCONFIRMED, WORKING
from agent.base.operations import Face
from agent.jobs import restore_recovery
from agent.restore import flow
from tests.support.fakes import Device
from tests.support.journals import sql
from tests.support.restoring import is_clean
from tests.support.trees import Dir, File, Spec, differences, make_tree, snapshot, write_zip
from tests.support.waiting import wait_until

OLD: Spec = {
    "config": Dir(),
    "config/app.json": File(b"old"),
    "config/sub": Dir(0o750),
    "config/sub/file": File(b"deep"),
    "mine": File(b"mine"),
}
NEW: Spec = {
    "config": Dir(),
    "config/app.json": File(b"new"),
    "config/sub": Dir(0o700),
    "config/sub/file": File(b"other"),
    "added": Dir(),
    "added/file": File(b"added"),
}
PLACE = {"storage.provider": "local", "local.name": "it.zip"}
WITHIN = PLACE | {"restore.confirmWithin": "10m"}


def home(tmp_path: Path, **settings: str) -> Device:
    device = Device(tmp_path, {name.replace("__", "."): value for name, value in settings.items()})
    make_tree(device.data, OLD)
    write_zip(device.settings.storage / "archives" / "it.zip", NEW)
    return device


def ask(device: Device, operation: str, value: Any = None) -> dict[str, Any]:
    said = device.command(operation, value, request_id=operation, header=os.urandom(4).hex())
    return dict(said[0][1])


def on_trial(device: Device, options: dict[str, str] | None = None) -> None:
    assert ask(device, "restore", {"correlationId": "T", "options": options or WITHIN})["status"] == 204
    until_trial(device)


def until_trial(device: Device) -> None:
    while not device.service.engine.confirmations.waiting:
        device.take()


def states(device: Device) -> list[tuple[str, str]]:
    return [(value["state"], value["statusCode"]) for value in device.values()]


def data(device: Device) -> dict[str, Any]:
    found = snapshot(device.data)
    return {name: one for name, one in found.items() if name and not name.startswith(".edge-backup-")}


def is_new(device: Device) -> bool:
    return (device.data / "config/app.json").read_bytes() == b"new"


STARTED, FINISHED = ("RESTORE_STARTED", ""), ("RESTORE_FINISHED", "")


def test_it_stays_when_it_is_confirmed_and_is_told_only_then(tmp_path: Path) -> None:
    device = home(tmp_path)
    on_trial(device)
    assert (states(device), is_new(device), is_clean(device.data)) == ([STARTED], True, False)
    job = ask(device, "status")["value"]["job"]
    assert job["phase"] == "trial"
    assert 590 < job["remainingSeconds"] <= 600
    for operation in ("backup", "restore"):
        assert ask(device, operation, {"options": PLACE})["value"]["status"] == 409
    assert ask(device, "confirm", {"correlationId": "T"})["status"] == 204
    device.finish()
    assert (states(device), is_new(device), is_clean(device.data)) == ([STARTED, FINISHED], True, True)
    assert ask(device, "describe", {"correlationId": "T"})["value"]["contentBytes"] == 13
    device.close()


def test_without_a_confirm_the_old_data_comes_back(tmp_path: Path) -> None:
    device = home(tmp_path)
    before = data(device)
    on_trial(device, PLACE | {"restore.confirmWithin": "1s"})
    device.finish()
    assert states(device) == [STARTED, ("RESTORE_FAILED", "not-confirmed")]
    assert device.values()[-1]["message"] == "not confirmed within 1s: the old data is back"
    assert differences(before, data(device)) == []
    assert is_clean(device.data)
    late = ask(device, "confirm", {"correlationId": "T"})["value"]
    assert late["status"] == 404
    assert late["message"].startswith(
        "no restore with id 'T' waits for a confirmation; that restore was reverted: not conf"
    )
    device.close()


def test_a_cancel_takes_it_back_at_once(tmp_path: Path) -> None:
    device = home(tmp_path)
    before = data(device)
    on_trial(device)
    value = {"correlationId": "T", "statusCode": "mine", "message": "no good"}
    assert ask(device, "cancel", value)["status"] == 204
    assert "too late" in ask(device, "confirm", {"correlationId": "T"})["value"]["message"]
    device.finish()
    assert states(device) == [STARTED, ("RESTORE_FAILED", "mine")]
    assert differences(before, data(device)) == []
    device.close()


def test_there_is_nothing_to_confirm_before_and_after(tmp_path: Path) -> None:
    device = home(tmp_path)
    assert ask(device, "confirm")["value"]["message"] == "no restore waits for a confirmation"
    on_trial(device)
    assert ask(device, "confirm", {"correlationId": "other"})["value"]["status"] == 404
    ask(device, "confirm")
    device.finish()
    again = ask(device, "confirm", {"correlationId": "T"})["value"]
    assert again["message"] == "no restore with id 'T' waits for a confirmation"
    device.close()


def test_a_health_command_alone_decides_when_nobody_has_to_confirm(tmp_path: Path) -> None:
    device = home(tmp_path, restore__healthCmd="grep -q new config/app.json")
    ask(device, "restore", {"correlationId": "T", "options": PLACE})
    device.finish()
    assert (states(device), is_new(device)) == ([STARTED, FINISHED], True)
    device.close()


@pytest.mark.parametrize("options", [PLACE, WITHIN])
def test_a_device_that_is_not_well_gets_its_old_data_back(tmp_path: Path, options: dict[str, str]) -> None:
    device = home(tmp_path, restore__healthCmd="sh -c 'echo the pump stands still; exit 3'")
    before = data(device)
    ask(device, "restore", {"correlationId": "T", "options": options})
    device.finish()
    assert states(device) == [STARTED, ("RESTORE_FAILED", "health-failed")]
    message = device.values()[-1]["message"]
    assert message == "restore.healthCmd 'sh' ended with exit status 3: the pump stands still"
    assert differences(before, data(device)) == []
    device.close()


def test_a_confirm_does_not_spare_the_health_command(tmp_path: Path) -> None:
    """Both are asked for: RESTORE_FINISHED says that the device is well, too."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    device = home(tmp_path, restore__healthCmd=f"sh -c 'read word < {ready}; test $word = well'")
    before = data(device)
    on_trial(device)
    assert ask(device, "confirm", {"correlationId": "T"})["status"] == 204
    assert states(device) == [STARTED]
    ready.write_text("ill\n")
    device.finish()
    assert states(device) == [STARTED, ("RESTORE_FAILED", "health-failed")]
    assert differences(before, data(device)) == []
    device.close()


def test_a_cancel_does_not_wait_for_the_health_command(tmp_path: Path) -> None:
    device = home(tmp_path, restore__healthCmd="sleep 60")
    on_trial(device)
    ask(device, "cancel", {"correlationId": "T"})
    device.finish()
    assert states(device) == [STARTED, ("RESTORE_FAILED", "cancelled")]
    assert not is_new(device)
    device.close()


def test_the_commands_of_the_owner_are_run_around_the_way_back(tmp_path: Path) -> None:
    told = tmp_path / "told"
    device = home(
        tmp_path,
        beforeRestoreCmd=f"sh -c 'echo before $(cat config/app.json) >> {told}'",
        afterRestoreCmd=f"sh -c 'echo after $(cat config/app.json) >> {told}'",
    )
    on_trial(device)
    ask(device, "cancel", {"correlationId": "T"})
    device.finish()
    assert told.read_text().split("\n")[:-1] == ["before old", "after new", "before new", "after old"]
    device.close()


def test_what_others_made_of_the_data_meanwhile_is_no_obstacle(tmp_path: Path) -> None:
    """On trial the data is in use: files come and go, and so do directories."""
    device = home(tmp_path)
    before = data(device)
    on_trial(device)
    for name in ("config/sub/file", "added/file"):
        (device.data / name).unlink()
    (device.data / "config/sub").rmdir()
    (device.data / "config/sub").write_text("a file now")
    (device.data / "config/app.json").unlink()
    (device.data / "config/app.json").mkdir()
    (device.data / "config/app.json/inside").touch()
    (device.data / "added/later").write_text("x")
    ask(device, "cancel", {"correlationId": "T"})
    device.finish()
    assert states(device)[-1] == ("RESTORE_FAILED", "cancelled")
    found = data(device)
    before["config/sub"] = before["config/sub"]._replace(mtime_ns=found["config/sub"].mtime_ns)
    assert differences(before, found) == []
    assert is_clean(device.data)
    device.close()


def killed(device: Device) -> None:
    """As after a kill: the worker that waits is of another life, and does nothing more."""
    device.service.engine.interrupt("killed")
    while device.service.engine.confirmations.waiting:
        device.take()
    device.restart()


def test_over_a_restart_it_goes_on_with_the_time_that_is_left(tmp_path: Path) -> None:
    device = home(tmp_path)
    on_trial(device)
    killed(device)
    assert (states(device), is_new(device)) == ([STARTED], True)
    device.service.engine.begin()
    until_trial(device)
    assert ask(device, "status")["value"]["job"]["remainingSeconds"] <= 600
    assert ask(device, "backup", {"options": PLACE})["value"]["status"] == 409
    ask(device, "confirm", {"correlationId": "T"})
    device.finish()
    assert (states(device), is_new(device), is_clean(device.data)) == ([STARTED, FINISHED], True, True)
    assert ask(device, "describe", {"correlationId": "T"})["value"]["contentBytes"] == 13
    device.close()


def test_time_that_ran_out_while_the_agent_was_away_takes_it_back(tmp_path: Path) -> None:
    device = home(tmp_path)
    before = data(device)
    on_trial(device)
    killed(device)
    sql(
        device.journal.path,
        "UPDATE checkpoints SET value = json_set(value, '$.countdown[0]', 0.001) WHERE key = ?",
        [UNCONFIRMED],
    )
    device.service.engine.begin()
    device.finish()
    assert states(device) == [STARTED, ("RESTORE_FAILED", "not-confirmed")]
    assert differences(before, data(device)) == []
    device.close()


def test_a_confirm_that_was_answered_counts_after_a_crash(tmp_path: Path) -> None:
    device = home(tmp_path)
    on_trial(device)
    killed(device)
    (job,) = device.journal.jobs.unfinished()
    device.journal.checkpoints.keep(job.job.id, "restore.confirmed", "yes")
    device.service.engine.begin()
    device.finish()
    assert (states(device), is_new(device)) == ([STARTED, FINISHED], True)
    device.close()


def test_a_cancel_that_was_answered_leads_back_after_a_crash(tmp_path: Path) -> None:
    device = home(tmp_path)
    before = data(device)
    on_trial(device)
    value = {"correlationId": "T", "statusCode": "mine", "message": "no good"}
    admitted = device.service.engine.operations().admit("cancel", value, Face.MQTT)
    with device.journal.unit():
        admitted.record()
    killed(device)
    assert states(device) == [STARTED, ("RESTORE_FAILED", "mine")]
    assert differences(before, data(device)) == []
    device.close()


def test_a_crash_between_the_tidying_up_and_the_end_finds_it_finished(tmp_path: Path) -> None:
    """There is nothing in the target any more to go on with."""
    device = home(tmp_path)
    on_trial(device)
    killed(device)
    (job,) = device.journal.jobs.unfinished()
    shutil.rmtree(device.data / f".edge-backup-{job.job.id}")
    sql(device.journal.path, "UPDATE checkpoints SET key = ? WHERE key = ?", [COMMITTED, WORKING])
    device.restart()
    device.finish()
    assert (states(device), is_new(device)) == ([STARTED, FINISHED], True)
    device.close()


def test_a_crash_on_the_way_back_ends_there_and_says_why(tmp_path: Path) -> None:
    device = home(tmp_path)
    before = data(device)
    on_trial(device)
    killed(device)
    (job,) = device.journal.jobs.unfinished()
    verdict = '["not-confirmed", "not confirmed within 10m: the old data is back"]'
    device.journal.checkpoints.keep(job.job.id, "restore.verdict", verdict)
    device.restart()
    device.service.engine.begin()
    device.finish()
    assert states(device) == [STARTED, ("RESTORE_FAILED", "not-confirmed")]
    assert differences(before, data(device)) == []
    device.close()


def test_a_preview_may_be_finalized_on_trial(tmp_path: Path) -> None:
    device = home(tmp_path)
    before = data(device)
    ask(device, "restore", {"correlationId": "P", "options": WITHIN | {"restore.preview": "true"}})
    device.finish()
    assert ask(device, "finalize")["status"] == 204
    until_trial(device)
    assert is_new(device)
    ask(device, "cancel", {"correlationId": "P"})
    device.finish()
    assert states(device) == [STARTED, ("RESTORE_FAILED", "cancelled")]
    assert differences(before, data(device)) == []
    device.close()


@pytest.mark.parametrize("within", ["soon", "0s", "-1m", "999ms", "10"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, within: str) -> None:
    device = home(tmp_path)
    options = PLACE | {"restore.confirmWithin": within}
    answer = ask(device, "restore", {"options": options})["value"]
    assert answer["status"] == 400
    assert answer["message"].startswith("option 'restore.confirmWithin' must be a duration of at least 1s")
    device.close()


def test_where_a_command_restores_there_is_no_way_back(tmp_path: Path) -> None:
    device = home(tmp_path, restoreCmd="/bin/true")
    answer = ask(device, "restore", {"options": WITHIN})["value"]
    assert (answer["status"], "'restore.confirmWithin'" in answer["message"]) == (400, True)
    device.close()


def remove_working_directory(device: Device) -> None:
    (work,) = device.data.glob(".edge-backup-*")
    shutil.rmtree(work)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_what_cannot_be_taken_back_is_told_to_be_new(tmp_path: Path, is_restarted: bool) -> None:
    """Somebody removes the working directory: the old data went with it, and was told to be back."""
    device = home(tmp_path)
    on_trial(device)
    remove_working_directory(device)
    if is_restarted:
        device.restart()
    else:
        assert ask(device, "cancel", {"correlationId": "T"})["status"] == 204
        device.finish()
    (_, last) = device.values()
    assert (last["state"], last["statusCode"]) == ("RESTORE_FAILED", "io-error")
    assert "the new data is in place" in last["message"]
    assert (is_new(device), is_clean(device.data)) == (True, True)
    assert not device.journal.jobs.unfinished()
    device.close()


@pytest.mark.parametrize("is_restarted", [False, True])
def test_what_is_confirmed_stays_also_without_its_working_directory(
    tmp_path: Path, is_restarted: bool
) -> None:
    device = home(tmp_path)
    on_trial(device)
    (unfinished,) = device.journal.jobs.unfinished()
    worker = f"work-{unfinished.job.id}"
    remove_working_directory(device)
    assert ask(device, "confirm", {"correlationId": "T"})["status"] == 204
    if is_restarted:
        wait_until(lambda: worker not in thread_names(), what="the worker, which a real crash ends")
        device.restart()
    else:
        device.finish()
    assert states(device) == [STARTED, FINISHED]
    assert (is_new(device), is_clean(device.data)) == (True, True)
    device.close()


def thread_names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_a_trial_that_was_taken_back_before_a_crash_is_told_to_be_old(tmp_path: Path) -> None:
    """The working directory may be gone already, and the end not written yet."""
    device = home(tmp_path)
    on_trial(device)
    assert is_new(device)
    ask(device, "cancel", {"correlationId": "T"})
    wait_until(lambda: is_clean(device.data), what="the way back")
    device.restart()
    assert not is_new(device)
    (_, last) = device.values()
    assert (last["state"], last["statusCode"]) == ("RESTORE_FAILED", "cancelled")
    device.close()


@pytest.mark.parametrize("is_on_trial", [False, True])
def test_a_cancelled_restore_ends_in_time_and_the_recovery_brings_back_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_on_trial: bool
) -> None:
    """400,000 replaced files took 12 s. The end says it, no other job goes there, the commands come last."""
    monkeypatch.setattr(flow, "PATIENCE_S", -1.0)
    monkeypatch.setattr(restore_recovery, "AGAIN_S", 0.05)
    told, ready = tmp_path / "told", tmp_path / "ready"
    after = (
        f"cat config/app.json >> {told}; test -e {ready} || touch {ready} && test -e {ready}.go || sleep 60"
    )
    device = home(
        tmp_path, beforeRestoreCmd="true", afterRestoreCmd="true" if is_on_trial else f"sh -c '{after}'"
    )
    before = data(device)
    if is_on_trial:
        on_trial(device)
    else:
        ask(device, "restore", {"correlationId": "T", "options": PLACE})
        wait_until(ready.exists, what="afterRestoreCmd")
        (tmp_path / "ready.go").touch()
    ask(device, "cancel", {"correlationId": "T", "statusCode": "enough", "message": "no more"})
    device.finish()
    (_, last) = device.values()
    assert (last["state"], last["statusCode"]) == ("RESTORE_FAILED", "enough")
    assert last["message"] == "no more; the old data is being put back"
    refused = ask(device, "backup", {"options": PLACE})
    assert (refused["status"], "still being recovered" in refused["value"]["message"]) == (409, True)
    while not is_clean(device.data) or (told.exists() and told.read_bytes() != b"newold"):
        device.take()
    assert differences(before, data(device)) == []
    device.close()


@pytest.mark.parametrize("is_on_trial", [False, True])
def test_after_a_crash_the_next_start_brings_back_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_on_trial: bool
) -> None:
    """Before that a cancelled restore is half old and half new, as its plan says."""
    monkeypatch.setattr(flow, "PATIENCE_S", -1.0)
    monkeypatch.setattr(restore_recovery.Recovery, "look_after", lambda _recovery, _job_id: None)
    ready = tmp_path / "ready"
    hang = "" if is_on_trial else f"sh -c 'touch {ready}; sleep 60'"
    device = home(tmp_path, afterRestoreCmd=hang)
    before = data(device)
    ask(device, "restore", {"correlationId": "T", "options": WITHIN if is_on_trial else PLACE})
    if is_on_trial:
        until_trial(device)
    else:
        wait_until(ready.exists, what="afterRestoreCmd")
    ask(device, "cancel", {"correlationId": "T"})
    device.finish()
    assert is_new(device)
    device.restart()
    assert differences(before, data(device)) == []
    assert is_clean(device.data)
    assert [state for state, _ in states(device)] == ["RESTORE_STARTED", "RESTORE_FAILED"]
    device.close()
