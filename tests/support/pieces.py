"""Document 003 as a client sees it."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from tests.support.api_client import ApiClient, Reply, UnixConnection
from tests.support.local_agent import LocalAgent
from tests.support.waiting import wait_until

IDENTIFIER = re.compile(r"1_\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
HOURS = "sleep 600"


def client(agent: LocalAgent) -> ApiClient:
    return ApiClient(agent.storage / "http.sock", "")


def listed(pieces: ApiClient) -> list[dict[str, Any]]:
    answer = pieces.get("/backups")
    assert answer.status == 200
    return list(answer.value["iterable"])


def backed_up(pieces: ApiClient, path: str = "/backup", body: object = None) -> dict[str, Any]:
    """Make a backup, and return it as it is listed at its end."""
    assert_empty(pieces.post(path, body))
    backup = listed(pieces)[0]
    assert ended(pieces, backup["id"], "creation")["value"] == "COMPLETED"
    return dict(pieces.get(f"/backup/{backup['id']}").value)


def assert_empty(answer: Reply) -> None:
    """Check an answer whose return type is void."""
    assert (answer.status, answer.body) == (204, b""), answer


def assert_text(answer: Reply, status: int, says: str) -> None:
    """Check an error."""
    assert (answer.status, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8"), answer
    assert says in answer.body.decode()


def ended(pieces: ApiClient, identifier: str, of: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def look() -> bool:
        found.update(pieces.get(f"/backup/{identifier}/{of}/status").value)
        return found["value"] not in ("INITIALIZED", "IN-PROGRESS")

    wait_until(look, what=f"the end of the {of}")
    return found


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def changed(agent: LocalAgent) -> None:
    (agent.data / "start.sh").write_text("changed")
    (agent.data / "added").write_text("new")


def streamed(agent: LocalAgent, identifier: str, body: bytes = b"") -> Iterator[dict[str, Any]]:
    """Yield the objects of a streamed restore, each as it comes."""
    with closing(UnixConnection(agent.storage / "http.sock")) as connection:
        path, headers = f"/backup/{identifier}/restore/streamed", {"Content-Type": "application/json"}
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
        assert response.headers["Transfer-Encoding"] == "chunked"
        for line in iter(response.readline, b""):
            yield json.loads(line)
