"""A restore on trial is found again after a crash, and goes on or goes back."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.base.job import COMMITTED, UNCONFIRMED, WORKING
from agent.base.operations import Face
from agent.jobs import restore_recovery
from agent.restore import flow
from tests.support.fakes import Device
from tests.support.journals import sql
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


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    device = home(tmp_path)
    yield device
    device.close()


def killed(device: Device) -> None:
    """As after a kill: the worker that waits is of another life, and does nothing more."""
    device.service.engine.interrupt("killed")
    while device.service.engine.confirmations.waiting:
        device.take()
    device.restart()


def test_over_a_restart_it_goes_on_with_the_time_that_is_left(device: Device) -> None:
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


def test_time_that_ran_out_while_the_agent_was_away_takes_it_back(device: Device) -> None:
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


def test_a_confirm_that_was_answered_counts_after_a_crash(device: Device) -> None:
    on_trial(device)
    killed(device)
    (job,) = device.journal.jobs.unfinished()
    device.journal.checkpoints.keep(job.job.id, "restore.confirmed", "yes")
    device.service.engine.begin()
    device.finish()
    assert (states(device), is_new(device)) == ([STARTED, FINISHED], True)


def test_a_cancel_that_was_answered_leads_back_after_a_crash(device: Device) -> None:
    before = data(device)
    on_trial(device)
    value = {"correlationId": "T", "statusCode": "mine", "message": "no good"}
    admitted = device.service.engine.operations().admit("cancel", value, Face.MQTT)
    with device.journal.unit():
        admitted.record()
    killed(device)
    assert states(device) == [STARTED, ("RESTORE_FAILED", "mine")]
    assert differences(before, data(device)) == []


def test_a_crash_between_the_tidying_up_and_the_end_finds_it_finished(device: Device) -> None:
    """There is nothing in the target any more to go on with."""
    on_trial(device)
    killed(device)
    (job,) = device.journal.jobs.unfinished()
    shutil.rmtree(device.data / f".edge-backup-{job.job.id}")
    sql(device.journal.path, "UPDATE checkpoints SET key = ? WHERE key = ?", [COMMITTED, WORKING])
    device.restart()
    device.finish()
    assert (states(device), is_new(device)) == ([STARTED, FINISHED], True)


def test_a_crash_on_the_way_back_ends_there_and_says_why(device: Device) -> None:
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


def test_a_trial_that_was_taken_back_before_a_crash_is_told_to_be_old(device: Device) -> None:
    """The working directory may be gone already, and the end not written yet."""
    on_trial(device)
    assert is_new(device)
    ask(device, "cancel", {"correlationId": "T"})
    wait_until(lambda: is_clean(device.data), what="the way back")
    device.restart()
    assert not is_new(device)
    (_, last) = device.values()
    assert (last["state"], last["statusCode"]) == ("RESTORE_FAILED", "cancelled")


@pytest.mark.parametrize("is_on_trial", [False, True])
def test_a_cancelled_restore_ends_in_time_and_the_recovery_brings_back_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_on_trial: bool
) -> None:
    """400,000 replaced files took 12 s. The end says it, no other job goes there, the commands come last."""
    monkeypatch.setattr(flow, "PATIENCE_S", -1.0)
    monkeypatch.setattr(restore_recovery, "AGAIN_S", 0.05)
    told, ready = tmp_path / "told", tmp_path / "ready"
    after = f"cat config/app.json >> {told}; test -e {ready} && exit; touch {ready}; sleep 60"
    device = home(
        tmp_path, beforeRestoreCmd="true", afterRestoreCmd="true" if is_on_trial else f"sh -c '{after}'"
    )
    before = data(device)
    if is_on_trial:
        on_trial(device)
    else:
        ask(device, "restore", {"correlationId": "T", "options": PLACE})
        wait_until(ready.exists, what="afterRestoreCmd")
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
