"""Restores and verifications of snapshots: whatever works with an archive works here."""

import json
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agent.base.job import State
from agent.cli.inspect import inspect
from agent.journal.jobs import JobRecord
from tests.support.fakes import Device
from tests.support.repositories import PASSWORD, DirectoryObjects, foreign_lock, restic
from tests.support.settings_files import private_file


def texts(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


NUMBERS = count()
BEFORE = {"file": "content", "sub/other": "more"}


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """With a repository on a stick, in which there is one snapshot."""
    credentials = tmp_path / "credentials.json"
    private_file(credentials, json.dumps({"password": PASSWORD}))
    (tmp_path / "usb").mkdir()
    settings = {
        "targets.usb.path": str(tmp_path / "usb"),
        "stores.stick.provider": "local",
        "stores.stick.options": '{"local.target": "usb"}',
        "stores.stick.credentials": str(credentials),
        "stores.stick.format": "repository",
        "stores.stick.prefix": "of/{device}",
        "verify.period": "168h",
        "verify.store": "stick",
        "verify.maxSize": "250000",
        "retention.keepLast": "2",
    }
    device = Device(tmp_path, settings)
    (device.data / "sub").mkdir()
    for name, text in BEFORE.items():
        (device.data / name).write_text(text)
    assert done(device, "backup", backup_store="stick").state == State.FINISHED
    yield device
    device.close()


def done(device: Device, operation: str, **options: str) -> JobRecord:
    """Ask for an operation with these options, whose keys have `_` for dots; return its end."""
    given = {key.replace("_", ".", 1): text for key, text in options.items()}
    correlation_id = f"X{next(NUMBERS)}"
    value = {"correlationId": correlation_id, "options": given}
    answer = device.command(operation, value, request_id="", header="h")[0][1]
    assert answer["status"] == 204, answer
    device.finish()
    return next(device.journal.jobs.newest())


def snapshots(tmp_path: Path) -> list[str]:
    (repository,) = (tmp_path / "usb/of").iterdir()
    return [each["id"] for each in json.loads(restic(repository, "snapshots", "--json"))]


def test_the_newest_snapshot_comes_back(device: Device) -> None:
    (device.data / "file").write_text("damaged")
    (device.data / "sub/other").unlink()
    (device.data / "new").write_text("not in the snapshot")
    told = done(device, "restore", restore_store="stick")
    assert (told.state, told.status_code) == (State.FINISHED, "")
    assert texts(device.data) == {**BEFORE, "new": "not in the snapshot"}
    done(device, "restore", restore_store="stick", restore_mode="exact")
    assert texts(device.data) == BEFORE


def test_an_earlier_snapshot_is_named_by_its_id(device: Device, tmp_path: Path) -> None:
    (device.data / "file").write_text("later")
    done(device, "backup", backup_store="stick")
    first, second = snapshots(tmp_path)
    done(device, "restore", restore_store="stick", restore_archive=first[:8])
    assert texts(device.data) == BEFORE
    done(device, "restore", restore_store="stick", restore_archive=second)
    assert texts(device.data) == {**BEFORE, "file": "later"}
    told = done(device, "restore", restore_store="stick", restore_archive="00000000")
    assert (told.state, told.status_code) == (State.FAILED, "not-found")


def test_single_paths_come_back(device: Device) -> None:
    for name in BEFORE:
        (device.data / name).write_text("damaged")
    done(device, "restore", restore_store="stick", restore_paths="sub/other")
    assert texts(device.data) == {"file": "damaged", "sub/other": "more"}


def test_a_preview_changes_nothing_until_it_is_finalized(device: Device) -> None:
    (device.data / "file").write_text("damaged")
    value = {"correlationId": "P", "options": {"restore.store": "stick", "restore.preview": "true"}}
    assert device.command("restore", value, request_id="r", header="h")[0][1]["status"] == 204
    device.finish()
    assert (device.data / "file").read_text() == "damaged"
    assert device.command("finalize", {}, request_id="f", header="h")[0][1]["status"] == 204
    device.finish()
    assert texts(device.data) == BEFORE


def test_a_snapshot_is_verified_whole(device: Device, tmp_path: Path) -> None:
    told = done(device, "verify", restore_store="stick")
    assert (told.state, told.status_code) == (State.FINISHED, "")
    for pack in [path for path in (tmp_path / "usb").rglob("data/*/*") if path.is_file()]:
        content = bytearray(pack.read_bytes())
        content[40] ^= 1
        pack.chmod(0o600)
        pack.write_bytes(content)
    told = done(device, "verify", restore_store="stick")
    assert (told.state, told.status_code) == (State.FAILED, "repository-broken")


def test_a_periodic_verification_reads_a_sample_of_a_large_snapshot(device: Device, tmp_path: Path) -> None:
    """It reads as much as `verify.maxSize` allows, and says how much that was."""
    for number in range(3):
        (device.data / f"night {number}").write_bytes(os.urandom(100_000))
        done(device, "backup", backup_store="stick")
    assert device.service.engine.drills.drill()
    device.finish()
    told = next(device.journal.jobs.newest())
    assert (told.kind, told.state) == ("verify", State.FINISHED)
    assert told.message.startswith("a sample was read: 20")
    assert done(device, "verify", restore_store="stick").message == "", "a command reads all"


def test_the_snapshot_of_another_device_needs_a_word(device: Device, tmp_path: Path) -> None:
    (repository,) = (tmp_path / "usb/of").iterdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_text("another device's")
    restic(repository, "backup", "--host", "other", str(tmp_path / "other"))
    foreign = snapshots(tmp_path)[-1]
    told = done(device, "restore", restore_store="stick", restore_archive=foreign)
    assert (told.state, told.status_code) == (State.FAILED, "foreign-archive")
    assert texts(device.data) == BEFORE
    done(device, "restore", restore_store="stick", restore_archive=foreign, restore_foreign="true")
    assert texts(device.data) == {**BEFORE, "file": "another device's"}


def test_a_device_that_lost_its_storage_finds_its_snapshot(device: Device, tmp_path: Path) -> None:
    """The password and the id are enough: no journal, no state."""
    (tmp_path / "storage").rename(tmp_path / "lost")
    (device.data / "file").write_text("damaged")
    device.restart()
    told = done(device, "restore", restore_store="stick")
    assert told.state == State.FINISHED
    assert texts(device.data) == BEFORE


def test_nothing_temporary_is_left(device: Device, tmp_path: Path) -> None:
    done(device, "restore", restore_store="stick")
    done(device, "verify", restore_store="stick")
    states = tmp_path / "storage/repositories"
    assert [path.name for path in states.iterdir() if path.is_file()] == []


def test_inspect_shows_a_snapshot(
    device: Device, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "config.json"
    given = device.settings
    settings.write_text(
        json.dumps(
            {
                "storage": str(given.storage),
                "dir": str(device.data),
                "targets": {"usb": {"path": str(tmp_path / "usb")}},
                "stores": {
                    "stick": {
                        "provider": "local",
                        "options": {"local.target": "usb"},
                        "credentials": os.fspath(tmp_path / "credentials.json"),
                        "format": "repository",
                        "prefix": "of/{device}",
                    }
                },
            }
        )
    )
    monkeypatch.chdir(tmp_path)
    (name,) = snapshots(tmp_path)
    arguments = ["--store", "stick", "--configFile", str(settings), "--files"]
    for more in ([], ["-o", f"restore.archive={name[:10]}"]):
        assert inspect([*arguments, *more]) == 0
        shown = capsys.readouterr().out
        assert "sub/other" in shown
        assert str(device.data) in shown


def test_what_the_backup_excluded_stays_in_a_restore_that_replaces(device: Device) -> None:
    """Its patterns are in the snapshot."""
    (device.data / "cache").write_text("excluded")
    done(device, "backup", backup_store="stick", backup_exclude="cache")
    (device.data / "cache").write_text("newer")
    (device.data / "new").write_text("not in the snapshot")
    done(device, "restore", restore_store="stick", restore_mode="replace")
    assert texts(device.data) == {**BEFORE, "cache": "newer"}
    done(device, "restore", restore_store="stick", restore_mode="exact")
    assert texts(device.data) == BEFORE


def test_without_a_repository_the_restore_says_so(device: Device, tmp_path: Path) -> None:
    (tmp_path / "usb/of").rename(tmp_path / "elsewhere")
    told = done(device, "restore", restore_store="stick")
    assert (told.state, told.status_code) == (State.FAILED, "not-found")
    assert told.message.startswith("there is no repository at local:usb/of/")


# -- retention


def pruned(device: Device, **value: bool) -> dict[str, Any]:
    """Let the device prune; return what it says of the store."""
    asked = device.locally("prune", value or None)
    device.finish()
    assert asked.done(20)
    places = {each["place"]: each for each in asked.result()["places"]}
    found: dict[str, Any] = places["store stick"]
    return found


def status(device: Device) -> dict[str, Any]:
    asked = device.locally("status")
    assert asked.done(20)
    found: dict[str, Any] = asked.result()
    return found


def saved_again(device: Device, text: str) -> None:
    (device.data / "file").write_text(text * 3000)
    assert done(device, "backup", backup_store="stick").state == State.FINISHED


def test_retention_forgets_snapshots_by_the_rules_of_archives(device: Device, tmp_path: Path) -> None:
    """And gives back the room; the history says which are gone."""
    for text in ("a1", "b2", "c3"):
        saved_again(device, text)
    first, second, third, fourth = snapshots(tmp_path)
    told = pruned(device, dryRun=True)
    assert (told["removed"], told["kept"]) == ([first, second], 2)
    assert told["freed"] > 0
    assert len(snapshots(tmp_path)) == 4
    told = pruned(device)
    assert (told["removed"], told["problem"]) == ([first, second], "")
    assert snapshots(tmp_path) == [third, fourth]
    (repository,) = (tmp_path / "usb/of").iterdir()
    restic(repository, "check", "--read-data")
    gone = [each.facts.get("removed", False) for each in device.service.engine.made.all().ended]
    assert gone == [False, False, True, True]
    done(device, "restore", restore_store="stick", restore_archive=third)
    assert (device.data / "file").read_text() == "b2" * 3000


def test_status_says_when_old_snapshots_cannot_go(device: Device, tmp_path: Path) -> None:
    """A restic elsewhere died with its lock; the next prune that succeeds clears it."""
    for text in ("a1", "b2"):
        saved_again(device, text)
    (repository,) = (tmp_path / "usb/of").iterdir()
    lock = foreign_lock(DirectoryObjects(repository), exclusive=True)
    told = pruned(device)
    assert (told["failed"], told["retryable"], told["removed"]) == (True, True, [])
    assert "locked the repository" in status(device)["retention"]["store stick"]
    (repository / "locks" / lock).unlink()
    assert len(pruned(device)["removed"]) == 1
    assert "retention" not in status(device)


def test_a_repository_that_is_not_made_yet_has_nothing_to_remove(device: Device, tmp_path: Path) -> None:
    """A new device prunes every day, also before its first backup."""
    (tmp_path / "usb/of").rename(tmp_path / "elsewhere")
    told = pruned(device)
    assert (told["removed"], told["problem"], told["failed"]) == ([], "", False)
    assert not list((tmp_path / "usb").iterdir())


# -- another password


def works(device: Device, text: str) -> None:
    """A backup, a restore and a prune of the device succeed."""
    saved_again(device, text)
    (device.data / "file").write_text("damaged")
    assert done(device, "restore", restore_store="stick").state == State.FINISHED
    assert (device.data / "file").read_text() == text * 3000
    assert pruned(device)["problem"] == ""


@pytest.mark.slow
def test_another_password_is_rolled_out_by_the_file_of_credentials(device: Device, tmp_path: Path) -> None:
    """Both keys open the repository meanwhile, so no job fails, whenever the device gets its new file."""
    (repository,) = (tmp_path / "usb/of").iterdir()
    (tmp_path / "new").write_text("new password")
    restic(repository, "key", "add", "--new-password-file", str(tmp_path / "new"))
    works(device, "old password")
    (tmp_path / "credentials.json").write_text(json.dumps({"password": "new password"}))
    works(device, "new password")
    new = {"RESTIC_PASSWORD": "new password"}
    keys = json.loads(restic(repository, "key", "list", "--json", environment=new))
    (old,) = [each["id"] for each in keys if not each["current"]]
    restic(repository, "key", "remove", old, environment=new)
    works(device, "new alone")
    restic(repository, "check", "--read-data", environment=new)
    (tmp_path / "credentials.json").write_text(json.dumps({"password": PASSWORD}))
    told = done(device, "backup", backup_store="stick")
    assert (told.state, told.status_code) == (State.FAILED, "wrong-key")
    assert PASSWORD not in told.message
