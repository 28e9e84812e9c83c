"""Stores: what the settings may say of one, and what a command that names it may add."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.jobs.requests.control import HistoryRequest
from agent.jobs.store_ticks import DueBackup
from agent.settings.group_defaults import ScheduleSettings
from agent.settings.load import effective, load
from tests.support.fakes import Device
from tests.support.settings_files import private_file, problems_of, settings_file

KEYS = {"aws.access.key.id": "AKIA", "aws.secret.access.key": "very-secret"}
CLOUD = {"provider": "aws", "options": {"aws.s3.bucket": "backups", "aws.region": "eu-central-1"}}


def test_a_store_is_a_provider_with_options_whose_keys_are_no_settings(tmp_path: Path) -> None:
    file = settings_file(tmp_path, stores={"cloud": CLOUD, "usb": {"provider": "local"}})
    loaded = load({}, file, {})
    assert loaded.settings.stores["cloud"].options == CLOUD["options"]
    shown = effective(loaded.settings)
    assert json.loads(str(shown["stores.cloud.options"])) == CLOUD["options"]
    assert shown["stores.usb.options"] == ""
    again = settings_file(tmp_path, **{key: shown[key] for key in shown if key.startswith("stores.")})
    assert load({}, again, {}).settings.stores == loaded.settings.stores


def test_systemds_credentials_are_the_files_of_the_stores_that_they_name(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "store-cloud").write_text("{}")
    file = settings_file(tmp_path, stores={"cloud": {**CLOUD, "credentials": "/else"}})
    loaded = load({}, file, {"CREDENTIALS_DIRECTORY": str(credentials)})
    assert loaded.settings.stores["cloud"].credentials == credentials / "store-cloud"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"stores": {"a": {"provider": "floppy"}}}, "stores.a.provider: expected one of aws, azure, generic"),
        ({"stores": {"a": {"options": {}}}}, "stores.a.provider: is missing"),
        ({"stores": {"a b": {"provider": "local"}}}, "stores: the name 'a b' must be 1 to 64 letters"),
        (
            {"stores": {"a": {"provider": "aws", "options": KEYS}}},
            "stores.a.options: 'aws.secret.access.key' is a secret; put it into the file of stores.a.cred",
        ),
        (
            {"stores": {"a": {"provider": "https", "options": {"https.url": "https://x/y?very-secret"}}}},
            "stores.a.options: 'https.url' is a secret",
        ),
        (
            {"stores": {"a": {"provider": "https", "options": {"https.url": "https://u:very-secret@x/y"}}}},
            "stores.a.options: 'https.url' is a secret",
        ),
        (
            {"stores": {"a": {"provider": "local", "options": {"backup.dir": "/etc"}}}},
            "stores.a.options: 'backup.dir' is no option of a provider",
        ),
        ({"stores": {"a": {"provider": "aws", "options": ["very-secret"]}}}, "stores.a.options: expected an"),
        ({"stores": {"a": {"provider": "aws", "options": {"x": {}}}}}, "stores.a.options: expected an"),
        ({"stores": {"a": {"provider": "aws", "optoins": {}}}}, "unknown key 'stores.a.optoins'"),
        ({"schedule": {"store": "cloud"}}, "schedules.kanto.store: expected one of the stores (none"),
        ({"verify": {"store": "cloud"}}, "verify.store: expected one of the stores (none is configured)"),
        ({"verify": {"period": "168h"}}, "verify.store: is missing; expected one of the stores"),
        ({"verify": {"maxSize": "-1"}}, "verify.maxSize: expected a whole number of bytes"),
        ({"retention": {"keepLast": -1}}, "retention.keepLast: expected a whole number, 0 for no such rule"),
        ({"retention": {"keepDaily": True}}, "retention.keepDaily: expected a whole number"),
        ({"retention": {"keepYearly": 1}}, "unknown key 'retention.keepYearly'"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named_without_a_secret(
    tmp_path: Path, settings: dict[str, Any], problem: str
) -> None:
    assert problem in problems_of(tmp_path, settings)


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    file = tmp_path / "secrets.json"
    private_file(file, json.dumps(KEYS))
    return file


@pytest.fixture
def device(tmp_path: Path, secrets: Path) -> Iterator[Device]:
    """With a store in a stick that is there, one in a stick that is not, and one that needs secrets."""
    stick = tmp_path / "stick"
    stick.mkdir()
    settings = {
        "targets.device.path": str(tmp_path / "archives"),
        "targets.usb.path": str(stick),
        "targets.gone.path": str(tmp_path / "gone"),
        "stores.usb.provider": "local",
        "stores.usb.options": '{"local.target": "usb"}',
        "stores.bare.provider": "generic",
        "stores.gone.provider": "local",
        "stores.gone.options": '{"local.target": "gone"}',
        "stores.cloud.provider": "aws",
        "stores.cloud.options": json.dumps({**CLOUD["options"], "aws.endpoint.url": "http://127.0.0.1:1"}),  # type: ignore[dict-item]
        "stores.cloud.credentials": str(secrets),
    }
    device = Device(tmp_path, settings)
    (device.data / "file").write_text("content")
    yield device
    device.close()


def answer(device: Device, operation: str, **options: str) -> dict[str, Any]:
    """The envelope of the answer to a command with these options, whose keys have `_` for dots."""
    value = {"correlationId": "X", "options": {key.replace("_", "."): text for key, text in options.items()}}
    return device.command(operation, value, request_id="", header="h")[0][1]


def test_a_backup_goes_to_the_store_and_a_restore_comes_from_it(device: Device, tmp_path: Path) -> None:
    assert answer(device, "backup", backup_store="usb")["status"] == 204
    device.finish()
    (archive,) = (tmp_path / "stick").iterdir()
    (device.data / "file").write_text("changed")
    assert answer(device, "restore", restore_store="usb", local_name=archive.name)["status"] == 204
    device.finish()
    assert [value["state"] for value in device.values()[1::2]] == ["BACKUP_FINISHED", "RESTORE_FINISHED"]
    assert (device.data / "file").read_text() == "content"
    for job in device.service.engine.history.history(HistoryRequest(), 2000)["entries"]:
        described = device.command("describe", {"correlationId": job["id"]})[0][1]["value"]
        assert described["store"] == "usb"


def test_a_periodic_backup_goes_to_the_store_of_the_schedule(device: Device, tmp_path: Path) -> None:
    device.settings = device.settings.model_copy(
        update={"schedules": {"kanto": ScheduleSettings.model_validate({"store": "usb"})}}
    )
    device.restart()
    device.service.engine.scheduled_backup(DueBackup("tick", "kanto", "usb", datetime.now(UTC)))
    device.finish()
    assert device.values()[-1]["state"] == "BACKUP_FINISHED"
    assert len(list((tmp_path / "stick").iterdir())) == 1


def test_a_staged_archive_may_be_sent_to_a_store(device: Device, tmp_path: Path) -> None:
    answer(device, "backup")
    device.finish()
    value = {"correlationId": "X#1", "options": {"backup.store": "usb"}}
    assert device.command("start", value)[0][1]["status"] == 204
    device.finish()
    assert len(list((tmp_path / "stick").iterdir())) == 1


@pytest.mark.parametrize(
    ("operation", "options", "error", "message"),
    [
        ("backup", {"backup_store": "nix"}, "parameter.invalid", "must be one of: bare, cloud, gone, usb"),
        ("restore", {"restore_store": "nix"}, "parameter.invalid", "option 'restore.store' must be one of"),
        ("backup", {"backup_store": "usb", "storage_provider": "local"}, "parameter.invalid", "not both"),
        ("backup", {"backup_store": "usb", "local_target": "device"}, "parameter.invalid",
         "option 'local.target' contradicts store 'usb'"),
        ("backup", {"backup_store": "cloud", "aws_secret_access_key": "another"}, "parameter.invalid",
         "option 'aws.secret.access.key' contradicts store 'cloud'"),
        ("backup", {"backup_store": "bare", "https_url": "http://127.0.0.1:1/x"}, "parameter.invalid",
         "option 'https.url' contradicts store 'bare'"),
        ("backup", {"backup_store": "usb", "https_url": "http://127.0.0.1:1/x"}, "parameter.invalid",
         "option 'https.url' contradicts store 'usb'"),
        ("backup", {"backup_store": "gone"}, "execution.failed", "target 'gone' is not there"),
        ("restore", {"restore_store": "gone"}, "execution.failed", "target 'gone' is not there"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_before_any_work(
    device: Device, operation: str, options: dict[str, str], error: str, message: str
) -> None:
    value = answer(device, operation, **options)["value"]
    assert (value["status"], value["error"]) == (400, f"messages:{error}")
    assert message in value["message"]
    assert "another" not in value["message"]
    assert device.values() == []


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (json.dumps(KEYS), 0o604, "others can read it"),
        ("[", 0o600, "it is not a JSON object of options"),
        ('["very-secret"]', 0o600, "it is not a JSON object of options"),
        ('{"aws.region": "eu-central-1"}', 0o600, "'aws.region' is in its options and in its credentials"),
        (None, 0, "cannot be used: No such file or directory"),
    ],
)
def test_credentials_that_cannot_be_used_are_refused(
    device: Device, secrets: Path, content: str | None, mode: int, message: str
) -> None:
    secrets.unlink()
    if content is not None:
        secrets.write_text(content)
        secrets.chmod(mode)
    value = answer(device, "backup", backup_store="cloud")["value"]
    assert (value["status"], value["error"]) == (400, "messages:execution.failed")
    assert message in value["message"]
    assert "very-secret" not in value["message"]


def test_credentials_are_read_each_time(device: Device, secrets: Path) -> None:
    """Short-lived ones are renewed beside a running agent."""
    secrets.write_text("{}")
    value = answer(device, "backup", backup_store="cloud")["value"]
    assert "option 'aws.access.key.id' is missing" in value["message"]
    secrets.write_text(json.dumps(KEYS))
    assert answer(device, "backup", backup_store="cloud", options_attempt="2")["status"] == 204
    device.finish()
    assert device.values()[-1]["statusCode"] == "unreachable"


def test_the_command_may_bring_the_credentials(device: Device, secrets: Path) -> None:
    secrets.write_text("{}")
    keys = {key.replace(".", "_"): text for key, text in KEYS.items()}
    assert answer(device, "backup", backup_store="cloud", **keys)["status"] == 204
    device.finish()
    assert device.values()[-1]["statusCode"] == "unreachable"
    for message in device.wire.sent:
        assert "very-secret" not in str(message)
