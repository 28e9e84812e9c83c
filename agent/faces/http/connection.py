"""Serves one connection: requests one after another, each read, sent and waited for with a limit.

h11 knows HTTP/1.1 and refuses what is malformed (RFC 9112); the socket, the time and the sizes are ours.
"""

import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import cast

import h11
import structlog

from agent.faces.http.headers import joined, with_defaults
from agent.faces.http.message import Peer, Problem, Request, Response
from agent.faces.http.places import Places
from agent.faces.http.problems import problem_document

log = structlog.get_logger(__name__)

MAX_HEAD_BYTES = 16 << 10
MAX_BODY_BYTES = 64 << 10
PIECE_BYTES = 16 << 10
"""Read at most so much at once; each piece of an answer has `SEND_S` of its own."""
IDLE_S = 60.0
"""How long a connection may wait for its next request."""
REQUEST_S = 10.0
"""How long a request may take to arrive, and the first one to begin."""
SEND_S = 10.0
"""How long a piece of an answer may take to leave."""
LINGER_S = 1.0
LINGER_BYTES = 256 << 10
"""How long, and for how many bytes, a client may go on sending that was refused in the middle."""
STREAM_RETRY_S = 30
_LINE_ENDS = b"\r\n"
_WITHOUT_LENGTH = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
"""A cache would take the length of a 304 for that of the content (RFC 9110, 8.6)."""

Answer = Callable[[Request], Response]


class _BrokenOff(Exception):
    """The pieces of an answer ended in an error: the client has to see that its end is missing."""


class Connection:
    """One accepted socket. `serve` runs in a thread of its own."""

    def __init__(self, sock: socket.socket, peer: Peer, answer: Answer, places: Places) -> None:
        self._sock, self._peer, self._answer, self._places = sock, peer, answer, places
        self._http, self._pipelined = _parser(), b""
        self._wait_s = REQUEST_S
        self.idle_since_s: float | None = time.monotonic()
        """Since when nothing is under way; None while a request is read or answered."""

    def serve(self) -> None:
        """Answer requests until the client or a limit ends the connection. Raises nothing."""
        with suppress(OSError, _BrokenOff):
            while self._serve_one():
                self._pipelined, _ = self._http.trailing_data
                self._http = _parser()
                self._wait_s = IDLE_S
                self.idle_since_s = time.monotonic()
            self._linger()

    def _serve_one(self) -> bool:
        """Answer the next request; return True when another may follow."""
        request: Request | None = None
        try:
            request = self._read()
            if request is None:
                return False
            response = self._answer(request)
        except h11.RemoteProtocolError as error:
            response = _refusal(Problem(error.error_status_hint, "this is no HTTP/1.1 request"))
        except Problem as problem:
            response = _refusal(problem)
        self._send_within_places(response, is_head=request is not None and request.method == "HEAD")
        return self._http.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}

    def _read(self) -> Request | None:
        """Return the next request; None at the connection's end. Raises `Problem` and RemoteProtocolError."""
        self._receive_first()
        deadline_s = time.monotonic() + REQUEST_S
        event = self._next_event(deadline_s)
        if not isinstance(event, h11.Request):
            return None
        headers, method = joined(event.headers), event.method.decode("ascii")
        path, query = _target(event, headers)
        request = Request(method, path, query, headers, b"", self._peer, is_gone=self.is_gone)
        try:
            _check_length(headers)
            if self._http.they_are_waiting_for_100_continue:
                self._transmit(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
            return replace(request, body=self._body(deadline_s))
        except Problem as problem:
            return replace(request, unreadable=_closing(problem))

    def is_gone(self) -> bool:
        """Return True when the client has closed its side. May be called from any thread."""
        poll = select.poll()
        try:
            poll.register(self._sock, select.POLLRDHUP)
        except ValueError:  # it is closed
            return True
        return bool(poll.poll(0))

    def _receive_first(self) -> None:
        """Wait for the first byte of a request, unless it came together with the one before.

        Empty lines are skipped: some clients send one behind a body (RFC 9112, 2.2).
        """
        deadline_s = time.monotonic() + self._wait_s
        data, is_open = self._pipelined.lstrip(_LINE_ENDS), True
        while is_open and not data:
            received = self._receive(deadline_s)
            data, is_open = received.lstrip(_LINE_ENDS), bool(received)
        self._http.receive_data(data)
        self.idle_since_s = None

    def _body(self, deadline_s: float) -> bytes:
        body = bytearray()
        while isinstance(event := self._next_event(deadline_s), h11.Data):
            body += event.data
            if len(body) > MAX_BODY_BYTES:
                raise _too_long()
        return bytes(body)

    def _next_event(self, deadline_s: float) -> h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            try:
                data = self._receive(deadline_s)
            except TimeoutError:
                raise Problem(408, f"a request must arrive within {REQUEST_S:.0f} seconds") from None
            self._http.receive_data(data)
        return cast("h11.Event", event)

    def _receive(self, deadline_s: float) -> bytes:
        """Return the next bytes, none at the connection's end. Raises TimeoutError and other OSErrors."""
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._sock.settimeout(left_s)
        return self._sock.recv(PIECE_BYTES)

    def _send_within_places(self, response: Response, *, is_head: bool) -> None:
        """Send a response; a stream of events only while there is a place for it."""
        if not response.is_events or is_head:
            self._send(response, is_head=is_head)
        elif self._places.enter_stream(self):
            try:
                self._send(response, is_head=False)
            finally:
                self._places.leave_stream(self)
        else:
            response.close()
            detail = "too many clients follow the events: close one, or ask again later"
            problem = Problem(503, detail, {"Retry-After": str(STREAM_RETRY_S)})
            self._send(problem_document(_NO_REQUEST, problem), is_head=False)

    def _send(self, response: Response, *, is_head: bool) -> None:
        headers = with_defaults(response.headers)
        body = response.body
        if isinstance(body, bytes) and response.status not in _WITHOUT_LENGTH:
            headers.append(("Content-Length", str(len(body))))
        reason = HTTPStatus(response.status).phrase
        try:
            head = self._http.send(h11.Response(status_code=response.status, headers=headers, reason=reason))
            data = head or b""
            for piece in () if is_head else _pieces(body):
                self._transmit(data + (self._http.send(h11.Data(data=piece)) or b""))
                data = b""
            self._transmit(data + (self._http.send(h11.EndOfMessage()) or b""))
        finally:
            response.close()

    def _transmit(self, data: bytes | None) -> None:
        if data:
            self._sock.settimeout(SEND_S)
            self._sock.sendall(data)

    def _linger(self) -> None:
        """Let the client read its answer: closing with unread bytes resets the connection (RFC 9112, 9.6)."""
        if self._http.their_state is h11.CLOSED:
            return
        # Not `SSLSocket.shutdown`, which gives up TLS: what comes after it would be read encrypted.
        socket.socket.shutdown(self._sock, socket.SHUT_WR)
        deadline_s, left_bytes = time.monotonic() + LINGER_S, LINGER_BYTES
        while left_bytes > 0 and (unread := self._receive(deadline_s)):
            left_bytes -= len(unread)


def _parser() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)


