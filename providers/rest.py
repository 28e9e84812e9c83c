"""The objects of a repository on a REST server, version 2 (restic's `doc/REST_backend.rst`).

Names are those of a repository in a directory, `data/xx/<id>`; a REST server leaves `xx` out. An append-only
server answers 403 to a POST for an object that is there.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, suppress
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, NoReturn
from urllib.parse import quote

from providers.address import Address, parse_address
from providers.api import Capability, Checkpoint, Limits, Piece, Sink, Source, Storage, Stored
from providers.errors import (
    AccessDenied,
    AlreadyThere,
    NotFound,
    Rejected,
    StorageError,
    UnknownOutcome,
    Unreachable,
    from_http_status,
    translating,
)
from providers.fetch import Wanted, received
from providers.http_fields import content_length
from providers.https import own_headers, refuse_address
from providers.options import Option

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

_KINDS = ("data", "index", "keys", "locks", "snapshots")
_PACK = re.compile(r"((?:.*/)?)data/[0-9a-f]{2}/([0-9a-f]{64})")
_FIRST = re.compile(r"((?:.*/)?)(?:config|keys/[^/]*)")
_OF_ONE_KIND = re.compile(rf"((?:.*/)?)({'|'.join(_KINDS)})/.*")
_ID = re.compile(r"[0-9a-f]{64}")
_LIST = "application/vnd.x.restic.rest.v2"
_MOST_MARKS = 200_000
"""Values of a list, which become objects that are much larger than their text: 66,000 names."""


def _server(url: str) -> Address:
    """Parse the URL of a server. Raises ValueError, also for one that is signed for a single object."""
    address = parse_address(url)
    if address.query:
        raise ValueError("a REST server has no query in its URL")
    return address


OPTIONS = {
    "https.url": Option(
        r".*/", "the URL of a REST server, with a '/' at its end", required=True, parse=_server
    )
}


class RestServer(Storage):
    """Storage of one repository below `https.url`. Options: `OPTIONS`, and `https.header.<Name>`."""

    capabilities = frozenset(Capability) - {Capability.RESUME_STREAM}
    kind: ClassVar[str] = "generic"
    needs_size: ClassVar[bool] = False
    name_option: ClassVar[str | None] = None

    def __init__(self, options: Mapping[str, str], limits: Limits, /) -> None:
        self._headers, self._limits = own_headers(options, OPTIONS), limits
        self._address = _server(options["https.url"])

    def preflight(self, _writing: bool, /) -> None:
        """Raise `NotAllowed` when the device is known not to allow this destination."""
        refuse_address(self._address, self._limits)

    def create(self, name: str, content: bytes | bytearray, /) -> Stored:
        """Store an object; before the first ones of a repository, make the repository's directories."""
        if first := _FIRST.fullmatch(name):
            self._done("POST", f"{quote(first[1])}?create=true")
        try:
            self._done("POST", _path(name), content)
        except AccessDenied as error:
            # Append-only servers say 403, whether it is there or credentials are wrong.
            with suppress(NotFound, AccessDenied):
                raise self._there(self.stat(name), len(content)) from error
            raise
        return Stored(name, len(content), place=self.location(name))

    def _there(self, stored: Stored, size_bytes: int) -> StorageError:
        """Return the error for an object that is there; one of its hash and another length is no such object.

        A server that writes uploads in their place, as rclone does, shows the beginning of one that was cut
        off until it notices: another try may find it gone.
        """
        location = self.location(stored.name)
        if stored.size_bytes != size_bytes and _ID.fullmatch(stored.name.rpartition("/")[2]):
            return Unreachable(f"{location} is there with {stored.size_bytes} bytes in place of {size_bytes}")
        return AlreadyThere(f"{location} is there already")

    def stat(self, name: str, /) -> Stored:
        reply = self._done("HEAD", _path(name))
        size_bytes = content_length(reply.headers)
        if size_bytes is None:
            raise self._no_server()
        return Stored(name, size_bytes, place=self.location(name))

    def delete(self, name: str, /) -> None:
        with suppress(NotFound):
            self._done("DELETE", _path(name))

    def read_range(self, name: str, offset: int, size_bytes: int, /) -> Piece:
        wanted = Wanted(offset, size_bytes)
        with closing(self._asked("GET", _path(name), Range=wanted.header)) as reply:
            self._require_success(reply, "GET", name)

            def read(most_bytes: int) -> bytes:
                with self._translating("GET", name):
                    return reply.read(most_bytes)

            said = reply.headers.get("Content-Range", "")
            total = content_length(reply.headers)
            if reply.status == 200 and offset == 0 and total:  # it gives no parts
                said = f"bytes 0-{total - 1}/{total}"
            return received(self.location(name), wanted, said, "", read)

    def list(self, prefix: str, /) -> Iterator[Stored]:
        """Yield the objects of one kind, as for `locks/`, or of the whole repository in a directory."""
        if found := _OF_ONE_KIND.fullmatch(prefix):
            yield from (each for each in self._listed(found[1], found[2]) if each.name.startswith(prefix))
            return
        with suppress(NotFound):
            yield self.stat(f"{prefix}config")
        for kind in _KINDS:
            self._limits.check()
            yield from self._listed(prefix, kind)

    def location(self, name: str, /) -> str:
        return self._address.location + _path(name)

    def close(self) -> None:
        if "_pool" in self.__dict__:
            self._pool.clear()

    def put(self, _name: str, _source: Source, _metadata: Mapping[str, str], _: Checkpoint, /) -> NoReturn:
        raise Rejected(f"{self._address.location}: a REST server keeps a repository, and no archives")

    def get(self, _name: str, _sink: Sink, _checkpoint: Checkpoint, /) -> NoReturn:
        raise Rejected(f"{self._address.location}: a REST server keeps a repository, and no archives")

    def _listed(self, top: str, kind: str) -> Iterator[Stored]:
        directory = quote(f"{top}{kind}/")
        try:
            reply = self._done("GET", directory, Accept=_LIST)
        except NotFound:
            return
        with self._translating("GET", directory):
            body = reply.read()
        if body.count(b",") + body.count(b"[") + body.count(b"{") > _MOST_MARKS:
            location = self._address.location + directory
            raise Rejected(f"{location}: the list is longer than those of one device are")
        try:
            found = [(str(each["name"]), int(each["size"])) for each in json.loads(body)]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise self._no_server() from error
        for name, size_bytes in found:
            if _ID.fullmatch(name):
                between = f"{name[:2]}/" if kind == "data" else ""
                yield Stored(f"{top}{kind}/{between}{name}", size_bytes)

    def _done(
        self, method: str, path: str, content: bytes | bytearray | None = None, **headers: str
    ) -> "BaseHTTPResponse":
        """Send a request and return its answer with the whole body. Raises `StorageError`."""
        from providers.pool import control_answer

        reply = self._asked(method, path, content, **headers)
        with self._translating(method, path, storing=content is not None):
            answer = control_answer(reply, self._limits)
        self._require_success(answer, method, path)
        return answer

    def _asked(
        self, method: str, path: str, content: bytes | bytearray | None = None, **headers: str
    ) -> "BaseHTTPResponse":
        from providers.pool import send_request

        sent = {"User-Agent": "edge-backup", "Accept-Encoding": "identity"}
        if self._address.authorization:
            sent["Authorization"] = self._address.authorization
        sent |= {**self._headers, **headers}
        with self._translating(method, path, storing=content is not None):
            return send_request(self._pool, method, self._address.location + path, sent, content)

    def _require_success(self, reply: "BaseHTTPResponse", method: str, path: str) -> None:
        if not 200 <= reply.status < 300:
            raise from_http_status(reply.status, f"{method} {self._address.location}{path}", reply.headers)

    def _no_server(self) -> Unreachable:
        return Unreachable(f"{self._address.location}: what answers there is not a REST server for restic")

    def _translating(self, method: str, path: str, *, storing: bool = False) -> AbstractContextManager[None]:
        # Not while a command is checked: urllib3 takes a while to import.
        from providers.http_exchange import network_errors

        broken = UnknownOutcome if storing else Unreachable
        return translating(network_errors(f"{method} {self._address.location}{path}", broken))

    @cached_property
    def _pool(self) -> "PoolManager":
        from providers.pool import open_pool

        return open_pool(self._limits, self._address.base)


def _path(name: str) -> str:
    """Return the path of an object below the URL; `data/xx/<id>` is `data/<id>` there."""
    pack = _PACK.fullmatch(name)
    return quote(f"{pack[1]}data/{pack[2]}" if pack else name)
