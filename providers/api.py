"""The contract between the agent and a provider, which knows one kind of storage.

A provider is a module with one `StorageFactory`. The agent calls the factory with the options of a
command, then `put` or `get` in a worker thread, then `close`. These rules hold for every provider, and
`providers.testing` runs them as tests:

 1. The factory does no I/O. Wrong options raise `BadOptions`, which names every wrong key and no value.
 2. `put` never closes the source.
 3. `put` is all or nothing: returned means readable under `name`; raised means that nothing new is
    visible and nothing is left that costs money, unless the checkpoint says so.
 4. `put` replaces an existing object in one step.
 5. A source that ends before its `size` stores nothing.
 6. An MD5 that the source knows is sent along, and a wrong one is refused.
 7. `get` of a missing object raises `NotFound` before the first write. One that is called again continues
    only if the ETag in the checkpoint is still the object's: no archive is a mixture of two versions.
 8. What the stream raises comes out unchanged; everything else is a `StorageError`, chained.
 9. Every wait is bounded by `limits`; no retries in here, the agent has the one retry loop. A method
    with many requests (the pages of a list) calls `limits.check` before each of them.
10. At most `limits.buffer_bytes` in memory, whatever the size; an answer that is no archive (a page of a
    list, an error) has at most 8 MiB.
11. `close` may be called twice.
12. No secret in any repr, message or log line.
13. Names were checked before a provider sees them (`check_name`): relative, no `..`, no control characters.
"""

import re
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Protocol

