"""A preview is made, waits, and is finalized or discarded; nobody is told of it, but whoever asks."""

import os
from pathlib import Path
from typing import Any

import pytest

from agent.base.clock import BootClock, Countdown
from tests.support.fakes import Device
from tests.support.restoring import is_clean
from tests.support.trees import Dir, File, Spec, differences, make_tree, snapshot, write_zip

OLD: Spec = {"config": Dir(), "config/app.json": File(b"old"), "mine": File(b"mine")}
NEW: Spec = {"config": Dir(), "config/app.json": File(b"new"), "added": File(b"added")}
PREVIEW = {"storage.provider": "local", "local.name": "it.zip", "restore.preview": "true"}
KEPT = {"restore.keepPreview": "true"}


def laid_out(device: Device) -> Device:
    make_tree(device.data, OLD)
    write_zip(device.settings.storage / "archives" / "it.zip", NEW)
    return device


@pytest.fixture
def home(device: Device) -> Device:
    """A device with some data, and an archive of other data."""
    return laid_out(device)


def ask(device: Device, operation: str, value: Any = None, header: str = "") -> dict[str, Any]:
    """The value of the answer, or its status where there is none."""
    said = device.command(operation, value, request_id=operation, header=header or os.urandom(4).hex())
    return dict(said[0][1])


def preview(device: Device, **options: str) -> None:
    value = {"correlationId": "P", "options": PREVIEW | options}
    assert ask(device, "restore", value)["status"] == 204
    device.finish()


def shown(device: Device) -> dict[str, Any]:
    return dict(ask(device, "status")["value"].get("preview", {}))


def test_a_preview_says_what_would_change_and_changes_nothing(home: Device) -> None:
    before = snapshot(home.data)
    preview(home)
    found = shown(home)
    assert 3590 < found.pop("secondsLeft") <= 3600
    assert (found.pop("id"), found.pop("startTime")) != ("", "")
    assert found == {
        "correlationId": "P",
        "state": "waiting",
        "added": 1,
        "changed": 1,
        "removed": 0,
        "kept": 1,
        "bytes": 8,
        "lost": [],
        "unexportable": [],
        "archive": "it.zip",
    }
    assert home.values() == []
    after = {name: one for name, one in snapshot(home.data).items() if not name.startswith(".edge-backup-")}
    assert differences(before, after) == []


@pytest.mark.parametrize("asked", [None, {"correlationId": "P"}, {"correlationId": ""}])
def test_finalize_puts_it_back_and_is_told_as_a_restore(home: Device, asked: Any) -> None:
    preview(home)
    assert ask(home, "finalize", asked)["status"] == 204
    home.finish()
    states = [(value["state"], value["correlationId"]) for value in home.values()]
    assert states == [("RESTORE_STARTED", "P"), ("RESTORE_FINISHED", "P")]
    assert (home.data / "config/app.json").read_bytes() == b"new"
    assert (home.data / "mine").read_bytes() == b"mine"
    assert is_clean(home.data)
    assert shown(home) == {}
    entry = ask(home, "describe", {"correlationId": "P"})["value"]
    assert (entry["files"], entry["contentBytes"]) == (2, 8)


def test_finalize_looks_at_the_target_as_it_is_then(home: Device) -> None:
    preview(home, **{"restore.mode": "replace"})
    assert shown(home)["lost"] == ["mine"]
    (home.data / "later").write_bytes(b"not there at the preview")
    ask(home, "finalize")
    home.finish()
    assert sorted(os.listdir(home.data)) == ["added", "config"]


def test_finalize_takes_nothing_away_but_in_what_was_chosen(home: Device) -> None:
    preview(home, **{"restore.mode": "replace", "restore.paths": "config"})
    assert shown(home)["lost"] == []
    ask(home, "finalize")
    home.finish()
    assert (home.data / "config/app.json").read_bytes() == b"new"
    assert sorted(os.listdir(home.data)) == ["config", "mine"]


@pytest.mark.parametrize("operation", ["finalize", "discard"])
@pytest.mark.parametrize("asked", [None, {"correlationId": "Q"}])
def test_without_such_a_preview_there_is_a_404(home: Device, operation: str, asked: Any) -> None:
    if asked:
        preview(home)
    answer = ask(home, operation, asked)
    which = " with id 'Q'" if asked else ""
    assert answer["value"] == {
        "status": 404,
        "error": "messages:parameter.invalid",
        "message": f"no preview{which} is waiting",
    }


def test_discard_removes_what_is_unpacked(home: Device) -> None:
    before = snapshot(home.data)
    preview(home)
    assert not is_clean(home.data)
    assert ask(home, "discard", {"correlationId": "P"})["status"] == 204
    home.finish()
    assert differences(before, snapshot(home.data)) == []
    assert (shown(home), home.values()) == ({}, [])
    assert ask(home, "finalize")["status"] == 404


def test_while_one_waits_backups_run_and_restores_do_not(home: Device) -> None:
    preview(home)
    for options in (PREVIEW, {"storage.provider": "local"}):
        refused = ask(home, "restore", {"correlationId": "R", "options": options})["value"]
        assert refused["status"] == 409
        assert refused["message"] == "preview 'P' is waiting: finalize or discard it first"
    assert (
        ask(home, "backup", {"correlationId": "B", "options": {"storage.provider": "local"}})["status"] == 204
    )
    home.finish()
    assert home.values()[-1]["state"] == "BACKUP_FINISHED"
    ask(home, "finalize")
    home.finish()
    assert home.values()[-1]["state"] == "RESTORE_FINISHED"


