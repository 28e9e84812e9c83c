"""The objects of one repository at a store, as the writer and the reader ask for them."""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple, Protocol

from agent.base.errors import RepositoryBroken


class Kind(StrEnum):
    """The kind of an object; the value is its directory, and for the config its whole key."""

    CONFIG = "config"
    KEY = "keys"
    LOCK = "locks"
    PACK = "data"
    INDEX = "index"
    SNAPSHOT = "snapshots"


class Listed(NamedTuple):
    name: str
    """64 hexadecimal digits, without a directory."""
    size_bytes: int


class Objects(Protocol):
    """The objects of one repository. Used by one thread.

    The name of an object is 64 hexadecimal digits, and "" for the config. Where an object with this name lies
    (`data/xx/<name>`, on a REST server `data/<name>`) is the store's business. Every method tries again while
    that helps, raises `Cancelled` once the job's token is set, and otherwise raises `StorageError`:
    `AccessDenied` when the device has no right to the call, `NotFound` for a missing object.
    """

    def put(self, kind: Kind, name: str, content: bytes | bytearray, /) -> None:
        """Create the object, durably and in one step. Never replace one.

        Raises `AlreadyThere` when an object has this name. An answer "exists already" (412, 403, 409) to a
        repetition within this call counts as stored: the answer to the first try was lost.
        """

    def get(self, kind: Kind, name: str, most_bytes: int, /) -> bytes:
        """Return the whole object. Raises `RepositoryBroken` when it has more than `most_bytes`."""

    def get_range(self, kind: Kind, name: str, offset: int, size_bytes: int, /) -> bytes:
        """Return `size_bytes` bytes from `offset`; fewer at the end of the object."""

    def exists(self, kind: Kind, name: str, /) -> bool:
        """Return True when there is this object."""

    def delete(self, kind: Kind, name: str, /) -> None:
        """Remove the object, if there is one."""

    def list(self, kind: Kind, /) -> Iterator[Listed]:
        """Yield the objects of a kind, in any order. Memory does not grow with their number.

        Names that are no 64 hexadecimal digits are left out.
        """


def listed(objects: Objects, kind: Kind, most: int, advice: str) -> Iterator[Listed]:
    """Yield the objects of a kind. Raises `RepositoryBroken` for more than `most`, and StorageError.

    For objects that are all fetched. `advice` says what to do about too many.
    """
    for number, found in enumerate(objects.list(kind)):
        if number >= most:
            raise RepositoryBroken(f"the repository has more than {most} objects in {kind}: {advice}")
        yield found
