"""Which archive a restore takes when the command names none: never silently a wrong one."""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.formats.archive_names import archive_name, device_tag
from agent.formats.base import Unlock
from agent.formats.manifest import Manifest
from agent.formats.zip.format import Zip
from agent.transfer.context import Destination
from tests.support.fakes import DEVICE, Device
from tests.support.journals import sql

LOCAL = {"storage.provider": "local"}
TAG = device_tag(DEVICE)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """Has two directories to save, and data sets."""
    for name in ("app", "data"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "what").write_text(name)
    sets = {f"dataSets.{name}.paths": str(tmp_path / name) for name in ("app", "data")}
    device = Device(tmp_path, {"mode": "lax", **sets})
    yield device
    device.close()


def command(device: Device, operation: str, value: dict[str, Any]) -> dict[str, Any]:
    """Send a command that is never taken for a redelivered one, and let it come to its end; the answer."""
    ((_, answer), *_) = device.command(operation, value, request_id=secrets.token_hex(4))
    device.finish()
    return answer


def run(device: Device, operation: str, options: dict[str, str]) -> dict[str, Any]:
    """How the job ended."""
    command(device, operation, {"options": LOCAL | options})
    return dict(device.values()[-1])


def backup(device: Device, directory: Path | None, **options: str) -> str:
    """Save a directory, or what the options say; the archive's name."""
    archives = device.settings.storage / "archives"
    before = set(archives.iterdir())
    ended = run(device, "backup", {"backup.dir": str(directory), **options} if directory else options)
    assert ended["state"] == "BACKUP_FINISHED", ended
    (made,) = set(archives.iterdir()) - before
    return made.name


def restored(device: Device, directory: Path, **options: str) -> tuple[str, str]:
    """Return the content of the directory after a restore, and the answer."""
    (directory / "what").write_text("changed")
    ended = run(device, "restore", {"backup.dir": str(directory), **options})
    return (directory / "what").read_text(), ended["message"]


def test_an_archive_that_is_far_smaller_than_the_last_full_one_is_told(
    device: Device, tmp_path: Path
) -> None:
    """The disk was not mounted last night: a restore replaced all by nothing without a word."""
    (tmp_path / "app" / "much").write_bytes(bytes(100_000))
    full = backup(device, tmp_path / "app")
    (tmp_path / "app" / "much").unlink()
    emptied = [backup(device, tmp_path / "app") for _ in range(2)]
    told = f"'{emptied[-1]}' has far less in it than '{full}', the last full one: is it right?"
    assert restored(device, tmp_path / "app") == ("app", told)
    assert restored(device, tmp_path / "app", **{"restore.archive": emptied[0]}) == ("app", "")


def lose_journal(device: Device) -> None:
    """As after another disk: only the archives are there."""
    sql(device.settings.storage / "journal.db", "DELETE FROM archives")


def redate(device: Device, name: str, when: datetime) -> str:
    """The archive as if it was made at another time; its new name."""
    archives = device.settings.storage / "archives"
    return (archives / name).rename(archives / archive_name(when, TAG)).name


@pytest.mark.parametrize("journal", ["kept", "lost"])
def test_the_newest_archive_of_another_directory_is_not_taken(
    device: Device, tmp_path: Path, journal: str
) -> None:
    backup(device, tmp_path / "app")
    backup(device, tmp_path / "data")
    if journal == "lost":
        lose_journal(device)
    assert restored(device, tmp_path / "app") == ("app", "")


@pytest.mark.parametrize("journal", ["kept", "lost"])
def test_without_an_archive_of_the_directory_nothing_is_chosen(
    device: Device, tmp_path: Path, journal: str
) -> None:
    name = backup(device, tmp_path / "data")
    if journal == "lost":
        lose_journal(device)
    content, message = restored(device, tmp_path / "app")
    assert content == "changed"
    assert message == (
        f"nothing restored: no archive of '{tmp_path}/app' is here, only of '{tmp_path}/data' ('{name}'):"
        " name the one meant"
    )
    assert device.values()[-1]["statusCode"] == "not-found"


@pytest.mark.parametrize("journal", ["kept", "lost"])
def test_an_archive_of_the_directory_above_is_not_taken(device: Device, tmp_path: Path, journal: str) -> None:
    """As restic's `--path` takes the latest of exactly that path: its names would land a level too deep."""
    backup(device, tmp_path / "app")
    (tmp_path / "app" / "what").write_text("newer")
    above = backup(device, tmp_path, **{"backup.exclude": "/storage"})
    if journal == "lost":
        lose_journal(device)
    assert restored(device, tmp_path / "app") == ("app", "")
    assert not (tmp_path / "app" / "app").exists()
    assert above


def test_a_name_says_otherwise(device: Device, tmp_path: Path) -> None:
    name = backup(device, tmp_path / "data")
    assert restored(device, tmp_path / "app", **{"local.name": name}) == ("data", "")


@pytest.mark.parametrize("journal", ["kept", "lost"])
def test_data_sets_are_taken_from_the_newest_archive_that_has_them(
    device: Device, tmp_path: Path, journal: str
) -> None:
    backup(device, None, **{"backup.dataTypes": "app"})
    backup(device, tmp_path / "app")
    backup(device, None, **{"backup.dataTypes": "data"})
    if journal == "lost":
        lose_journal(device)
    (tmp_path / "app" / "what").write_text("changed")
    ended = run(device, "restore", {"restore.dataTypes": "app"})
    assert (ended["state"], (tmp_path / "app" / "what").read_text()) == ("RESTORE_FINISHED", "app")


