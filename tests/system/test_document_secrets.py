"""Passcodes and tokens of the documents' endpoints stay in their requests.

Every path is asked, well and badly, over the socket and the network, with marked secrets wherever clients put
them. Then everything is searched: the log at its most talkative, standard error, the journal, the storage,
the command lines, the history, and all answers with their headers, in which a URL could be.
"""

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from tests.integration.conftest import SAMPLE
from tests.support.api_client import ApiClient, UnixConnection
from tests.support.network_agent import NetworkAgent
from tests.support.trees import make_tree
from tests.support.waiting import wait_until

from .watching import Secrets, processes

STORES = "/context/admin/system/disasterrecovery/stores"
CREATE = f"{STORES}/device/backups/create"
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
BACKUP = "/backup/1_2026-11-22T02:00:00.104211Z"

Connect = Callable[[], http.client.HTTPConnection]


@pytest.fixture
def marked() -> Secrets:
    return Secrets()


@pytest.fixture
def token(marked: Secrets) -> str:
    return marked.make()


@pytest.fixture
def device(tmp_path: Path, token: str) -> Iterator[NetworkAgent]:
    device = NetworkAgent(tmp_path / "device", token)
    make_tree(device.data, SAMPLE)
    device.start()
    yield device
    if device.process and device.process.poll() is None:
        device.kill()


def asked(connect: Connect, method: str, path: str, body: str, **headers: str) -> bytes:
    """Send a request; return all of the answer."""
    with closing(connect()) as connection:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        connection.request(method, path, body.encode() or None, named)
        response = connection.getresponse()
        return str(response.getheaders()).encode() + response.read()


def requests(marked: Secrets, token: str) -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """Yield requests with secrets in every place: each document's own, and wrong ones."""
    bearer = {"Authorization": f"Bearer {token}"}
    wrong = ({"name": "a/b"}, {"pascode": marked.make()}, {"retentionDate": "x"}, {"f": "xml"})
    for extra in ({}, {"f": "pjson"}, {"f": ""}, *wrong):
        fields = {"name": "n", "passcode": marked.make(), "f": "json", "token": token, **extra}
        yield "POST", CREATE, urlencode(fields), {"Content_Type": FORM}
    yield "POST", CREATE, urlencode({"passcode": marked.make()}), {"Content_Type": FORM}
    yield "POST", CREATE, f"passcode={marked.make()}&token={token}&%ff=%ff", {"Content_Type": FORM}
    yield "POST", f"{CREATE}?passcode={quote(marked.make())}", f"token={token}", {"Content_Type": FORM}
    yield "POST", CREATE, f"passcode={marked.make()}", {"Content_Type": "text/plain", **bearer}
    yield "GET", f"{CREATE}?passcode={quote(marked.make())}&token={quote(token)}", "", {}
    for path in (STORES, f"{STORES}/device/backups", f"{STORES}/attic/backups", "/context/admin/jobs/j1"):
        for form in ("html", "json", "pjson", "xml"):
            yield "GET", f"{path}?f={form}&token={quote(token)}", "", {}
        yield "GET", f"{path}?token={quote(marked.make())}", "", {}
    for path in (
        "/backups",
        BACKUP,
        f"{BACKUP}/creation/status",
        f"{BACKUP}/restoration/status",
        "/api/rest/v1/system/backup",
    ):
        yield "GET", path, "", bearer
        yield "GET", f"{path}?token={quote(marked.make())}", "", {"Authorization": f"Basic {marked.make()}"}
    secret = json.dumps({"passcode": marked.make(), "id": "config"})
    for path in ("/backup", "/backup/asset", f"{BACKUP}/restore", "/api/rest/v1/system/backup/create"):
        yield "POST", path, secret, {"Content_Type": JSON, **bearer}
        yield "POST", path, secret, {"Content_Type": JSON, "X_Application_ID": marked.make()}


def test_no_secret_of_the_documents_is_kept_or_told(
    device: NetworkAgent, marked: Secrets, token: str
) -> None:
    answers: dict[str, bytes] = {}
    api = ApiClient(device.storage / "http.sock")
    for connect in (lambda: UnixConnection(device.storage / "http.sock"), lambda: network(device)):
        for method, path, body, headers in requests(marked, token):
            answers[f"answer {len(answers)}"] = asked(connect, method, path, body, **headers)
            wait_until(lambda: api.get("/status").value["job"] is None, what="the end of the job")
    assert sum(b"SUBMITTED" in answer for answer in answers.values()) > 2
    answers["history"] = api.get("/jobs").body
    for job in json.loads(answers["history"])["jobs"]:
        answers[job["id"]] = api.get(f"/jobs/{job['id']}").body
    traces = {str(path): path.read_bytes() for path in files(device)} | answers | processes(device.pid)
    assert {where: found for where, data in traces.items() if (found := marked.found_in(data))} == {}


def network(device: NetworkAgent) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", device.port, timeout=30)


def files(device: NetworkAgent) -> Iterator[Path]:
    yield from device.work.glob("agent.log*")
    yield device.stderr
    yield from (path for path in device.storage.rglob("*") if path.is_file())
