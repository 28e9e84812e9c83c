"""Archives behind an HTTP(S) URL: a WebDAV server, a pre-signed URL, any server with PUT or POST and GET."""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

from providers.address import Address, parse_address, redirected
from providers.api import Capability, Checkpoint, Limits, Piece, Sink, Source, Storage, Stored
from providers.dial import check_allowed
from providers.errors import (
    BadOptions,
    Corrupted,
    Expired,
    NotAllowed,
    Rejected,
    StorageError,
    Unreachable,
    from_http_status,
)
from providers.fetch import Wanted, received
from providers.http_fields import content_length, content_range, digest, validator
from providers.options import Option, problems_in

if TYPE_CHECKING:
    from providers.http_exchange import Answer

_MAX_REDIRECTS = 5
_REDIRECTS = {"GET": (301, 302, 303, 307, 308), "PUT": (307, 308), "POST": (307, 308)}
_HEADER = "https.header."
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110 5.6.2
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_OURS = {"host", "content-length", "transfer-encoding", "connection"}
_VALIDATOR = "https.validator"
OPTIONS = {
    "https.url": Option(r".*", "an http or https URL with a host", required=True, parse=parse_address),
    "https.method": Option(r"(?i:PUT|POST)", "PUT or POST"),
    "https.name": Option(),
}


class Https(Storage):
    """Storage behind one URL, which names the object too unless it ends in a slash.

    Options: `https.url` (http or https; credentials in it are sent as `Authorization: Basic`), `https.name`,
    the object's relative name below a URL that ends in a slash,
    `https.method` (PUT, the default, or POST), `https.header.<Name>` for headers of every request. These
    headers go to the origin of the URL alone, also when it redirects.

    Rule 3 depends on the server: it must store nothing of an upload that was cut off (as nginx, Apache, S3
    and Azure do), and replace the old object in one step.
    """

    capabilities = frozenset({Capability.READ_RANGE})
    kind: ClassVar[str] = "generic"
    needs_size: ClassVar[bool] = True
    name_option: ClassVar[str | None] = None

    def __init__(self, options: Mapping[str, str], limits: Limits, /) -> None:
        self._headers = own_headers(options, OPTIONS)
        self._address = parse_address(options["https.url"])
        self._method = (options.get("https.method") or "PUT").upper()
        self._limits = limits

    def preflight(self, _writing: bool, /) -> None:
        """Raise `NotAllowed` when the device is known not to allow this destination."""
        refuse_address(self._address, self._limits)

    def put(
        self, name: str, source: Source, _metadata: Mapping[str, str], _checkpoint: Checkpoint, /
    ) -> Stored:
        """Send all of `source`; an MD5 that it knows goes along as `Content-MD5`.

        The metadata is not sent: no header for it is known everywhere.
        """
        if source.size is None:
            raise Rejected("an HTTP upload needs the archive's length: it has to be staged first")
        headers = {"Content-MD5": base64.b64encode(source.md5).decode()} if source.md5 else {}
        address = self._at(name)
        with self._asked(address, self._method, headers, source) as (answer, what):
            _require_success(answer, what)
            if not answer.whole:
                raise Unreachable(f"{what}: HTTP {answer.status} before the whole archive was sent")
            return Stored(name, source.size, answer.headers.get("etag", ""), address.location)

    def location(self, name: str, /) -> str:
        return self._at(name).location

    def _at(self, name: str) -> Address:
        address = self._address
        below = address.path.endswith("/") and not address.query
        return replace(address, path=address.path + quote(name)) if below else address

    def get(self, name: str, sink: Sink, checkpoint: Checkpoint, /) -> Stored:
        """Fetch the object; continues with `Range` and `If-Range` when the checkpoint knows its version."""
        known = checkpoint.get(_VALIDATOR)
        ranged = {"Range": f"bytes={sink.tell()}-", "If-Range": known} if known and sink.tell() else {}
        address = self._at(name)
        with self._asked(address, "GET", ranged) as (answer, what):
            if not (ranged and answer.status == 416):
                return self._receive(name, answer, what, sink, checkpoint)
            end = content_range(answer.headers.get("content-range", ""))
            if end and end.total == sink.tell():
                checkpoint.pop(_VALIDATOR, None)
                return Stored(name, sink.tell(), known or "", address.location)
        checkpoint.pop(_VALIDATOR, None)
        with self._asked(address, "GET", {}) as (answer, what):
            return self._receive(name, answer, what, sink, checkpoint)

    def read_range(self, name: str, offset: int, size_bytes: int, /) -> Piece:
        wanted = Wanted(offset, size_bytes)
        with self._asked(self._at(name), "GET", {"Range": wanted.header}) as (answer, what):
            _require_success(answer, what)
            said = answer.headers.get("content-range", "") if answer.status == 206 else ""
            return received(what, wanted, said, validator(answer.headers) or "", answer.read)

    def close(self) -> None:
        """Do nothing: no connection outlives its request."""

    @contextmanager
    def _asked(
        self, address: Address, method: str, headers: Mapping[str, str], source: Source | None = None
    ) -> Iterator[tuple["Answer", str]]:
        """Yield the final answer, and its request for messages. Follows redirects that keep the method."""
        # Not while a command is checked: urllib3 takes a while to import.
        from providers.http_exchange import HttpRequest, exchanged

        asked, own_headers = address, self._headers
        for _ in range(_MAX_REDIRECTS + 1):
            if source is not None and source.tell():
                source.seek(0)
            request = HttpRequest(method, address, {**own_headers, **headers}, source)
            with exchanged(request, self._limits) as answer:
                if answer.status not in _REDIRECTS[method]:
                    yield answer, request.what
                    return
                location = answer.headers.get("location", "")
            try:
                new = redirected(address, location)
            except ValueError as error:
                raise Rejected(
                    f"{request.what}: redirects to something else than an http or https URL"
                ) from error
            if (address.scheme, new.scheme) == ("https", "http"):
                raise Rejected(f"{request.what}: redirects from https to http, which is not followed")
            if new.origin != address.origin:
                own_headers = {}
            address = new
        raise Rejected(f"{method} {asked.location}: redirects more than {_MAX_REDIRECTS} times")

    def _receive(self, name: str, answer: "Answer", what: str, sink: Sink, checkpoint: Checkpoint) -> Stored:
        _require_success(answer, what)
        if answer.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            raise Rejected(f"{what}: the content is encoded once more (Content-Encoding): store it as it is")
        total = _prepare(answer, what, sink, checkpoint)
        length = content_length(answer.headers) if total is None else total
        if length is not None:
            sink.expect(length)
        expected = digest(answer.headers) if not sink.tell() else None
        actual = hashlib.new(expected[0], usedforsecurity=False) if expected else None
        while chunk := answer.read():
            if actual:
                actual.update(chunk)
            sink.write(chunk)
        if total is not None and sink.tell() < total:
            raise Unreachable(f"{what}: the answer ended at {sink.tell()} of {total} bytes")
        checkpoint.pop(_VALIDATOR, None)
        if (total is not None and sink.tell() > total) or (
            actual and expected and actual.digest() != expected[1]
        ):
            raise Corrupted(f"{what}: length or hash of the content is not the announced one")
        return Stored(name, sink.tell(), answer.headers.get("etag", ""), self.location(name))


