"""What can be restored: the question `archives` over the wire, and `edge-backup archives`."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.backend import DEVICE
from tests.support.local_agent import LocalAgent, LocalBackend, run
from tests.support.repositories import PASSWORD

from .conftest import Started

OLD = "edge:old"


@pytest.fixture
def shelf(tmp_path: Path) -> dict[str, Any]:
    """Settings with a stick, and two stores on it: ZIP archives and a repository."""
    credentials = tmp_path / "credentials.json"
    credentials.write_text(json.dumps({"password": PASSWORD}))
    credentials.chmod(0o600)
    (tmp_path / "usb").mkdir()
    stick = {"provider": "local", "options": {"local.target": "usb"}}
    repository = {"format": "repository", "prefix": "snapshots", "credentials": str(credentials)}
    return {
        "targets": {"usb": {"path": str(tmp_path / "usb")}},
        "stores": {"zips": stick, "snapshots": stick | repository},
        "dataSets": {"logs": {"paths": str(tmp_path / "device/data/logs")}},
    }


@pytest.fixture(params=["zips", "snapshots"])
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def asked(backend: LocalBackend, **options: str) -> dict[str, Any]:
    answer = backend.ask("archives", {"options": options})
    assert answer["status"] == 200, answer
    return dict(answer["value"])


def listed(agent: LocalAgent, *arguments: str) -> list[dict[str, Any]]:
    done = run(agent, "archives", "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def on_new_hardware(agent: LocalAgent, backend: LocalBackend) -> None:
    """Start again with an empty storage, as another device."""
    agent.stop()
    shutil.rmtree(agent.storage)
    backend.device_id = DEVICE
    agent.start()
    backend.wait(lambda message: message[1]["topic"].startswith("edge/device/things/twin"), "the new device")


def test_a_backend_lists_archives_page_by_page(
    started: Started, backend: LocalBackend, shelf: dict[str, Any], store: str
) -> None:
    """A page is what fits into one message of Hono."""
    started(**shelf)
    for number in range(8):
        backend.run("backup", f"b{number}", {"backup.store": store, "backup.name": f"n{number}"})
    found, options = [], {"restore.store": store}
    while True:
        page = asked(backend, **options)
        found += page["archives"]
        if "next" not in page:
            break
        options["archives.after"] = page["next"]
    assert [each["label"] for each in found] == [f"n{number}" for number in reversed(range(8))]
    assert found[0].keys() == found[-1].keys()
    assert asked(backend, **{"restore.store": store, "archives.after": "gone"})["code"] == "not-found"


def test_the_journal_says_what_an_archive_is_of(
    started: Started, backend: LocalBackend, shelf: dict[str, Any], store: str
) -> None:
    agent = started(**shelf)
    backend.run("backup", "one", {"backup.store": store, "backup.retentionDate": "2999-01-01T00:00:00Z"})
    backend.run("backup", "two", {"backup.store": store, "backup.dataTypes": "logs"})
    assert run(agent, "verify", "--store", store).returncode == 0
    logs, everything = asked(backend, **{"restore.store": store})["archives"]
    assert (everything["directory"], everything["dataSets"]) == (str(agent.data), [])
    assert (everything["files"], everything["verified"]) == (4, None)
    assert everything["retentionDate"] == "2999-01-01T00:00:00.000000Z"
    assert (logs["directory"], logs["dataSets"], logs["verified"]) == (None, ["logs"], True)
    assert logs["encrypted"] is (store == "snapshots")


def test_archives_of_another_device_are_listed_and_their_manifests_say_more(
    started: Started, backend: LocalBackend, shelf: dict[str, Any], store: str
) -> None:
    """Replacement hardware has no journal that knows them."""
    backend.device_id = OLD
    agent = started(**shelf)
    made = run(agent, "backup", "--store", store, "--retention-date", "2999-01-01T00:00:00Z")
    assert made.returncode == 0
    on_new_hardware(agent, backend)
    assert listed(agent, "--store", store) == []
    (plain,) = listed(agent, "--store", store, "--device", OLD)
    assert (plain["source"], plain["files"], plain["retentionDate"]) == (None, None, None)
    (detailed,) = listed(agent, "--store", store, "--device", OLD, "--details")
    assert (detailed["directory"], detailed["files"]) == (str(agent.data), 4)
    assert detailed["retentionDate"] == "2999-01-01T00:00:00.000000Z"
    options = {"restore.store": store, "restore.fromDevice": OLD, "archives.details": "true"}
    answer = backend.ask("archives", {"options": options})
    assert {"store": store, **answer["value"]["archives"][0]} == detailed


def test_every_store_is_listed_once_and_one_that_is_absent_is_only_named(
    started: Started, backend: LocalBackend, shelf: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "archives").mkdir()
    shelf["targets"] |= {
        "device": {"path": str(tmp_path / "archives")},
        "absent": {"path": str(tmp_path / "absent"), "mount": True},
    }
    agent = started(**shelf)
    for options in ({"backup.store": "zips"}, {"backup.store": "snapshots"}, {"storage.provider": "local"}):
        assert backend.run("backup", str(options), options)["state"] == "BACKUP_FINISHED"
    done = run(agent, "archives", "--json")
    assert done.returncode == 0
    assert [json.loads(line)["store"] for line in done.stdout.splitlines()] == ["snapshots", "zips", "device"]
    assert "store absent: " in done.stderr
    assert run(agent, "archives", "--store", "absent").returncode == 1
    told = run(agent, "archives", "--store", "device")
    assert told.stdout.splitlines()[0] == "device:"
    assert f"'{agent.data}'" in told.stdout
    unknown = run(agent, "archives", "--store", "nix")
    assert (unknown.returncode, unknown.stderr) == (
        1,
        "store nix: no store 'nix': the device has snapshots, zips, absent, device, usb\n",
    )


def test_a_store_that_cannot_be_read_says_why(
    started: Started, backend: LocalBackend, shelf: dict[str, Any], tmp_path: Path
) -> None:
    started(**shelf)
    assert asked(backend, **{"restore.store": "snapshots"})["code"] == "not-found"
    refused = backend.ask("archives", {"options": {"https.url": "https://store.example/x.zip"}})
    assert (refused["status"], "has no list" in refused["value"]["message"]) == (400, True)
