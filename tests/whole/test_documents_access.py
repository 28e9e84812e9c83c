"""Access to the documents' endpoints over the network, and the form in which each document refuses."""

import http.client
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support.api_client import Reply
from tests.support.network_agent import TOKEN
from tests.support.ports import free_port
from tests.support.settings_files import private_file

from .conftest import Started

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BEARER = {"Authorization": f"Bearer {TOKEN}"}
STORES = "/context/admin/system/disasterrecovery/stores"
CREATE = f"{STORES}/device/backups/create"
BACKUP = urlencode({"name": "n", "passcode": "passcode", "f": "json"})
PIECES, ECLYPSE = "/backups", "/api/rest/v1/system/backup"

Ask = Callable[..., Reply]


@pytest.fixture
def ask(started: Started, tmp_path: Path) -> Ask:
    """Starts an agent that listens on the network, and sends it a request."""
    return network(started, tmp_path)


def network(started: Started, tmp_path: Path, **settings: str) -> Ask:
    private_file(tmp_path / "token", TOKEN)
    port = free_port()
    started(http_listen=f"127.0.0.1:{port}", http_tokenFile=str(tmp_path / "token"), **settings)

    def ask(method: str, path: str, body: str = "", **headers: str) -> Reply:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request(method, path, body.encode() or None, headers)
            response = connection.getresponse()
            named = {name.lower(): text for name, text in response.getheaders()}
            return Reply(response.status, named, response.read())

    return ask


def test_002_takes_the_token_in_a_form_and_in_the_query_of_a_get(ask: Ask) -> None:
    """As its scripts have it; in the query of a POST, which is logged on many ways, it counts as none."""
    assert ask("POST", CREATE, f"{BACKUP}&token={TOKEN}", **FORM).status == 200
    assert ask("GET", f"{STORES}?f=json&token={TOKEN}").status == 200
    assert ask("GET", f"{STORES}?f=json", **BEARER).status == 200
    assert ask("POST", f"{CREATE}?token={TOKEN}", BACKUP, **FORM).status == 401


@pytest.mark.parametrize("path", [PIECES, ECLYPSE, "/api/rest/v1/jobs/1", "/backup/1_x"])
def test_the_others_take_it_in_the_header_alone(ask: Ask, path: str) -> None:
    assert ask("GET", f"{path}?token={TOKEN}").status == 401
    assert ask("GET", path, **BEARER).status in (200, 404, 500)


def test_a_missing_token_is_told_in_the_document_s_form(ask: Ask) -> None:
    answer = ask("POST", CREATE, BACKUP, **FORM)
    assert (answer.status, answer.value["error"]["code"]) == (401, 401)
    page = ask("GET", STORES)
    assert (page.status, page.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert_text(ask("GET", PIECES), 401)
    assert_text(ask("POST", "/backup"), 401)
    assert ask("GET", ECLYPSE).detail


def assert_text(answer: Reply, status: int) -> None:
    assert (answer.status, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")


def test_a_wrong_token_begins_nothing(ask: Ask) -> None:
    assert ask("POST", CREATE, f"{BACKUP}&token=wrong-{TOKEN}", **FORM).status == 401
    assert ask("POST", "/backup", Authorization=f"Bearer wrong-{TOKEN}").status == 401
    assert ask("GET", PIECES, **BEARER).value["iterable"] == []


def test_a_foreign_host_is_told_in_the_document_s_form(ask: Ask) -> None:
    assert_text(ask("GET", PIECES, Host="evil.example", **BEARER), 421)
    answer = ask("GET", f"{STORES}?f=json", Host="evil.example", **BEARER)
    assert answer.value["error"]["code"] == answer.status == 421
    assert ask("GET", ECLYPSE, Host="evil.example", **BEARER).status == 421


def test_a_page_of_another_origin_begins_nothing(ask: Ask) -> None:
    """Also not with a token, which a page should not know."""
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert_text(ask("POST", "/backup", **BEARER, **foreign), 403)
    answer = ask("POST", CREATE, f"{BACKUP}&token={TOKEN}", **FORM, **foreign)
    assert answer.value["error"]["code"] == answer.status == 403
    body = json.dumps({"target": "Device"})
    kind = {"Content-Type": "application/json"}
    assert ask("POST", f"{ECLYPSE}/create", body, **kind, **BEARER, **foreign).status == 403
    assert ask("GET", PIECES, **BEARER).value["iterable"] == []


def test_operations_that_the_settings_forbid_are_forbidden_here_too(started: Started, tmp_path: Path) -> None:
    """Each path stands for an operation of the wire: a list for `history`, one backup for `describe`."""
    ask = network(started, tmp_path, **{"allow.operations": "status"})
    for path in ("/backup", "/backup/asset"):
        answer = ask("POST", path, **BEARER)
        assert_text(answer, 403)
        assert b"allow.operations" in answer.body
    for path in (PIECES, "/backup/1_2026-11-22T02:00:00.104211Z"):
        assert_text(ask("GET", path, **BEARER), 403)
    answer = ask("POST", CREATE, f"{BACKUP}&token={TOKEN}", **FORM)
    assert answer.value["error"]["code"] == answer.status == 403
    assert ask("GET", f"{STORES}/device/backups?f=json", **BEARER).status == 403
    assert ask("GET", ECLYPSE, **BEARER).status == 403


def test_a_body_over_the_limit_is_told_in_the_document_s_form(ask: Ask) -> None:
    """Although nobody has read it, and the connection ends with the answer."""
    body, kind = "x" * ((64 << 10) + 1), {"Content-Type": "application/json"}
    answer = ask("POST", "/backup", body, **kind, **BEARER)
    assert_text(answer, 413)
    assert answer.headers["connection"] == "close"
    answer = ask("POST", f"{CREATE}?f=json", body, **FORM)
    assert answer.value["error"]["code"] == answer.status == 413
    assert ask("POST", f"{ECLYPSE}/create", body, **kind, **BEARER).status == 413
    assert ask("GET", PIECES, **BEARER).status == 200
