"""Requests and answers as the handlers see them, and the problem that ends a request early."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

from agent.base.operations import Face

JSON = "application/json"
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Peer:
    address: str
    """An IP address; empty on the Unix socket."""
    subject: str = ""
    """The subject of its client certificate, which was checked; empty without one."""
    tls: bool = False
    user_id: int | None = None
    """The number of the user at the other end of the Unix socket."""

    @property
    def is_local(self) -> bool:
        """Return True on the Unix socket: the agent lets every user who can open it do everything."""
        return not self.address

    @property
    def face(self) -> Face:
        """Return the face that the peer uses; `mode` and `allow.*` hold over TCP as over MQTT."""
        return Face.LOCAL if self.is_local else Face.HTTP


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request: its body has at most `connection.MAX_BODY_BYTES`."""

    method: str
    path: str
    """As it was sent, still percent-encoded, without the query."""
    query: str
    headers: Mapping[str, str]
    """By name in small letters; several of one name are joined by a comma."""
    body: bytes = field(repr=False)
    peer: Peer
    parts: Mapping[str, str] = field(default_factory=dict)
    """The variable parts of the path by name, percent-decoded; the router fills them in."""
    unreadable: "Problem | None" = None
    """Says why the body could not be read; the site of the path words it."""
    is_gone: Callable[[], bool] = field(default=lambda: False, repr=False, compare=False)
    """Returns True when the client has closed its side: a long read ends then."""

    @property
    def content_type(self) -> str:
        """Return the type of the body in small letters, without parameters; empty when none is given."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json_object(self, *, may_be_empty: bool = False) -> dict[str, Any]:
        """Return the members of the body; none of an empty one that may be so. Raises `Problem` 400, 415."""
        if may_be_empty and not self.body:
            return {}
        if self.content_type != JSON:
            raise Problem(415, f"the body must be of the type {JSON}: send the header Content-Type")
        try:
            value = json.loads(self.body.decode("utf-8"))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise Problem(400, "the body must be one JSON object in UTF-8")
        return value

    def arguments(self) -> dict[str, str]:
        """Return the query's arguments by name, the last one of each name."""
        return dict(parse_qsl(self.query, keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Response:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] = field(default=b"", repr=False)
    """Whole, or in pieces: those are sent chunked as they come, and the iterable is closed at the end."""
    is_events: bool = False
    """True for a stream of events, of which there may be only a few at a time."""

    def close(self) -> None:
        """Close the body: it was sent, or nobody takes it any more."""
        close = getattr(self.body, "close", None)
        if close:
            close()


class Problem(Exception):
    """A request cannot be answered as asked. The detail is for people, without secrets."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] = NO_HEADERS) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers
