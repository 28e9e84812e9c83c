"""Document 003 over the real server: each of its operations, and what a client of it meets."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.api_client import ApiClient
from tests.support.local_agent import LocalAgent, LocalBackend
from tests.support.pieces import (
    HOURS,
    IDENTIFIER,
    assert_empty,
    assert_text,
    backed_up,
    changed,
    client,
    compact,
    ended,
    listed,
    streamed,
)
from tests.support.waiting import wait_until

from .conftest import Started


@pytest.fixture
def pieces(agent: LocalAgent) -> ApiClient:
    return client(agent)


# POST /backup, GET /backups, GET /backup/{backup}


def test_a_backup_is_made_and_listed_byte_for_byte(pieces: ApiClient, agent: LocalAgent) -> None:
    """The members of each model, in one order and in one form."""
    backup = backed_up(pieces)
    (archive,) = (agent.storage / "archives").glob("*.zip")
    assert IDENTIFIER.fullmatch(backup["id"])
    assert backup["timestamp"] == backup["id"].partition("_")[2]
    day, _, clock = backup["timestamp"].partition("T")
    expected = {
        "id": f"1_{backup['timestamp']}",
        "version": "1",
        "timestamp": backup["timestamp"],
        "device_name": "edge:device",
        "platform": "LINUX",
        "bytes": archive.stat().st_size,
        "created": {"value": backup["timestamp"], "readable": f"{day} {clock[:8]} UTC"},
    }
    assert pieces.get(f"/backup/{backup['id']}").body == compact(expected)
    assert pieces.get("/backups").body == compact({"iterable": [expected], "indices": {expected["id"]: 0}})
    status = pieces.get(f"/backup/{backup['id']}/creation/status")
    assert status.body == compact({"backup": expected, "percentage": 100, "value": "COMPLETED"})


def test_the_identifier_may_be_percent_encoded(pieces: ApiClient) -> None:
    """Generated clients encode everything."""
    backup = backed_up(pieces)
    assert pieces.get(f"/backup/{backup['id'].replace(':', '%3A')}").value == backup


def test_the_running_backup_is_listed_at_once(started: Started) -> None:
    """The answer of POST /backup names nothing: this is how a client finds what it has begun."""
    pieces = client(started(backupCmd=HOURS))
    assert_empty(pieces.post("/backup"))
    (backup,) = listed(pieces)
    assert pieces.get(f"/backup/{backup['id']}").value == backup
    status = pieces.get(f"/backup/{backup['id']}/creation/status").value
    assert status["backup"] == backup
    assert status["value"] in ("INITIALIZED", "IN-PROGRESS")
    assert 0 <= status["percentage"] < 100


def test_the_newest_backup_comes_first(pieces: ApiClient) -> None:
    made = [backed_up(pieces)["id"] for _ in range(3)]
    assert [backup["id"] for backup in listed(pieces)] == made[::-1]
    assert pieces.get("/backups").value["indices"] == {each: 2 - number for number, each in enumerate(made)}


@pytest.mark.parametrize("body", [None, {}, {"iterable": []}, {"iterable": [], "indices": {}, "score": None}])
def test_without_assets_everything_is_saved(pieces: ApiClient, backend: LocalBackend, body: object) -> None:
    """The document's example sends an empty `Assets()`."""
    backed_up(pieces, "/backup", body)
    assert last_of(backend)["files"] == 4


def last_of(backend: LocalBackend) -> dict[str, Any]:
    job = backend.ask("history", request_id="h")["value"]["entries"][0]["id"]
    return dict(backend.ask("describe", {"correlationId": job}, request_id=f"d-{job}")["value"])


def test_only_the_assets_are_saved(pieces: ApiClient, backend: LocalBackend) -> None:
    """The models of the document have many members; only the id counts, and no unknown one does harm."""
    asset = {"id": "config", "name": "x", "formats": {"iterable": []}, "created": {"value": "2026"}}
    backed_up(pieces, "/backup", {"iterable": [asset, {"id": "start.sh"}], "indices": {"config": 0}})
    assert last_of(backend)["files"] == 3


