"""Snapshots over the API: listed, looked into and downloaded, as archives are."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.api_client import ApiClient
from tests.support.repositories import PASSWORD

from .conftest import Started
from .test_http_api import run


@pytest.fixture
def api(started: Started, tmp_path: Path) -> ApiClient:
    credentials = tmp_path / "credentials.json"
    credentials.write_text(json.dumps({"password": PASSWORD}))
    credentials.chmod(0o600)
    (tmp_path / "usb").mkdir()
    agent = started(
        targets={"usb": {"path": str(tmp_path / "usb")}},
        stores={
            "stick": {
                "provider": "local",
                "options": {"local.target": "usb"},
                "credentials": str(credentials),
                "format": "repository",
            }
        },
    )
    return ApiClient(agent.storage / "http.sock")


def test_a_snapshot_is_listed_looked_into_and_restored(api: ApiClient) -> None:
    first = run(api, "backup", {"backup.store": "stick", "backup.name": "one"})["archive"]
    second = run(api, "backup", {"backup.store": "stick"})["archive"]
    listed = api.get("/archives?store=stick").value["archives"]
    assert [(each["name"], each["label"]) for each in listed] == [(second, "backup"), (first, "one")]
    path = f"/archives/stick/{first}"
    shown = api.get(path).value
    assert shown["manifest"]["counts"]["files"] == 4
    assert shown["restore"] == {"restore.store": "stick", "restore.archive": first}
    entries = api.get(f"{path}/files?path=config").value["entries"]
    assert "config/app.json" in [entry["name"] for entry in entries]
    content = api.get(f"{path}/files/content?path={quote('config/app.json')}")
    assert (content.status, content.body) == (200, b'{"interval": 30}\n')
    assert run(api, "restore", shown["restore"])["state"] == "FINISHED"
    assert api.get(f"/archives/stick/{'0' * 64}").status == 404