def test_single_paths_are_not_taken_for_the_whole_directory(device: Device, tmp_path: Path) -> None:
    """With `replace` the rest of the directory would be removed."""
    (tmp_path / "app" / "other").write_text("other")
    backup(device, tmp_path / "app")
    backup(device, tmp_path / "app", **{"backup.paths": "what"})
    (tmp_path / "app" / "other").unlink()
    assert restored(device, tmp_path / "app", **{"restore.mode": "replace"}) == ("app", "")
    assert (tmp_path / "app" / "other").exists()


def test_where_there_are_only_single_paths_they_are_taken(device: Device, tmp_path: Path) -> None:
    backup(device, tmp_path / "app", **{"backup.paths": "what"})
    assert restored(device, tmp_path / "app") == ("app", "")


def test_an_archive_from_the_future_is_passed_over_and_named(device: Device, tmp_path: Path) -> None:
    """The clock was once in 2036; without the journal that archive would be the newest for ever."""
    future = redate(device, backup(device, tmp_path / "app"), datetime(2036, 1, 1, tzinfo=UTC))
    (tmp_path / "app" / "what").write_text("newer")
    name = backup(device, tmp_path / "app")
    lose_journal(device)
    content, message = restored(device, tmp_path / "app")
    assert (content, message) == (
        "newer",
        f"'{name}' was chosen; ignored, dated in the future: '{future}'",
    )


def test_a_manifest_is_read_once(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says when the backup had read everything, and what it is of; the destination may be slow."""
    read: list[str] = []

    def manifest(archives: Zip, destination: Destination, name: str, unlock: Unlock) -> Manifest | None:
        read.append(name)
        return archives.open(destination, name, unlock).manifest()

    name = backup(device, tmp_path / "app")
    lose_journal(device)
    monkeypatch.setattr(Zip, "manifest", manifest)
    later = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    assert restored(device, tmp_path / "app", **{"restore.before": later})[0] == "app"
    assert read == [name]


def test_when_all_are_from_the_future_none_is_chosen(device: Device, tmp_path: Path) -> None:
    future = redate(device, backup(device, tmp_path / "app"), datetime(2036, 1, 1, tzinfo=UTC))
    lose_journal(device)
    content, message = restored(device, tmp_path / "app")
    assert (content, message) == (
        "changed",
        f"all archives are dated in the future: name one of '{future}'",
    )


def test_an_archive_from_before_the_clock_was_set_is_the_newest_by_the_journal(
    device: Device, tmp_path: Path
) -> None:
    backup(device, tmp_path / "app")
    (tmp_path / "app" / "what").write_text("newer")
    name = backup(device, tmp_path / "app")
    old = redate(device, name, datetime(1970, 1, 1, 0, 5, tzinfo=UTC))
    sql(device.settings.storage / "journal.db", "UPDATE archives SET name = ? WHERE name = ?", (old, name))
    assert restored(device, tmp_path / "app") == ("newer", "")


def test_without_the_journal_an_archive_from_before_the_clock_was_set_is_named(
    device: Device, tmp_path: Path
) -> None:
    name = backup(device, tmp_path / "app")
    undated = redate(device, backup(device, tmp_path / "app"), datetime(1970, 1, 1, 0, 5, tzinfo=UTC))
    lose_journal(device)
    assert restored(device, tmp_path / "app") == (
        "app",
        f"'{name}' was chosen; ignored, from before the clock was set: '{undated}'",
    )


def test_of_several_archives_from_before_the_clock_was_set_none_is_chosen(
    device: Device, tmp_path: Path
) -> None:
    for minutes in (5, 9):
        redate(device, backup(device, tmp_path / "app"), datetime(1970, 1, 1, 0, minutes, tzinfo=UTC))
    lose_journal(device)
    content, message = restored(device, tmp_path / "app")
    assert content == "changed"
    assert message.startswith("which archive is the newest cannot be known, the clock was not set: name one")


def test_what_an_archive_is_of_that_cannot_be_read_is_not_guessed(device: Device, tmp_path: Path) -> None:
    backup(device, tmp_path / "app")
    later = archive_name(datetime.now(UTC) + timedelta(hours=1), TAG)
    (device.settings.storage / "archives" / later).write_bytes(b"no archive")
    content, message = restored(device, tmp_path / "app")
    assert content == "changed"
    assert message.startswith(f"it cannot be known what '{later}' is of: name one of '{later}', 'backup-")


def test_an_encrypted_archive_is_known_by_the_journal_or_by_its_key(device: Device, tmp_path: Path) -> None:
    passcode = "correct horse battery staple"
    backup(device, tmp_path / "app", **{"backup.passcode": passcode})
    backup(device, tmp_path / "data", **{"backup.passcode": passcode})
    key = {"restore.passcode": passcode}
    assert restored(device, tmp_path / "app", **key) == ("app", "")
    lose_journal(device)
    assert restored(device, tmp_path / "app", **key) == ("app", "")
    content, message = restored(device, tmp_path / "app")
    assert content == "changed"
    assert message.startswith("it cannot be known what 'backup-")


def test_an_archive_that_was_uploaded_is_known_by_its_name(device: Device, tmp_path: Path) -> None:
    command(device, "backup", {"correlationID": "X", "options": {"backup.dir": str(tmp_path / "app")}})
    command(device, "start", {"correlationID": "X#1", "options": LOCAL})
    backup(device, tmp_path / "data")
    assert restored(device, tmp_path / "app") == ("app", "")


def test_a_preview_says_what_was_passed_over(device: Device, tmp_path: Path) -> None:
    future = redate(device, backup(device, tmp_path / "app"), datetime(2036, 1, 1, tzinfo=UTC))
    backup(device, tmp_path / "app")
    lose_journal(device)
    options = LOCAL | {"backup.dir": str(tmp_path / "app"), "restore.preview": "true"}
    command(device, "restore", {"options": options})
    assert future in command(device, "status", {})["value"]["preview"]["message"]