def test_one_asset_is_saved_alone(pieces: ApiClient, backend: LocalBackend) -> None:
    backed_up(pieces, "/backup/asset", {"id": "config/app.json", "creator": "me"})
    assert last_of(backend)["files"] == 1


def test_an_asset_may_be_a_data_set(started: Started, tmp_path: Path, backend: LocalBackend) -> None:
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "hosts").write_text("127.0.0.1 localhost")
    pieces = client(started(dataSets={"NETWORK": {"paths": str(tmp_path / "network")}}))
    backup = backed_up(pieces, "/backup/asset", {"id": "NETWORK"})
    assert last_of(backend)["files"] == 1
    (tmp_path / "network" / "hosts").write_text("changed")
    assert pieces.post(f"/backup/{backup['id']}/restore").status == 200
    assert ended(pieces, backup["id"], "restoration")["value"] == "COMPLETED"
    assert (tmp_path / "network" / "hosts").read_text() == "127.0.0.1 localhost"


def test_backups_go_where_those_of_the_schedule_go(started: Started, tmp_path: Path) -> None:
    (tmp_path / "cloud").mkdir()
    agent = started(
        targets={"device": {"path": str(tmp_path / "here")}, "cloud": {"path": str(tmp_path / "cloud")}},
        stores={"far": {"provider": "local", "options": {"local.target": "cloud"}}},
        schedule_store="far",
    )
    pieces = client(agent)
    backup = backed_up(pieces)
    assert len(list((tmp_path / "cloud").glob("*.zip"))) == 1
    assert pieces.post(f"/backup/{backup['id']}/restore").status == 200
    assert ended(pieces, backup["id"], "restoration")["value"] == "COMPLETED"


@pytest.mark.slow
def test_what_cannot_be_fetched_is_not_listed(pieces: ApiClient, backend: LocalBackend) -> None:
    """A failed backup, and one that waits for its upload."""
    backend.run("backup", "staged", {})
    backend.ask("backup", {"correlationId": "x", "options": {"https.url": "http://127.0.0.1:1/x"}})
    backend.ended("x")
    assert listed(pieces) == []
    backup = backed_up(pieces)
    assert listed(pieces) == [backup]


# Restores


def test_a_restore_overrides_what_is_there(pieces: ApiClient, agent: LocalAgent) -> None:
    """`all local snippets will get replaced with the restored database`: also what was added goes."""
    backup, before = backed_up(pieces), (agent.data / "start.sh").read_text()
    changed(agent)
    answer = pieces.post(f"/backup/{backup['id']}/restore", backup)
    assert (answer.status, answer.value) == (200, backup)
    status = ended(pieces, backup["id"], "restoration")
    assert status == {"backup": backup, "percentage": 100, "value": "COMPLETED"}
    assert (agent.data / "start.sh").read_text() == before
    assert not (agent.data / "added").exists()


def test_a_restore_of_one_asset_leaves_all_others(pieces: ApiClient, agent: LocalAgent) -> None:
    before = (agent.data / "start.sh").read_text()
    backup = backed_up(pieces, "/backup/asset", {"id": "start.sh"})
    changed(agent)
    assert pieces.post(f"/backup/{backup['id']}/restore").status == 200
    assert ended(pieces, backup["id"], "restoration")["value"] == "COMPLETED"
    assert (agent.data / "start.sh").read_text() == before
    assert (agent.data / "added").exists()
    assert (agent.data / "config" / "app.json").exists()


def test_a_backup_that_skipped_something_replaces_nothing_that_it_lacks(
    started: Started, agent_data: Path
) -> None:
    """Files that the backup could not save would be lost for good."""
    (agent_data / "tpm.key").write_text("bound to this hardware")
    pieces = client(started(unexportable="*.key"))
    backup = backed_up(pieces)
    assert pieces.post(f"/backup/{backup['id']}/restore").status == 200
    assert ended(pieces, backup["id"], "restoration")["value"] == "COMPLETED"
    assert (agent_data / "tpm.key").exists()


@pytest.fixture
def agent_data(device: LocalAgent) -> Path:
    return device.data


