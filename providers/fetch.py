"""Downloads that continue an earlier one, and parts of objects, for far sides with ranges and ETags.

Checkpoint keys: `get.place` and `get.etag` say what was being fetched, `get.size` its length in bytes.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from providers.api import Checkpoint, Piece, Sink, Stored
from providers.errors import Corrupted, Rejected, Unreachable
from providers.http_fields import content_range
from providers.writeback import CHUNK_BYTES

_KEYS = ("get.place", "get.etag", "get.size")


@dataclass(frozen=True, slots=True)
class Body:
    """An answer with the object's bytes from `start` to its end."""

    start: int
    size_bytes: int
    """Of the whole object."""
    etag: str
    md5: str | None
    """Of the whole object, as 32 hex digits, where the far side knows it."""
    read: Callable[[int], bytes]
    """Reads at most that many bytes, b"" at the end. Raises `StorageError`."""
    close: Callable[[], None]


OpenBody = Callable[[int, str], Body]
"""Opens (offset, ETag) the rest from the offset on, or the whole when the far side gives no part.

With offset 0 any ETag is right. Raises `StorageError`: `NotFound`, or `Corrupted` when the object does not
have that ETag any more.
"""


class Download:
    """One object on its way into one sink. `location` is for people, and must name this object alone."""

    def __init__(self, name: str, location: str, checkpoint: Checkpoint, open_body: OpenBody) -> None:
        self._name, self._location, self._checkpoint, self._open_body = name, location, checkpoint, open_body

    def run(self, sink: Sink) -> Stored:
        """Fetch the rest, or all when the sink does not hold this object's beginning.

        Raises what the sink raises, what `open_body` raises, and `Corrupted` when length or MD5 differ;
        the sink is then empty.
        """
        if not self._is_complete(sink):
            self._fetch(sink)
        etag = self._checkpoint["get.etag"]
        self._forget()
        return Stored(self._name, sink.tell(), etag, self._location)

    def _is_complete(self, sink: Sink) -> bool:
        return self._is_known() and sink.tell() == self._known_size()

    def _is_known(self) -> bool:
        return self._checkpoint.get("get.place") == self._location

    def _known_size(self) -> int:
        return int(self._checkpoint["get.size"])

    def _fetch(self, sink: Sink) -> None:
        body = self._open(sink.tell())
        try:
            if body.start != sink.tell():
                sink.restart()
            self._checkpoint.update(
                {"get.place": self._location, "get.etag": body.etag, "get.size": str(body.size_bytes)}
            )
            sink.expect(body.size_bytes)
            md5 = _copy(body, sink)
        finally:
            body.close()
        if sink.tell() != body.size_bytes:
            raise self._bad(sink, f"{sink.tell()} of {body.size_bytes} bytes arrived")
        if body.start == 0 and body.md5 not in (None, md5):
            raise self._bad(sink, "the MD5 of the content is not the object's")

    def _open(self, offset: int) -> Body:
        if self._is_known() and 0 < offset < self._known_size():
            with suppress(Corrupted):  # another object has this name now
                return self._open_body(offset, self._checkpoint["get.etag"])
        return self._open_body(0, "")

    def _bad(self, sink: Sink, what: str) -> Corrupted:
        sink.restart()
        self._forget()
        return Corrupted(f"{self._location}: {what}")

    def _forget(self) -> None:
        for key in _KEYS:
            self._checkpoint.pop(key, None)


def _copy(body: Body, sink: Sink) -> str:
    md5 = hashlib.md5(usedforsecurity=False)
    while chunk := body.read(CHUNK_BYTES):
        md5.update(chunk)
        sink.write(chunk)
    return md5.hexdigest()


@dataclass(frozen=True, slots=True)
class Wanted:
    """A range of an object: at least one byte, from an offset on."""

    offset: int
    size_bytes: int

    @property
    def header(self) -> str:
        """Return the field `Range` that asks for it (RFC 9110, 14.2)."""
        return f"bytes={self.offset}-{self.offset + self.size_bytes - 1}"


def received(location: str, wanted: Wanted, said: str, etag: str, read: Callable[[int], bytes]) -> Piece:
    """Return the part that was asked for; `said` is the answer's `Content-Range`, `read` reads its body.

    Raises `Rejected` when the answer is something else, `Unreachable` when it ends early, and what `read`
    raises.
    """
    part = content_range(said)
    if part is None or part.first != wanted.offset or part.total is None:
        raise Rejected(f"{location}: the far side does not give a part of the object (Range)")
    left = min(wanted.size_bytes, part.total - wanted.offset)
    chunks: list[bytes] = []
    while left and (chunk := read(left)):
        chunks.append(chunk)
        left -= len(chunk)
    if left:
        raise Unreachable(f"{location}: the answer ended {left} bytes too early")
    return Piece(b"".join(chunks), part.total, etag)
