"""Snapshots over HTTP: listed, looked into, downloaded and restored, as archives are."""

from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support import pieces
from tests.support.api_client import ApiClient
from tests.support.local_agent import LocalAgent
from tests.support.repositories import stores_on_a_stick
from tests.support.waiting import wait_until

from . import test_arcgis as arcgis
from .conftest import Started
from .test_http_api import begin, run, told


@pytest.fixture
def agent(started: Started, tmp_path: Path) -> LocalAgent:
    schedule = {"schedules.kanto.store": "snapshots"}
    return started(**stores_on_a_stick(tmp_path), **schedule)


@pytest.fixture
def api(agent: LocalAgent) -> ApiClient:
    return ApiClient(agent.storage / "http.sock")


def test_a_snapshot_is_listed_looked_into_and_restored(api: ApiClient) -> None:
    first = run(api, "backup", {"backup.store": "snapshots", "backup.name": "one"})["archive"]
    second = run(api, "backup", {"backup.store": "snapshots"})["archive"]
    listed = api.get("/archives?store=snapshots").value["archives"]
    assert [(each["name"], each["label"]) for each in listed] == [(second, "backup"), (first, "one")]
    path = f"/archives/snapshots/{first}"
    shown = api.get(path).value
    assert shown["manifest"]["counts"]["files"] == 4
    assert shown["restore"] == {"restore.store": "snapshots", "restore.archive": first}
    entries = api.get(f"{path}/files?path=config").value["entries"]
    assert "config/app.json" in [entry["name"] for entry in entries]
    content = api.get(f"{path}/files/content?path={quote('config/app.json')}")
    assert (content.status, content.body) == (200, b'{"interval": 30}\n')
    assert run(api, "restore", shown["restore"])["state"] == "FINISHED"
    assert api.get(f"/archives/snapshots/{'0' * 64}").status == 404


def test_a_commit_confirmed_restore_of_a_snapshot_stays_or_goes_back(
    api: ApiClient, agent: LocalAgent
) -> None:
    run(api, "backup", {"backup.store": "snapshots"})
    script = agent.data / "start.sh"
    for decision, content in (("cancel", "changed"), ("confirm", "exec ./app\n")):
        script.write_text("changed")
        options = {"restore.store": "snapshots", "restore.confirmWithin": "5m"}
        job_id = begin(api, "restore", options)
        wait_until(lambda: api.get("/status").value["job"]["phase"] == "trial", what="the trial")
        assert script.read_text().endswith("exec ./app\n")
        assert api.post(f"/jobs/{job_id}/{decision}").status == 204
        *_, end = told(api, job_id)
        assert end.value["job"]["state"] == ("FINISHED" if decision == "confirm" else "FAILED")
        assert script.read_text().endswith(content)


# Document 003


def test_003_backs_up_into_a_repository_and_restores_from_it(agent: LocalAgent) -> None:
    client = pieces.client(agent)
    backup = pieces.backed_up(client)
    assert client.get(f"/backup/{backup['id']}").value == backup
    pieces.changed(agent)
    restored = client.post(f"/backup/{backup['id']}/restore")
    assert (restored.status, restored.value) == (200, backup)
    assert pieces.ended(client, backup["id"], "restoration")["value"] == "COMPLETED"
    assert (agent.data / "start.sh").read_text().endswith("exec ./app\n")
    pieces.changed(agent)
    *_, last = pieces.streamed(agent, backup["id"])
    assert last["status"] == "COMPLETED"
    assert (agent.data / "start.sh").read_text().endswith("exec ./app\n")


def test_003_takes_one_asset_of_a_repository(agent: LocalAgent) -> None:
    client = pieces.client(agent)
    backup = pieces.backed_up(client, "/backup/asset", {"id": "config/app.json"})
    (agent.data / "config/app.json").unlink()
    (agent.data / "start.sh").write_text("changed")
    assert client.post(f"/backup/{backup['id']}/restore").status == 200
    assert pieces.ended(client, backup["id"], "restoration")["value"] == "COMPLETED"
    assert (agent.data / "config/app.json").exists()
    assert (agent.data / "start.sh").read_text() == "changed"


def test_003_says_that_a_snapshot_was_forgotten(agent: LocalAgent, tmp_path: Path) -> None:
    """The operator's restic has removed it: the device hears of it when it looks."""
    client = pieces.client(agent)
    backup = pieces.backed_up(client)
    for snapshot in (tmp_path / "usb/snapshots/snapshots").iterdir():
        snapshot.unlink()
    pieces.changed(agent)
    assert client.post(f"/backup/{backup['id']}/restore").status == 200
    status = pieces.ended(client, backup["id"], "restoration")
    assert (status["value"], (agent.data / "start.sh").read_text()) == ("FAILED", "changed")
    job = ApiClient(agent.storage / "http.sock").get("/jobs?limit=1").value["jobs"][0]
    assert job["statusCode"] == "not-found"


# Document 002


def test_002_lists_a_repository_and_says_why_it_makes_no_backup_there(
    api: ApiClient, agent: LocalAgent
) -> None:
    """A backup of 002 has a passcode of its own, and a repository one password for all."""
    made = run(api, "backup", {"backup.store": "snapshots", "backup.name": "by-hand"})
    client = arcgis.client(agent)
    names = [each["name"] for each in client.get(f"{arcgis.STORES}?f=json").value["backupStores"]]
    assert "snapshots" in names
    (backup,) = client.get(f"{arcgis.STORES}/snapshots/backups?f=json").value["backups"]
    assert made["archive"] in backup.values()
    path = arcgis.CREATE.replace("backupsDefault", "snapshots")
    code, message = arcgis.error_of(arcgis.create(client, path=path))
    assert (code, "store 'snapshots' keeps a repository" in message) == (400, True), message
