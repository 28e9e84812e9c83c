"""Stores that keep a repository: what the settings may say of one, and what is refused."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.base.clock_times import parse_daily_window
from agent.faces.http.documents.destinations import location_of
from agent.jobs import admission
from agent.jobs.admission import Admission
from agent.settings.load import load
from agent.transfer.context import Destination
from tests.support.fakes import Device
from tests.support.settings_files import private_file, problems_of, settings_file

CREDENTIALS = {"credentials": "/etc/edge-backup/store.json"}
LOCAL = {"provider": "local", "format": "repository", **CREDENTIALS}
REST = {"provider": "generic", "format": "repository", **CREDENTIALS}
RECIPIENT = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"


def test_any_provider_that_creates_objects_keeps_a_repository(tmp_path: Path) -> None:
    stores = {
        "stick": {**LOCAL, "prefix": "devices/{device}"},
        "rest": {**REST, "options": {"https.url": "https://backup.example.com/"}},
        "s3": {**REST, "provider": "aws", "options": {"aws.s3.bucket": "backups"}},
        "azure": {**REST, "provider": "azure"},
    }
    loaded = load({}, settings_file(tmp_path, stores=stores), {}).settings
    assert {store.format for store in loaded.stores.values()} == {"repository"}
    assert loaded.stores["stick"].prefix == "devices/{device}"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"stores": {"a": {**LOCAL, "format": "tar"}}}, "stores.a.format: expected one of zip, repository"),
        (
            {"stores": {"a": {**LOCAL, "credentials": ""}}},
            "stores.a.credentials: is missing; the file has to",
        ),
        (
            {"stores": {"a": {**REST, "options": {"https.url": "https://backup.example.com/one"}}}},
            "stores.a.options: 'https.url' must end in '/' and lead to a REST server of restic: a repository"
            " has many objects, and any other URL names one",
        ),
        (
            {"stores": {"a": {**LOCAL, "options": {"local.name": "a.zip"}}}},
            "stores.a.options: 'local.name' names one archive; a repository has stores.a.prefix",
        ),
        ({"stores": {"a": {**LOCAL, "prefix": "../{device}"}}}, "stores.a.prefix: must be a relative name"),
        (
            {"stores": {"a": {"provider": "local", "prefix": "x"}}},
            "stores.a.prefix: is for stores.a.format repository alone",
        ),
        (
            {"stores": {"a": LOCAL}, "encryption": {"recipients": RECIPIENT}},
            "stores.a.format: a repository is encrypted by its own password, not for encryption.recipients",
        ),
        (
            {"stores": {"a": {**LOCAL, "options": {"password": "very-secret"}}}},
            "stores.a.options: 'password' is a secret; put it into the file of stores.a.credentials",
        ),
        ({"repository": {"trustFor": "soon"}}, "repository.trustFor: expected"),
        (
            {"repository": {"pruneWindow": "2-4"}},
            "repository.pruneWindow: expected a time of",
        ),
        ({"repository": {"pruneWindow": "02:00-02:29"}}, "repository.pruneWindow: expected a time of every"),
    ],
)
def test_wrong_settings_of_a_repository_are_named(
    tmp_path: Path, settings: dict[str, Any], problem: str
) -> None:
    assert problem in problems_of(tmp_path, settings)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """With a repository on a stick, one whose password is missing, and one behind a URL of one object."""
    given = {
        "stick": {"password": "very-secret"},
        "bare": {},
        "url": {"password": "very-secret", "https.url": "https://user:very-secret@backup.example.com/a"},
        "named": {"password": "very-secret"},
    }
    settings = {"targets.usb.path": str(tmp_path / "usb"), "stores.named.provider": "local"}
    (tmp_path / "usb").mkdir()
    for name, secrets in given.items():
        file = tmp_path / f"{name}.json"
        private_file(file, json.dumps(secrets))
        settings[f"stores.{name}.provider"] = "generic" if name == "url" else "local"
        settings[f"stores.{name}.credentials"] = str(file)
        settings[f"stores.{name}.format"] = "repository"
        if name != "url":
            settings[f"stores.{name}.options"] = '{"local.target": "usb"}'
    device = Device(tmp_path, settings)
    (device.data / "file").write_text("content")
    yield device
    device.close()


def answer(device: Device, operation: str, correlation_id: str = "X", **options: str) -> dict[str, Any]:
    """The value of the answer to a command with these options, whose keys have `_` for dots."""
    given = {key.replace("_", "."): text for key, text in options.items()}
    value = {"correlationId": correlation_id, "options": given}
    envelope: dict[str, Any] = device.command(operation, value, request_id="", header="h")[0][1]
    return envelope.get("value") or {}


@pytest.mark.parametrize(
    ("operation", "options", "message"),
    [
        ("backup", {"backup_store": "bare"}, "has no 'password', which a repository needs"),
        ("backup", {"backup_store": "url"}, "must be the URL of a REST server, with a '/' at its end"),
        (
            "backup",
            {"backup_store": "stick", "backup_passcode": "12345678"},
            "option 'backup.passcode' is for one archive; store 'stick' keeps a repository, which",
        ),
        (
            "backup",
            {"backup_store": "stick", "local_name": "a.zip"},
            "option 'local.name' names one archive, and a repository has many objects",
        ),
        (
            "backup",
            {"backup_store": "stick", "password": "another"},
            "option 'password' belongs into the store's file of credentials",
        ),
        (
            "restore",
            {"restore_store": "stick", "restore_passcode": "12345678"},
            "option 'restore.passcode' is for archives; store 'stick' keeps a repository",
        ),
        (
            "restore",
            {"restore_store": "stick", "restore_archive": "latest"},
            "option 'restore.archive' must be the id of a snapshot, or its first 4 digits or more",
        ),
        (
            "verify",
            {"restore_store": "stick", "local_name": "a.zip"},
            "option 'local.name' names one archive, and a repository has many objects",
        ),
    ],
)
def test_what_a_repository_cannot_do_is_refused_before_any_work(
    device: Device, operation: str, options: dict[str, str], message: str
) -> None:
    value = answer(device, operation, **options)
    assert value["status"] == 400
    assert message in value["message"]
    assert "very-secret" not in value["message"]
    assert device.values() == []


def test_a_pending_upload_does_not_go_to_a_repository(device: Device) -> None:
    """It is a whole archive, that waits for one URL."""
    answer(device, "backup")
    device.finish()
    value = answer(device, "start", "X#1", backup_store="stick")
    assert value["status"] == 400
    assert "a pending upload is a whole archive" in value["message"]


def test_without_the_extra_the_command_is_refused(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "find_spec", lambda _module: None)
    value = answer(device, "backup", backup_store="stick")
    assert value["status"] == 400
    assert "install edge-backup-agent[repository]" in value["message"]


def test_a_snapshot_is_in_the_history_with_its_counts_and_can_be_fetched(
    device: Device,
) -> None:
    assert answer(device, "backup", backup_store="stick") == {}
    device.finish()
    assert device.values()[-1]["state"] == "BACKUP_FINISHED"
    assert "1 file new, 0 changed, 0 unmodified" in device.values()[-1]["message"]
    (record,) = device.journal.jobs.ended_before(None)
    assert {"added_bytes", "files_new", "files_changed", "files_unmodified", "store"} <= record.facts.keys()
    assert "archive_bytes" not in record.facts
    name = record.facts["archive"]
    assert location_of(record, device.settings) == (
        "stick",
        {"restore.store": "stick", "restore.archive": name},
    )


def always_open(device: Device) -> None:
    """Let the device start anew inside the prune window."""
    now = datetime.now(UTC)
    opens, closes = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (-1, 2))
    window = parse_daily_window(f"{opens}-{closes}")
    repository = device.settings.repository.model_copy(update={"prune_window": window})
    device.settings = device.settings.model_copy(update={"repository": repository})
    device.restart()


def test_no_backup_begins_inside_the_prune_window(device: Device) -> None:
    """A device that may only write cannot see that somebody prunes."""
    always_open(device)
    value = answer(device, "backup", backup_store="stick")
    assert value["status"] == 409
    assert "the prune window is open" in value["message"]
    assert "repository.pruneWindow" in value["message"]


def test_a_backup_that_runs_into_the_prune_window_stores_nothing_more(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Admission, "repository", _without_a_look(Admission.repository))
    always_open(device)
    answer(device, "backup", backup_store="stick")
    device.finish()
    assert device.values()[-1]["statusCode"] == "repository-busy"
    assert "the prune window is open" in device.values()[-1]["message"]
    assert not [path for path in (tmp_path / "usb").rglob("*") if path.is_file()]


def _without_a_look(repository: Callable[..., Destination]) -> Callable[..., Destination]:
    """Return the admission of a moment before the window has opened."""

    def admitted(admission: Admission, *args: Any) -> Destination:
        none = admission.settings.repository.model_copy(update={"prune_window": None})
        settings = admission.settings.model_copy(update={"repository": none})
        return repository(replace(admission, settings=settings), *args)

    return admitted