_NO_REQUEST = Request("", "", "", {}, b"", Peer(""))


def _target(event: h11.Request, headers: dict[str, str]) -> tuple[str, str]:
    """Return path and query. The host of an absolute target replaces the header (RFC 9112, 3.2.2)."""
    target = event.target.decode("ascii")
    scheme, is_absolute, rest = target.partition("://")
    if is_absolute and scheme.lower() in ("http", "https"):
        host = rest.partition("/")[0].partition("?")[0]
        headers["host"], target = host, rest[len(host) :] or "/"
        target = target if target.startswith("/") else f"/{target}"
    path, _, query = target.partition("?")
    return path, query


def _check_length(headers: dict[str, str]) -> None:
    """Raise `Problem` for a body that announces itself as too long, or of two different lengths."""
    length = headers.get("content-length")
    if length and "transfer-encoding" in headers:
        raise Problem(400, "a request must not have both Content-Length and Transfer-Encoding")
    if length and int(length) > MAX_BODY_BYTES:
        raise _too_long()


def _too_long() -> Problem:
    return Problem(413, f"a body must not be longer than {MAX_BODY_BYTES} bytes")


def _refusal(problem: Problem) -> Response:
    """Return the answer to what is no request, or comes too slowly to be one."""
    return problem_document(_NO_REQUEST, _closing(problem))


def _closing(problem: Problem) -> Problem:
    """Return the problem of a request that was not read to its end: nothing can follow."""
    return Problem(problem.status, problem.detail, {"Connection": "close"})


def _pieces(body: bytes | Iterable[bytes]) -> Iterator[bytes]:
    """Yield the body in pieces that are not too long. Raises `_BrokenOff`."""
    try:
        for piece in (body,) if isinstance(body, bytes) else body:
            for start in range(0, len(piece), PIECE_BYTES):
                yield piece[start : start + PIECE_BYTES]
    except ConnectionAbortedError as error:  # the handler has logged why
        raise _BrokenOff from error
    except Exception as error:
        log.exception("answer broken off")
        raise _BrokenOff from error
