"""Document 003: requests that are refused, each with a text."""

from pathlib import Path

import pytest

from tests.support.api_client import ApiClient
from tests.support.local_agent import LocalAgent, LocalBackend
from tests.support.pieces import HOURS, assert_empty, assert_text, backed_up, client, listed

from .conftest import Started


@pytest.fixture
def pieces(agent: LocalAgent) -> ApiClient:
    return client(agent)


def test_an_encrypted_backup_needs_its_passcode_elsewhere(pieces: ApiClient, backend: LocalBackend) -> None:
    backend.run("backup", "x", {"storage.provider": "local", "backup.passcode": "correct horse"})
    (backup,) = listed(pieces)
    assert_text(pieces.post(f"/backup/{backup['id']}/restore"), 422, "encrypted")


def test_while_a_job_runs_others_are_refused(started: Started) -> None:
    pieces = client(started(backupCmd=HOURS))
    assert_empty(pieces.post("/backup"))
    answer = pieces.post("/backup")
    assert_text(answer, 409, "in progress")
    assert answer.headers["retry-after"] == "10"
    (backup,) = listed(pieces)
    assert_text(pieces.post(f"/backup/{backup['id']}/restore"), 409, "not complete")


NOWHERE = "1_2026-11-22T02:00:00.104211Z"


@pytest.mark.parametrize("identifier", [NOWHERE, "nonsense", "1_", "..%2Fetc", "%00", "%FF", "1_2026-11-22"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""), ("POST", "/restore"), ("POST", "/restore/streamed"), ("GET", "/creation/status"),
        ("POST", "/creation/cancel"), ("GET", "/restoration/status"), ("POST", "/restoration/cancel"),
    ],
)  # fmt: skip
def test_an_unknown_backup_is_a_500_with_a_text(
    pieces: ApiClient, method: str, path: str, identifier: str
) -> None:
    answer = pieces.send(method, f"/backup/{identifier}{path}", None)
    assert (answer.status, answer.headers["content-type"]) == (500, "text/plain; charset=utf-8")
    assert answer.body


def test_a_backup_that_was_never_restored_has_no_restoration(pieces: ApiClient) -> None:
    backup = backed_up(pieces)
    assert_text(pieces.get(f"/backup/{backup['id']}/restoration/status"), 500, "nobody has restored")
    assert_text(pieces.post(f"/backup/{backup['id']}/restoration/cancel"), 500, "nobody has restored")


BAD: list[tuple[str, bytes, str, int, str]] = [
    ("/backup", b"{", "application/json", 400, "JSON"),
    ("/backup", b"[]", "application/json", 400, "object"),
    ("/backup", b"[" * 50_000, "application/json", 400, "JSON"),
    ("/backup", b"{}", "text/plain", 415, "application/json"),
    ("/backup", b"<assets/>", "application/xml", 415, "application/json"),
    ("/backup", b'{"iterable": {}}', "application/json", 400, "list"),
    ("/backup", b'{"iterable": [{}]}', "application/json", 400, "id"),
    ("/backup", b'{"iterable": ["x"]}', "application/json", 400, "id"),
    ("/backup", b'{"iterable": [{"id": 7}]}', "application/json", 400, "id"),
    ("/backup/asset", b'{"name": "x"}', "application/json", 400, "id"),
    ("/backup/asset", b'{"id": "/no/such"}', "application/json", 422, "'id': '/no/such'"),
    ("/backup/asset", b'{"id": "../x"}', "application/json", 400, ".."),
    ("/backup/asset", rb'{"id": "\ud800"}', "application/json", 400, "text"),
    (f"/backup/{NOWHERE}/restore", b'{"id": "other"}', "application/json", 400, "different backups"),
]


@pytest.mark.parametrize(("path", "body", "kind", "status", "says"), BAD)
def test_a_bad_request_is_refused_with_a_text(
    pieces: ApiClient, path: str, body: bytes, kind: str, status: int, says: str
) -> None:
    assert_text(pieces.send("POST", path, body, Content_Type=kind), status, says)
    assert listed(pieces) == []


def test_data_sets_and_paths_are_not_mixed(started: Started, tmp_path: Path) -> None:
    pieces = client(started(dataSets={"NETWORK": {"paths": str(tmp_path)}}))
    body = {"iterable": [{"id": "NETWORK"}, {"id": "config"}]}
    assert_text(pieces.post("/backup", body), 400, "not both")


def test_another_method_is_refused_with_what_is_possible(pieces: ApiClient) -> None:
    answer = pieces.send("DELETE", "/backups", None)
    assert_text(answer, 405, "GET")
    assert "GET" in answer.headers["allow"]


def test_without_a_place_of_its_own_a_backup_is_refused(started: Started, tmp_path: Path) -> None:
    pieces = client(started(targets={"stick": {"path": str(tmp_path / "stick"), "mount": True}}))
    assert_text(pieces.post("/backup"), 422, "schedules.kanto.store")
