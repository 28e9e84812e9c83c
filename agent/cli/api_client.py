"""The API of an agent, for the command line: over the Unix socket, or at the URL of another device."""

import json
import socket
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from agent.faces.unix_address import address
from agent.send.options import UnusableOption

if TYPE_CHECKING:  # a megabyte that a command which asks no agent does not need
    from http.client import HTTPConnection, HTTPResponse

ANSWER_TIMEOUT_S = 75.0
"""Longer than the agent takes for any answer, and than a stream of events is silent."""
MAX_TOKEN_BYTES = 4096
_MAX_ANSWER_BYTES = 4 << 20
_PIECE_BYTES = 1 << 16
_MAX_LINE_BYTES = 2 << 20

Value = Mapping[str, Any]


class NotAnswered(Exception):
    """The agent does not run, or this user may not ask it."""


class AgentRefused(Exception):
    """The agent answered with an error."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Event(NamedTuple):
    name: str
    value: Value


class Agent:
    """Each request has a connection of its own. Methods raise `AgentRefused` and `NotAnswered`."""

    def __init__(self, connect: Callable[[], "HTTPConnection"], headers: Mapping[str, str]) -> None:
        """`connect` opens a connection. Raises `NotAnswered`."""
        self._connect, self._headers = connect, headers

    def get(self, path: str, **query: str | int) -> Value:
        return self._asked("GET", f"{path}?{urlencode(query)}" if query else path, None)

    def post(self, path: str, value: Value | None = None) -> Value:
        return self._asked("POST", path, value or {})

    def download(self, endpoint: str, query: Mapping[str, str], write: Callable[[bytes], object]) -> None:
        """Hand the answer to `write` in pieces. Raises also what `write` raises."""
        with closing(self._connect()) as connection:
            with _translated():
                response = self._answer(connection, "GET", f"{endpoint}?{urlencode(query)}", None)
            while piece := _piece(response):
                write(piece)
            if response.length:  # of what was announced
                raise NotAnswered("the agent could not read all of it: its log says why")

    @contextmanager
    def events(self, path: str) -> Iterator[Iterator[Event]]:
        """Open a stream of events: all events from the beginning of the block on."""
        with closing(self._connect()) as connection:
            with _translated():
                response = self._answer(connection, "GET", path, None)
            yield _events(response)

    def _asked(self, method: str, path: str, value: Value | None) -> Value:
        with closing(self._connect()) as connection, _translated():
            body = self._answer(connection, method, path, value).read(_MAX_ANSWER_BYTES)
            answer: Value = json.loads(body) if body else {}
            return answer

    def _answer(
        self, connection: "HTTPConnection", method: str, path: str, value: Value | None
    ) -> "HTTPResponse":
        body = None if value is None else json.dumps(value).encode()
        headers = {**self._headers, **({"Content-Type": "application/json"} if body else {})}
        connection.request(method, f"/api/v1{path}", body, headers)
        response = connection.getresponse()
        if response.status >= 300:
            raise AgentRefused(_reason(response), response.status)
        return response


def _piece(response: "HTTPResponse") -> bytes:
    with _translated():
        return response.read(_PIECE_BYTES)


def in_path(text: str) -> str:
    """Return a text as one segment of a path."""
    return quote(text, safe="")


def on_this_device(path: Path, storage: Path) -> Agent:
    """Return the agent that listens at the Unix socket `path`. Raises `NotAnswered` when there is none."""

    from http.client import HTTPConnection

    def connect() -> HTTPConnection:
        connection = HTTPConnection("localhost", timeout=ANSWER_TIMEOUT_S)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(ANSWER_TIMEOUT_S)
        try:
            connection.sock.connect(address(path))
        except OSError as error:
            connection.close()
            if isinstance(error, PermissionError):
                message = f"no permission for '{storage}': try as the agent's user or root"
            else:
                how = "start it with 'systemctl start edge-backup' or 'edge-backup run'"
                message = f"no agent runs with storage '{storage}': {how}"
            raise NotAnswered(message) from error
        return connection

    connect().close()
    return Agent(connect, {})


def elsewhere(url: str, token_file: str | None, ca_file: str | None) -> Agent:
    """Return the agent at a URL. Raises `UnusableOption`."""
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if parts.scheme not in ("http", "https") or not host or parts.path not in ("", "/") or parts.username:
        raise UnusableOption(f"--url '{url}' must be like https://device:8765")

    def connect() -> "HTTPConnection":
        connection = _plain_or_tls(parts.scheme, host, port, ca_file)
        try:
            connection.connect()
        except OSError as error:
            raise NotAnswered(f"no agent answers at '{url}': {error.strerror or error}") from error
        return connection

    return Agent(connect, {"Authorization": f"Bearer {_token(token_file)}"} if token_file else {})


def _plain_or_tls(scheme: str, host: str, port: int | None, ca_file: str | None) -> "HTTPConnection":
    from http.client import HTTPConnection, HTTPSConnection

    if scheme == "http":
        return HTTPConnection(host, port, timeout=ANSWER_TIMEOUT_S)
    import ssl

    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise UnusableOption(f"--ca-file '{ca_file}' has no certificates that can be read") from error
    return HTTPSConnection(host, port, timeout=ANSWER_TIMEOUT_S, context=context)


def _token(path: str) -> str:
    try:
        with open(path, "rb") as file:
            token = file.read(MAX_TOKEN_BYTES).removeprefix(BOM_UTF8).decode("ascii").strip()
    except OSError as error:
        raise UnusableOption(f"--token-file '{path}' cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        token = ""
    if not token.isprintable() or not token:
        raise UnusableOption(f"--token-file '{path}' must have a token in it: one line of ASCII")
    return token


@contextmanager
def _translated() -> Iterator[None]:
    """Raise `NotAnswered` for an answer that does not come, or is none."""
    from http.client import HTTPException

    try:
        yield
    except (OSError, HTTPException, ValueError) as error:
        raise NotAnswered("the agent went away") from error


def _reason(response: "HTTPResponse") -> str:
    try:
        problem = json.loads(response.read(_MAX_ANSWER_BYTES))
        return str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the agent answers with status {response.status}"


def _events(response: "HTTPResponse") -> Iterator[Event]:
    """Yield events as they come. Raises `NotAnswered` at the end: a stream that is whole is left before."""
    with _translated():
        name, data = "", ""
        while line := response.readline(_MAX_LINE_BYTES):
            field, _, text = line.decode().rstrip("\r\n").partition(": ")
            if field == "event":
                name = text
            elif field == "data":
                data = text
            elif not field and data:
                yield Event(name, json.loads(data))
                name, data = "", ""
    raise NotAnswered("the agent went away")