from providers.allow import Allow, allow_all, connect_checked
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
    """An archive on its way out. Reading counts, hashes, and may raise the error that stops the transfer."""

    size: int | None
    """Bytes; None while the archive is still being made."""
    rewindable: bool
    """False for a stream that is made on the fly: do not call `seek` then."""
    md5: bytes | None
    """The 16 raw bytes of the whole content, when asked for and known beforehand."""

    def read(self, n: int = -1, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


class Sink(Protocol):
    """An archive on its way in. Writing counts, hashes, and may raise the error that stops the transfer."""

    def write(self, chunk: bytes, /) -> int: ...
    def tell(self) -> int:
        """Return the bytes that are already there; more than 0 at the start continues a download."""

    def restart(self) -> None:
        """Truncate and begin again, when the far side ignores a range."""

    def expect(self, size_bytes: int, /) -> None:
        """Take the length of the whole archive, from a storage that knows it, for progress and free space.

        May raise as `write` does.
        """


@dataclass(frozen=True, slots=True)
class Target:
    """A named directory of the `local` provider."""

    path: Path
    mount: bool = False
    """True for a removable medium: the directory only counts as present while something is mounted there."""
    resolved: bool = False
    """True for a path that was resolved before: no link on the way is followed any more."""


_DEFAULT_RULES = Allow()
_connect = partial(connect_checked, timeout_s=10, check=_DEFAULT_RULES.check_address)
_connect_proxy = partial(connect_checked, timeout_s=10, check=allow_all)


@dataclass(frozen=True, slots=True)
class Limits:
    """The device's limits for a provider, and its targets; the same for every command."""

    connect_timeout_s: float = 10
    read_timeout_s: float = 60
    """Longest wait for the next byte in either direction."""
    buffer_bytes: int = 16 << 20
    ca_file: Path | None = None
    """PEM file with the authorities for uploads and downloads; None means the system's."""
    checksum: bool = False
    """True to make the far side verify an MD5."""
    proxy: str | None = field(default=None, repr=False)
    """URL of an HTTP proxy, possibly with credentials in it."""
    allow: Allow = _DEFAULT_RULES
    """The destinations that the device allows, for checks before a connection is made."""
    connect: Connect = _connect
    """The only way to open a connection: it checks the address, and a cancel shuts what it has opened."""
    connect_proxy: Connect = _connect_proxy
    """Opens a connection to a proxy, which the device's owner chose and which is not checked."""
    check: Callable[[], None] = lambda: None
    """The cancel point of a call with many requests: call it before each further one, and let its errors out
    unchanged."""
    targets: Mapping[str, Target] = field(default_factory=dict)
    """Named directories of the `local` provider."""
    reserve: Reserve | None = None
    """Space of the device's own disk that stays free."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that is stored: what `put` made, `get` fetched, or `list` and `stat` found."""

    name: str
    size_bytes: int
    etag: str = ""
    """The far side's version of the object, where it has one."""
    place: str = ""
    """For people and the history: scheme, host and path, a bucket, a directory. Never a secret."""
    modified: datetime | None = None
    """The time of storing, in UTC, by the far side's clock; None when a method does not learn it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an object."""

    data: bytes
    size_bytes: int
    """Of the whole object."""
    etag: str = ""
    """The far side's version of the object, where it has one."""


class Capability(StrEnum):
    """One thing that a storage can do beside `put` and `get`."""

    LIST = "list"
    STAT = "stat"
    DELETE = "delete"
    READ_RANGE = "read_range"
    CREATE = "create"
    RESUME_STREAM = "resume_stream"
    """After a retryable error the agent calls `put` again with a source that stands where it stood and cannot
    rewind. The storage remembers what it has read and not stored."""


class Storage(ABC):
    """An opened store of archives, used by one thread.

    A provider inherits from it. The agent calls `list`, `stat`, `delete`, `read_range` and `create` only
    when `capabilities` declares them; a provider without them leaves them out.
    """

    capabilities: frozenset[Capability] = frozenset()

    @abstractmethod
    def put(
        self, name: str, source: Source, metadata: Mapping[str, str], checkpoint: Checkpoint, /
    ) -> Stored:
        """Store all of `source` under `name`.

        Raises what `source` raises, unchanged. Raises `StorageError` (see `providers.errors`) when it
        could not be stored: `Corrupted` when the source ended early or the far side reports another size
        or hash, `UnknownOutcome` when it may be stored despite the error.
        """

    @abstractmethod
    def get(self, name: str, sink: Sink, checkpoint: Checkpoint, /) -> Stored:
        """Write all of the object `name` to `sink`.

        `sink.tell()` bytes are there already, from a call that broke off. Continues behind them when the ETag
        in `checkpoint` is that of the object now, else calls `sink.restart()`; puts the ETag there before the
        first write. `providers.fetch.Download` does all this.

        Raises what `sink` raises, unchanged, and `StorageError`: `NotFound` before the first write,
        `Corrupted` when the object was shorter than announced or its hash differs.
        """

    @abstractmethod
    def close(self) -> None:
        """Release all resources. The agent may call it twice."""

    def list(self, prefix: str, /) -> Iterator[Stored]:
        """Yield the objects whose names begin with `prefix`, in any order; their `place` may be missing.

        Calls `limits.check` before each further request. Raises `StorageError`.
        """
        raise NotImplementedError

    def stat(self, name: str, /) -> Stored:
        """Return what is stored under `name` without fetching it; its `place` may be missing.

        Size and ETag are those that `put` returned, as long as nobody has replaced the object. Raises
        `StorageError`: `NotFound` when there is none.
        """
        raise NotImplementedError

    def delete(self, name: str, /) -> None:
        """Remove the object, if there is one. Once this returns nobody sees it. Raises `StorageError`."""
        raise NotImplementedError

    def read_range(self, name: str, offset: int, size_bytes: int, /) -> Piece:
        """Return `size_bytes` bytes (at least one, few enough for memory) from `offset`; less at the end.

        Raises `StorageError`: `NotFound` when there is no such object, `Rejected` when the far side gives
        no parts. What begins behind the end is empty, or a `StorageError`.
        """
        raise NotImplementedError

    def create(self, name: str, content: bytes | bytearray, /) -> Stored:
        """Store `content` under a name that nothing has yet: all of it, or nothing. Never replace an object.

        For the small objects of a repository, of a few `Limits.buffer_bytes` at most. Raises `AlreadyThere`
        when an object has this name, where the far side can tell, and `StorageError`: `UnknownOutcome`
        when it may be stored despite the error.
        """
        raise NotImplementedError

    def discard(self, checkpoint: Checkpoint, /) -> None:  # noqa: B027 (most have nothing to do)
        """Remove the unfinished upload in the checkpoint, which nobody will continue, and clear it.

        Does nothing where uploads leave nothing. Raises `StorageError` and leaves the checkpoint when this
        fails.
        """

    def location(self, name: str, /) -> str:
        """Return `Stored.place` for this name, without the network; "" when it is not known.

        The history of a failed job shows it, too.
        """
        del name
        return ""

    def preflight(self, writing: bool, /) -> None:  # noqa: B027 (most have nothing to do)
        """Raise `StorageError` when it is known without the network that the storage cannot work now.

        Called before a command is accepted; a few system calls at most. `writing` is True for a backup:
        a restore needs no right to write.
        """


class StorageFactory(Protocol):
    """Opens a storage from the options of a command. Usually the class itself.

    It may have a `prefix_option` as well, the option that names a directory for all objects. The agent takes
    that option out, and puts the directory before every name (`providers.prefix`).
    """

    kind: str
    """Wire value of the option `storage.provider`."""
    needs_size: bool
    """True when `put` needs `source.size`: the agent then stages the archive first."""
    capabilities: frozenset[Capability]
    name_option: str | None
    """The option that names the object (`aws.object.key`); None when the address does (a URL)."""

    def __call__(self, options: Mapping[str, str], limits: Limits, /) -> Storage:
        """Check the options that carry the provider's own prefix, and do no I/O. Raises `BadOptions`."""


_BAD_NAME = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\\]|^/|/$|//|(^|/)\.\.?(/|$)|^$")


MAX_NAME_BYTES = 1024


def check_name(name: str, key: str = "name") -> str:
    """Return `name` if it may be handed to a provider; raise `BadOptions` that names `key` otherwise."""
    if len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES or _BAD_NAME.search(name):
        expected = "must be a relative name without '..', empty parts, backslashes or control characters"
        raise BadOptions({key: expected})
    return name