def test_a_preview_that_fails_says_so_until_the_next_one(home: Device) -> None:
    preview(home, **{"local.name": "nothing.zip"})
    found = shown(home)
    assert (found["state"], found["code"]) == ("failed", "not-found")
    assert "nothing.zip" in found["message"]
    home.restart()
    assert shown(home)["code"] == "not-found"
    assert (is_clean(home.data), home.values()) == (True, [])
    preview(home)
    assert shown(home)["state"] == "waiting"


def test_a_preview_can_be_cancelled_while_it_is_made(home: Device) -> None:
    assert ask(home, "restore", {"correlationId": "P", "options": PREVIEW})["status"] == 204
    assert ask(home, "cancel", {"correlationId": "P"})["status"] == 204
    home.finish()
    assert shown(home)["code"] == "cancelled"
    assert is_clean(home.data)


def test_a_directory_that_was_made_for_a_preview_goes_with_it(home: Device) -> None:
    preview(home, **{"backup.dir": str(home.data / "a/b")})
    assert (home.data / "a/b").is_dir()
    ask(home, "discard")
    home.finish()
    assert not (home.data / "a").exists()


def test_one_that_nobody_finalizes_goes_by_itself(tmp_path: Path) -> None:
    device = laid_out(Device(tmp_path, {"restore.previewTimeout": "50ms"}))
    preview(device)
    while not is_clean(device.data):
        device.take()
    device.finish()
    found = shown(device)
    assert (found["state"], found["code"]) == ("discarded", "expired")
    assert found["message"] == "not finalized within 50ms (restore.previewTimeout)"
    assert ask(device, "finalize")["status"] == 404
    device.close()


def test_a_restart_discards_it(home: Device) -> None:
    before = snapshot(home.data)
    preview(home)
    home.restart()
    assert differences(before, snapshot(home.data)) == []
    assert (shown(home)["state"], shown(home)["code"]) == ("discarded", "interrupted")
    assert home.values() == []


def test_a_restart_keeps_it_when_the_settings_say_so(tmp_path: Path) -> None:
    """Also over a reboot, where what had passed before is known as of the last note."""
    device = laid_out(Device(tmp_path, KEPT))
    preview(device)
    device.restart()
    assert shown(device)["state"] == "waiting"
    ask(device, "finalize")
    device.finish()
    assert (device.data / "config/app.json").read_bytes() == b"new"
    assert device.values()[-1]["state"] == "RESTORE_FINISHED"
    device.close()


def test_a_kept_preview_whose_files_are_gone_fails_when_it_is_finalized(tmp_path: Path) -> None:
    device = laid_out(Device(tmp_path, KEPT))
    preview(device)
    (left,) = device.data.glob(".edge-backup-*")
    left.rename(tmp_path / "elsewhere")
    before = snapshot(device.data)
    ask(device, "finalize")
    device.finish()
    assert (device.values()[-1]["state"], device.values()[-1]["statusCode"]) == ("RESTORE_FAILED", "io-error")
    assert differences(before, snapshot(device.data)) == []
    device.close()


def test_one_that_was_being_made_when_the_agent_died_is_told_to_have_failed(home: Device) -> None:
    assert ask(home, "restore", {"correlationId": "P", "options": PREVIEW})["status"] == 204
    home.finish()
    note = home.journal.notes.read("preview")
    assert note
    home.journal.notes.keep("preview", note.replace('"waiting"', '"running"'))
    home.restart()
    assert (shown(home)["state"], shown(home)["code"]) == ("failed", "interrupted")
    assert is_clean(home.data)


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({}, {"restore.preview": "yes"}, "option 'restore.preview' must be 'true' or 'false'"),
        (
            {"restoreCmd": "/bin/true"},
            {},
            "no 'restore.preview' here: the device's restoreCmd decides what becomes of the files",
        ),
    ],
)
def test_wrong_wishes_are_refused(
    tmp_path: Path, settings: dict[str, str], options: dict[str, str], message: str
) -> None:
    device = laid_out(Device(tmp_path, settings))
    answer = ask(device, "restore", {"correlationId": "P", "options": PREVIEW | options})
    assert answer["value"] == {"status": 400, "error": "messages:parameter.invalid", "message": message}
    device.close()


def test_status_fits_however_long_the_names_are(home: Device) -> None:
    for number in range(20):
        (home.data / (f"{number:02}" + "n" * 200)).touch()
    preview(home, **{"restore.mode": "replace"})
    found = shown(home)
    assert found["removed"] == 21
    assert 0 < len(found["lost"]) < 10
    assert len(home.wire.raw[-1][1]) < 2048


def test_time_is_counted_within_a_boot_and_over_boots() -> None:
    clock = BootClock()
    boot_id, boot_s = clock.now()
    assert 89 < Countdown(100.0, boot_id, boot_s - 10).noted(clock).left_s <= 90
    other = Countdown(boot_s + 50.0, "another boot", 1e9).noted(clock)
    assert 49 < other.left_s <= 50
    assert other.boot_id == boot_id
    assert Countdown(1.0, "another boot", 0.0).noted(clock).left_s in (0.0, pytest.approx(1 - boot_s))
