"""The examples of the documents of docs/abilities.md as commands of the wire, and what is refused."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.local_agent import LocalAgent, LocalBackend

LOCAL = {"storage.provider": "local"}
USB = {"storage.provider": "local", "local.target": "usb"}


@pytest.fixture
def house(device: LocalAgent, backend: LocalBackend, tmp_path: Path) -> LocalAgent:
    """A controller with data sets, a stick and a store."""
    for name in ("network", "users", "projects"):
        (tmp_path / "etc" / name).mkdir(parents=True)
        (tmp_path / "etc" / name / "settings").write_text(name)
    for destination in (tmp_path / "stick", device.work / "archives"):
        destination.mkdir()
    device.settings |= {
        "targets": {
            "device": {"path": str(device.work / "archives")},
            "usb": {"path": str(tmp_path / "stick")},
            "absent": {"path": "/media/nothing-is-plugged-in"},
        },
        "dataSets": {
            "NETWORK_CONFIGURATION": {"paths": str(tmp_path / "etc" / "network")},
            "USER_MANAGEMENT": {"paths": str(tmp_path / "etc" / "users")},
            "ENVYSION": {"paths": str(tmp_path / "etc" / "projects")},
        },
        "stores": {"backupsDefault": {"provider": "local", "options": {"local.target": "device"}}},
    }
    device.start()
    backend.announced()
    return device


def described(backend: LocalBackend, correlation_id: str) -> dict[str, Any]:
    return dict(backend.ask("describe", {"correlationId": correlation_id})["value"])


def test_the_example_of_004_names_a_target_a_file_and_data_types(
    house: LocalAgent, backend: LocalBackend, tmp_path: Path
) -> None:
    """The file's name is the custom one, the time and the extension; the job is followed by its id."""
    options = USB | {
        "backup.name": "GYM24",
        "backup.dataTypes": ["NETWORK_CONFIGURATION", "USER_MANAGEMENT"],
    }
    assert backend.ask("backup", {"correlationId": "job", "options": options})["status"] == 204
    assert backend.ended("job")["state"] == "BACKUP_FINISHED"
    (file,) = (tmp_path / "stick").iterdir()
    assert re.fullmatch(r"GYM24-\d{4}-\d\d-\d\d-\d\d\.\d\d\.\d\d\.\d{3}-[0-9a-f]{8}\.zip", file.name)
    assert described(backend, "job")["files"] == 2


def test_the_example_of_002_names_a_store_and_says_how_long_it_is_kept(
    house: LocalAgent, backend: LocalBackend
) -> None:
    options = {
        "backup.name": "backup_first",
        "backup.store": "backupsDefault",
        "backup.passcode": "passcode",
        "backup.description": "before the update",
        "backup.retentionDate": "4102444800000",
    }
    assert backend.ask("backup", {"correlationId": "job", "options": options})["status"] == 204
    assert backend.ended("job")["state"] == "BACKUP_FINISHED"
    entry = described(backend, "job")
    assert entry["archive"].startswith("backup_first-")
    assert entry["archive"].endswith(".zip.age")
    shown = {key: entry[key] for key in ("name", "store", "description", "retentionDate")}
    assert shown == {
        "name": "backup_first",
        "store": "backupsDefault",
        "description": "before the update",
        "retentionDate": "2100-01-01T00:00:00.000000Z",
    }
    assert "passcode" not in str(entry).replace("backup.passcode", "")


def test_the_identifier_of_003_says_how_a_restore_of_one_backup_goes(
    house: LocalAgent, backend: LocalBackend
) -> None:
    """Its metadata, the status of its creation and of its restoration, and the answer for no such thing."""
    named = LOCAL | {"local.name": "snapshot.zip"}
    for operation, kind in (("backup", "BACKUP"), ("restore", "RESTORE")):
        value = {"correlationId": operation, "options": named}
        assert backend.ask(operation, value)["status"] == 204
        assert backend.ended(operation)["state"] == f"{kind}_FINISHED"
        last = backend.ask("status", request_id=operation)["value"]["last"]
        assert (last["correlationId"], last["state"]) == (operation, "FINISHED")
        entry = described(backend, operation)
        assert (entry["kind"], entry["place"]) == (operation, "local:device/snapshot.zip")
    for operation in ("describe", "cancel"):
        assert backend.ask(operation, {"correlationId": "nothing"}, request_id="x")["status"] == 404


WRONG: list[tuple[str, Mapping[str, Any], int, str]] = [
    ("backup", {"backup.retentionDate": "1635945710988"}, 400, "must be in the future"),
    ("backup", {"backup.retentionDate": "tomorrow"}, 400, "milliseconds since 1970"),
    ("backup", {"backup.name": "a/b"}, 400, "must be 1 to 64 letters"),
    ("backup", {"backup.name": "x" * 65}, 400, "must be 1 to 64 letters"),
    ("backup", {"backup.description": "x" * 1001}, 400, "must not have more than 1000 characters"),
    ("backup", {"backup.passcode": "seven77"}, 400, "must have at least 8 characters"),
    ("backup", {"backup.passcode": ""}, 400, "must be a text that is not empty"),
    ("restore", {"restore.passcode": "seven77"}, 400, "must have at least 8 characters"),
    ("restore", {"restore.identity": "age1"}, 400, "restore.identity"),
    ("backup", {"backup.dataTypes": "TRENDLOG"}, 400, "NETWORK_CONFIGURATION"),
    ("restore", {"restore.dataTypes": "TRENDLOG"}, 400, "NETWORK_CONFIGURATION"),
    ("backup", {"backup.paths": "/no/such/asset"}, 400, "/no/such/asset"),
    ("backup", {"backup.store": "attic"}, 400, "backupsDefault"),
    ("backup", {"local.target": "absent"}, 400, "target 'absent' is not there: plug it in or create it"),
    ("backup", {"local.target": "attic"}, 400, "local.target"),
    ("restore", {"restore.mode": "both"}, 400, "'merge', 'replace' or 'exact'"),
    ("restore", {"restore.preview": "yes"}, 400, "must be 'true' or 'false'"),
    ("restore", {"restore.foreign": "yes"}, 400, "must be 'true' or 'false'"),
    ("restore", {"restore.confirmWithin": "soon"}, 400, "must be a duration"),
    ("finalize", {}, 404, "no preview"),
    ("discard", {}, 404, "no preview"),
    ("confirm", {}, 404, "no restore"),
    ("cancel", {}, 404, "nothing runs"),
    ("describe", {}, 404, "no job 'X' in the history"),
]
