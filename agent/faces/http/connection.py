"""Serves one connection: requests one after another, each read, sent and waited for with a limit.

h11 knows HTTP/1.1 and refuses what is malformed (RFC 9112); the socket, the time and the sizes are ours.
"""

import select
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import cast

import h11

from agent.faces.http.message import Peer, Problem, Request, Response
from agent.faces.http.problems import problem_document

MAX_HEAD_BYTES = 16 << 10
MAX_BODY_BYTES = 64 << 10
READ_BYTES = 16 << 10
IDLE_S = 60.0
"""How long a connection may wait for its next request."""
REQUEST_S = 10.0
"""How long a request may take to arrive."""
SEND_S = 10.0
"""How long a piece of an answer may take to leave."""

Answer = Callable[[Request], Response]


class ClientGone(Exception):
    """The other end has hung up, or was too slow."""


class Connection:
    """One accepted socket. `serve` runs in a thread of its own."""

    def __init__(self, sock: socket.socket, peer: Peer, answer: Answer) -> None:
        self._sock, self._peer, self._answer = sock, peer, answer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)

    def serve(self) -> None:
        """Answer requests until the client or a limit ends the connection. Raises nothing."""
        with suppress(ClientGone, OSError):
            while self._serve_one():
                self._http.start_next_cycle()

    def _serve_one(self) -> bool:
        """Answer the next request; return True when another may follow."""
        request: Request | None = None
        try:
            request = self._read()
            if request is None:
                return False
            response = self._answer(request)
        except h11.RemoteProtocolError as error:
            response = _refusal(error.error_status_hint or 400, "this is no HTTP request that can be read")
        except Problem as problem:
            response = problem_document(_NO_REQUEST, problem)
        self._send(response, is_head=request is not None and request.method == "HEAD")
        return self._http.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}

    def _read(self) -> Request | None:
        """Return the next request, None at the connection's end."""
        deadline_s = time.monotonic() + IDLE_S
        event = self._next_event(deadline_s)
        if not isinstance(event, h11.Request):
            return None
        if self._http.they_are_waiting_for_100_continue:
            self._transmit(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
        body = self._body(time.monotonic() + REQUEST_S)
        path, _, query = event.target.decode("ascii").partition("?")
        return Request(
            event.method.decode(), path, query, _headers(event), body, self._peer, is_gone=self._is_gone
        )

    def _is_gone(self) -> bool:
        poll = select.poll()
        poll.register(self._sock, select.POLLRDHUP)
        return bool(poll.poll(0))

    def _body(self, deadline_s: float) -> bytes:
        pieces: list[bytes] = []
        left_bytes = MAX_BODY_BYTES
        while isinstance(event := self._next_event(deadline_s), h11.Data):
            left_bytes -= len(event.data)
            if left_bytes < 0:
                raise Problem(413, f"a body must not be longer than {MAX_BODY_BYTES} bytes")
            pieces.append(bytes(event.data))
        return b"".join(pieces)

    def _next_event(self, deadline_s: float) -> h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._sock.settimeout(max(deadline_s - time.monotonic(), 0.001))
            data = self._sock.recv(READ_BYTES)
            if data and self._http.trailing_data == (b"", False) and self._http.their_state is h11.IDLE:
                deadline_s = min(deadline_s, time.monotonic() + REQUEST_S)
            self._http.receive_data(data)
        return cast("h11.Event", event)

    def _send(self, response: Response, *, is_head: bool) -> None:
        headers = [*response.headers.items()]
        whole = isinstance(response.body, bytes)
        if whole:
            headers.append(("Content-Length", str(len(cast("bytes", response.body)))))
        head = h11.Response(status_code=response.status, headers=headers)
        data = self._http.send(head) or b""
        pieces: Iterable[bytes] = [response.body] if isinstance(response.body, bytes) else response.body
        if is_head:
            pieces = ()
        try:
            for piece in pieces:
                data += self._http.send(h11.Data(data=piece)) or b""
                self._transmit(data)
                data = b""
            self._transmit(data + (self._http.send(h11.EndOfMessage()) or b""))
        finally:
            if close := getattr(response.body, "close", None):
                close()

    def _transmit(self, data: bytes | None) -> None:
        if data:
            self._sock.settimeout(SEND_S)
            self._sock.sendall(data)


_NO_REQUEST = Request("", "", "", {}, b"", Peer(""))


def _headers(event: h11.Request) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, text in event.headers:
        key, value = name.decode("ascii"), text.decode("latin-1")
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


def _refusal(status: int, detail: str) -> Response:
    return problem_document(_NO_REQUEST, Problem(status, detail, {"Connection": "close"}))
