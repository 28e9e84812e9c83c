"""The contract between the agent and a place that keeps archives.

A provider is a module with one `StorageFactory`. The agent calls the factory with the options of a
command, then `put` or `get` in a worker thread, then `close`. What a provider must hold to is said
here once, in prose, and executed over every provider by `tests/contract/`:

 1. The factory does no I/O. Wrong options raise `BadOptions`, which names every wrong key and no value.
 2. `put` never closes the source.
 3. `put` is all or nothing: returned means readable under `name`; raised means that nothing new is
    visible and nothing is left that costs money, unless the checkpoint says so.
 4. `put` replaces an existing object in one step.
 5. A source that ends before its `size` stores nothing.
 6. An MD5 that the source knows is sent along, and a wrong one is refused.
 7. `get` of a missing object raises `NotFound` before the first write.
 8. What the stream raises comes out unchanged; everything else is a `StorageError`, chained.
 9. Every wait is bounded by `limits`; no retries in here, the agent has the one retry loop.
10. At most `limits.buffer_bytes` in memory, whatever the size.
11. `close` may be called twice.
12. No secret in any repr, message or log line.
13. Names were checked before a provider sees them (`check_name`): relative, no `..`, no control characters.
"""

import re
import socket
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from providers.allow import Allow
from providers.checked_connect import allow_all, reached
from providers.errors import BadOptions
from providers.free_space import Reserve

Checkpoint = MutableMapping[str, str]
"""A small mapping whose changes are durable: an upload id, a block list, an offset with its ETag.

A provider that finds its keys there continues; one that finds none starts afresh. It removes its keys
when nothing is left to continue, and keeps them after `Suspended` from the stream. No secret and no URL
query is ever written to it.
"""

Connect = Callable[[str, int], socket.socket]
"""Opens a TCP connection to (host, port), within the connect time-out.

Raises OSError, and `NotAllowed` when the device does not allow any address of the host.
"""