def refuse_address(address: Address, limits: Limits) -> None:
    """Raise `NotAllowed` when the device is known not to allow this URL."""
    check_allowed(address, limits)
    if not limits.allow.any_bucket:
        raise NotAllowed(f"{address.base}: a URL names no bucket that could be checked (allow.buckets)")


def own_headers(options: Mapping[str, str], known: Mapping[str, Option]) -> dict[str, str]:
    """Return the headers in the options; `known` are the options beside headers. Raises `BadOptions`."""
    headers: dict[str, str] = {}
    problems: dict[str, str] = {}
    plain: dict[str, str] = {}
    for key, value in options.items():
        name = key.removeprefix(_HEADER)
        if name == key:
            plain[key] = value
            continue
        if not _HEADER_NAME.fullmatch(name):
            problems[key] = "must end in the name of a header"
        elif name.lower() in _OURS:
            problems[key] = "sets a header that the transfer itself has to set"
        elif not _HEADER_VALUE.fullmatch(value):
            problems[key] = "must be text of one line in Latin-1"
        headers[name] = value
    if problems := problems | problems_in(plain, "https.", known):
        raise BadOptions(problems)
    return headers


def _require_success(answer: "Answer", what: str) -> None:
    if not 200 <= answer.status < 300:
        raise _refusal(answer, what)


def _refusal(answer: "Answer", what: str) -> StorageError:
    """Return the error for an answer outside 200-299. The message repeats nothing of its body."""
    if answer.status in (401, 403) and _says_expired(answer):
        return Expired(f"{what}: HTTP {answer.status}: the URL or its credentials have expired")
    return from_http_status(answer.status, what, answer.headers)


def _says_expired(answer: "Answer") -> bool:
    """Return True when the body has the word, as that of S3 and Azure for an old pre-signed URL or SAS."""
    try:
        return b"expired" in answer.read(4096).lower()
    except StorageError:  # the refusal stands also without a body
        return False


def _prepare(answer: "Answer", what: str, sink: Sink, checkpoint: Checkpoint) -> int | None:
    """Make `sink` ready for the content that follows; return its whole length, when known.

    A part of the content has to begin at the end of the sink and to be of the known version; the whole
    content restarts the sink. Any 2xx other than 206 counts as 200 (15), unless it has a `Content-Range`.
    """
    known, current = checkpoint.get(_VALIDATOR, ""), validator(answer.headers)
    part = content_range(answer.headers.get("content-range", "")) if answer.status != 200 else None
    if part or answer.status == 206:
        # Some servers honour Range and overlook If-Range: then this is a part of something newer.
        if part is None or part.first != sink.tell() or (current and known and current != known):
            checkpoint.pop(_VALIDATOR, None)
            raise Corrupted(f"{what}: the answer is another part of the content than the one asked for")
        return part.total
    if sink.tell():
        sink.restart()
    if current and current != known:
        checkpoint[_VALIDATOR] = current
    elif known and not current:
        del checkpoint[_VALIDATOR]
    return None
