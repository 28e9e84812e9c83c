"""A client of the API over the agent's Unix socket, with nothing of the agent in it."""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 30.0


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    """By name in small letters."""
    body: bytes

    @property
    def value(self) -> Any:
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        """The detail of a problem document."""
        assert self.headers["content-type"] == "application/problem+json", self
        assert self.value["status"] == self.status
        return str(self.value["detail"])


@dataclass(frozen=True)
class Event:
    id: str
    name: str
    value: Any


class ApiClient:
    """Each request has a connection of its own."""

    def __init__(self, socket_path: Path, prefix: str = "/api/v1") -> None:
        self._path, self._prefix = socket_path, prefix

    def get(self, path: str, **headers: str) -> Reply:
        return self.send("GET", path, None, **headers)

    def post(self, path: str, value: object = None, **headers: str) -> Reply:
        body = None if value is None else json.dumps(value).encode()
        return self.send(
            "POST", path, body, **({"Content-Type": "application/json"} if body else {}) | headers
        )

    def send(self, method: str, path: str, body: bytes | None, **headers: str) -> Reply:
        with closing(UnixConnection(self._path)) as connection:
            connection.request(
                method, f"{self._prefix}{path}", body, {k.replace("_", "-"): v for k, v in headers.items()}
            )
            return _reply(connection.getresponse())

    @contextmanager
    def events(self, path: str = "/events", last_id: str = "") -> Iterator[Iterator[Event]]:
        """Open a stream of events; it is open when the block begins."""
        with closing(UnixConnection(self._path)) as connection:
            connection.request(
                "GET", f"{self._prefix}{path}", None, {"Last-Event-ID": last_id} if last_id else {}
            )
            response = connection.getresponse()
            assert response.status == 200, response.read()
            assert response.headers["Content-Type"] == "text/event-stream"
            yield _events(response)


def _reply(response: http.client.HTTPResponse) -> Reply:
    headers = {name.lower(): text for name, text in response.getheaders()}
    return Reply(response.status, headers, response.read())


def _events(response: http.client.HTTPResponse) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in iter(response.readline, b""):
        name, _, text = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = text
        elif "data" in fields:
            yield Event(fields["id"], fields["event"], json.loads(fields["data"]))
            fields = {}