def test_a_streamed_restore_is_one_object_after_another(pieces: ApiClient, agent: LocalAgent) -> None:
    backup = backed_up(pieces)
    told = list(streamed(agent, backup["id"], compact(backup)))
    assert {tuple(each) for each in told} == {("backup", "percentage", "status")}
    assert all(each["backup"] == backup for each in told)
    assert told[-1] == {"backup": backup, "percentage": 100, "status": "COMPLETED"}
    known = [each["percentage"] for each in told if each["percentage"] is not None]
    assert known == sorted(known)


def test_progress_comes_while_the_restore_runs(started: Started) -> None:
    """The first object is there before the restore has ended, and a cancel ends the stream."""
    agent = started(beforeRestoreCmd=HOURS)
    pieces = client(agent)
    backup = backed_up(pieces)
    told = streamed(agent, backup["id"])
    assert next(told)["status"] in ("INITIALIZED", "IN-PROGRESS")
    status = pieces.get(f"/backup/{backup['id']}/restoration/status").value
    assert status["value"] in ("INITIALIZED", "IN-PROGRESS")
    assert_empty(pieces.post(f"/backup/{backup['id']}/restoration/cancel", backup))
    *_, last = told
    assert last["status"] == "CANCELED"


def test_identifiers_and_statuses_outlive_the_agent(pieces: ApiClient, agent: LocalAgent) -> None:
    backup = backed_up(pieces)
    assert pieces.post(f"/backup/{backup['id']}/restore").status == 200
    restored = ended(pieces, backup["id"], "restoration")
    agent.stop()
    agent.start()
    assert listed(pieces) == [backup]
    assert pieces.get(f"/backup/{backup['id']}/creation/status").value["value"] == "COMPLETED"
    assert pieces.get(f"/backup/{backup['id']}/restoration/status").value == restored


def test_a_stream_ends_with_the_agent(started: Started) -> None:
    """Its last object says that the restore was interrupted, or how far it was: no reader waits for ever."""
    agent = started(beforeRestoreCmd=HOURS, stopTimeout="1s")
    backup = backed_up(client(agent))
    told = streamed(agent, backup["id"])
    assert next(told)["backup"] == backup
    assert agent.stop() == 0
    assert all(each["backup"] == backup for each in told)


def test_a_cancelled_restoration_leaves_the_original_data(started: Started) -> None:
    agent = started(beforeRestoreCmd=HOURS)
    pieces = client(agent)
    backup = backed_up(pieces)
    changed(agent)
    assert pieces.post(f"/backup/{backup['id']}/restore").status == 200
    assert_empty(pieces.post(f"/backup/{backup['id']}/restoration/cancel"))
    assert ended(pieces, backup["id"], "restoration")["value"] == "CANCELED"
    assert (agent.data / "start.sh").read_text() == "changed"
    assert (agent.data / "added").exists()
    assert_text(pieces.post(f"/backup/{backup['id']}/restoration/cancel"), 500, "in progress")


def test_a_cancelled_creation_is_no_backup(started: Started) -> None:
    pieces = client(started(backupCmd=HOURS))
    assert_empty(pieces.post("/backup"))
    identifier = listed(pieces)[0]["id"]
    assert_empty(pieces.post(f"/backup/{identifier}/creation/cancel"))
    assert ended(pieces, identifier, "creation")["value"] == "CANCELED"
    assert listed(pieces) == []
    assert_text(pieces.get(f"/backup/{identifier}"), 500, "failed")
    assert_text(pieces.post(f"/backup/{identifier}/creation/cancel"), 500, "not in progress")


def test_a_failed_creation_says_so(started: Started, backend: LocalBackend) -> None:
    """Its status is known although it is no backup that could be listed."""
    pieces = client(started(backupCmd="false"))
    assert_empty(pieces.post("/backup"))
    wait_until(lambda: listed(pieces) == [], what="the end of the backup")
    identifier = f"1_{last_of(backend)['startTime']}"
    assert pieces.get(f"/backup/{identifier}/creation/status").value["value"] == "FAILED"
