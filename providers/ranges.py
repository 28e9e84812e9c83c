"""One part of an object, out of the answer to a request with a `Range` (RFC 9110, 14.2)."""

from collections.abc import Callable
from dataclasses import dataclass

from providers.api import Piece
from providers.errors import Rejected, Unreachable
from providers.http_fields import content_range


@dataclass(frozen=True, slots=True)
class Wanted:
    """So many bytes, at least one, from an offset on."""

    offset: int
    size_bytes: int

    @property
    def header(self) -> str:
        """The field `Range` that asks for them."""
        return f"bytes={self.offset}-{self.offset + self.size_bytes - 1}"


def received(place: str, wanted: Wanted, said: str, etag: str, read: Callable[[int], bytes]) -> Piece:
    """Return the part that was asked for; `said` is the answer's `Content-Range`, `read` reads its body.

    Raises `Rejected` when the answer is something else, `Unreachable` when it ends early, and what `read`
    raises.
    """
    part = content_range(said)
    if part is None or part.first != wanted.offset or part.total is None:
        raise Rejected(f"{place}: the far side does not give a part of the object (Range)")
    left = min(wanted.size_bytes, part.total - wanted.offset)
    chunks: list[bytes] = []
    while left and (chunk := read(left)):
        chunks.append(chunk)
        left -= len(chunk)
    if left:
        raise Unreachable(f"{place}: the answer ended {left} bytes too early")
    return Piece(b"".join(chunks), part.total, etag)
