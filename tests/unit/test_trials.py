"""A restore on trial stays when it is confirmed and the device is well; else the old data comes back."""

import os
import shutil
import threading
from pathlib import Path

import pytest

from tests.support.fakes import Device
from tests.support.restoring import is_clean
from tests.support.trees import differences
from tests.support.trials import (
    FINISHED,
    PLACE,
    STARTED,
    WITHIN,
    ask,
    data,
    home,
    is_new,
    on_trial,
    states,
    until_trial,
)
from tests.support.waiting import wait_until


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