class Source(Protocol):
    """An archive on its way out. Reading counts, hashes, and may raise what the agent wants to stop with."""

    size: int | None
    """Bytes; None while the archive is still being made."""
    rewindable: bool
    """False for a stream that is made on the fly: `seek` is then not to be called."""
    md5: bytes | None
    """The 16 raw bytes of the whole content, when asked for and known beforehand."""

    def read(self, n: int = -1, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


class Sink(Protocol):
    """An archive on its way in. Writing counts, hashes, and may raise what the agent wants to stop with."""

    def write(self, chunk: bytes, /) -> int: ...
    def tell(self) -> int:
        """Bytes that are already there; more than 0 at the start means that a download continues."""

    def restart(self) -> None:
        """Truncate and begin again, for a far side that ignores a range."""

    def expect(self, size_bytes: int, /) -> None:
        """Told how long all of it will be, by a storage that knows; only for showing progress."""


@dataclass(frozen=True, slots=True)
class Target:
    """A named directory of the `local` provider."""

    path: Path
    mount: bool = False
    """True for a removable medium: the directory only counts as present while something is mounted there."""


_DEFAULT_RULES = Allow()


def _connect(host: str, port: int) -> socket.socket:
    return reached(host, port, 10, _DEFAULT_RULES.check_address)


def _connect_proxy(host: str, port: int) -> socket.socket:
    return reached(host, port, 10, allow_all)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the device allows a provider, and the device's own places; the same for every command."""

    connect_timeout_s: float = 10
    read_timeout_s: float = 60
    """Longest wait for the next byte in either direction."""
    buffer_bytes: int = 16 << 20
    ca_file: Path | None = None
    """PEM file with the authorities for uploads and downloads; None means the system's."""
    checksum: bool = False
    """Ask the far side to verify an MD5."""
    proxy: str | None = field(default=None, repr=False)
    """URL of an HTTP proxy, possibly with credentials in it."""
    allow: Allow = _DEFAULT_RULES
    """Which destinations the device allows, for what can be known before a connection is made."""
    connect: Connect = _connect
    """The one way to open a connection: cancelling closes what was opened here, and the address that is
    connected to is checked here."""
    connect_proxy: Connect = _connect_proxy
    """The same to a proxy, which the device's owner chose: not checked."""
    targets: Mapping[str, Target] = field(default_factory=dict)
    """Named directories of the `local` provider."""
    reserve: Reserve | None = None
    """Space of the device's own disk that stays free."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What is now stored, or was fetched."""

    name: str
    size_bytes: int
    etag: str = ""
    """The far side's version of the object, where it has one."""
    place: str = ""
    """For people and the history: scheme, host and path, a bucket, a directory. Never a secret."""


class Storage(Protocol):
    """One opened place. Used by one thread."""

    def put(
        self, name: str, source: Source, metadata: Mapping[str, str], checkpoint: Checkpoint, /
    ) -> Stored:
        """Store all of `source` under `name`.

        Raises what `source` raises, unchanged. Raises `StorageError` (see `providers.errors`) when it
        could not be stored: `Corrupted` when the source ended early or the far side counted or hashed
        something else, `UnknownOutcome` when it may have been stored all the same.
        """

    def get(self, name: str, sink: Sink, checkpoint: Checkpoint, /) -> Stored:
        """Write all of the object `name` to `sink`, continuing at `sink.tell()` where that is possible.

        Raises what `sink` raises, unchanged, and `StorageError`: `NotFound` before the first write,
        `Corrupted` when the object was shorter than announced or its hash differs.
        """

    def close(self) -> None: ...


@runtime_checkable
class Listing(Protocol):
    """Offered by a storage that can say what it keeps."""

    def list(self, prefix: str, /) -> Iterator[str]:
        """Names that begin with `prefix`, in any order. Raises `StorageError`."""


@runtime_checkable
class Deleting(Protocol):
    """Offered by a storage that can remove what it keeps."""

    def delete(self, name: str, /) -> None:
        """Remove the object; nothing happens when there is none. Returned means that nobody sees it any more.

        Raises `StorageError`.
        """


@runtime_checkable
class Locating(Protocol):
    """Offered by a storage that can say without the network where it keeps something."""

    def where(self, name: str, /) -> str:
        """What `Stored.place` is for this name: for the history, also of a job that fails."""


@runtime_checkable
class Looking(Protocol):
    """Offered by a storage that can say what it keeps under a name, without fetching it."""

    def look(self, name: str, /) -> Stored:
        """What `put` returned, as long as nobody has replaced the object; the place may be missing.

        Raises `StorageError`: `NotFound` when there is none.
        """


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an object."""

    data: bytes
    size_bytes: int
    """Of the whole object."""
    etag: str = ""
    """The far side's version of the object, where it has one."""


@runtime_checkable
class Ranged(Protocol):
    """Offered by a storage that can give a part of what it keeps."""

    def read_range(self, name: str, offset: int, size_bytes: int, /) -> Piece:
        """So many bytes (at least one, and few enough for memory) from `offset` on; less only at the end.

        Raises `StorageError`: `NotFound` when there is no such object, `Rejected` when the far side gives
        no parts. What begins behind the end is empty, or a `StorageError`.
        """


@runtime_checkable
class Resuming(Protocol):
    """Offered by a storage that can go on with a source that cannot rewind.

    After a retryable error the agent calls `put` again, on the same storage with the same source, which
    stands where it stood. What was read but not stored is the storage's to remember.
    """

    resumes_streams: bool


@runtime_checkable
class Discarding(Protocol):
    """Offered by a storage that leaves something at the far side for an upload that is to continue."""

    def discard(self, checkpoint: Checkpoint, /) -> None:
        """Remove what the checkpoint knows, when nobody is going to continue it, and clear the checkpoint.

        Raises `StorageError`, and leaves the checkpoint, when that is impossible now.
        """


@runtime_checkable
class Preflight(Protocol):
    """Offered by a storage that can tell without the network that it cannot work now."""

    def preflight(self, writing: bool, /) -> None:
        """Called before a command is accepted; a few system calls at most. Raises `StorageError`.

        `writing` is True for a backup; what cannot be written can still be restored from.
        """


class StorageFactory(Protocol):
    """Opens a storage from the options of a command. Usually the class itself."""

    kind: str
    """Wire value of the option `storage.provider`."""
    needs_size: bool
    """True when `put` needs `source.size`: the agent then stages the archive first."""
    name_option: str | None
    """The option that names the object (`aws.object.key`); None when the address does (a URL)."""

    def __call__(self, options: Mapping[str, str], limits: Limits, /) -> Storage:
        """Check the options that carry the provider's own prefix, and do no I/O. Raises `BadOptions`."""


_BAD_NAME = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\\]|^/|/$|//|(^|/)\.\.?(/|$)|^$")


def check_name(name: str, key: str = "name") -> str:
    """Return `name` if it may be handed to a provider; raise `BadOptions` that names `key` otherwise."""
    if len(name.encode("utf-8", "surrogatepass")) > 1024 or _BAD_NAME.search(name):
        expected = "must be a relative name without '..', empty parts, backslashes or control characters"
        raise BadOptions({key: expected})
    return name
