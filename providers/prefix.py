"""A directory at a destination: every name of a storage gets the beginning that an option says.

So a bucket, a container or a target serves many devices, each with credentials for its own beginning.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from providers.api import (
    Checkpoint,
    Limits,
    Piece,
    Sink,
    Source,
    Storage,
    StorageFactory,
    Stored,
    check_name,
)
from providers.errors import BadOptions

MOST_BYTES = 512
"""The longest prefix: an archive's name has to fit behind it."""


def prefix_option(factory: StorageFactory) -> str | None:
    """Return the option with the prefix (`aws.s3.prefix`); None for a provider that has none."""
    option: str | None = getattr(factory, "prefix_option", None)
    return option


def check_prefix(prefix: str, key: str) -> str:
    """Return the prefix without a slash at its end. Raises `BadOptions`, which names `key`."""
    plain = prefix.removesuffix("/")
    if "{" in plain or "}" in plain:
        raise BadOptions({key: "knows {device}, {namespace} and {name}, and no other braces"})
    if len(plain.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise BadOptions({key: f"must not be longer than {MOST_BYTES} bytes"})
    return check_name(plain, key)


def opened(factory: StorageFactory, options: Mapping[str, str], limits: Limits) -> Storage:
    """Open a storage, below the prefix in its options if there is one. Raises `BadOptions`."""
    key = prefix_option(factory)
    if key is None or not options.get(key):
        return factory(options, limits)
    prefix = check_prefix(options[key], key)
    return Prefixed(factory({name: text for name, text in options.items() if name != key}, limits), prefix)


class Prefixed(Storage):
    """A storage below a prefix: it sees names without it, and the storage behind it those with it."""

    def __init__(self, storage: Storage, prefix: str) -> None:
        self.capabilities = storage.capabilities
        self._storage, self._top = storage, f"{prefix}/"

    def put(
        self, name: str, source: Source, metadata: Mapping[str, str], checkpoint: Checkpoint, /
    ) -> Stored:
        return self._seen(self._storage.put(self._top + name, source, metadata, checkpoint))

    def get(self, name: str, sink: Sink, checkpoint: Checkpoint, /) -> Stored:
        return self._seen(self._storage.get(self._top + name, sink, checkpoint))

    def list(self, prefix: str, /) -> Iterator[Stored]:
        for stored in self._storage.list(self._top + prefix):
            if stored.name.startswith(self._top):
                yield self._seen(stored)

    def stat(self, name: str, /) -> Stored:
        return self._seen(self._storage.stat(self._top + name))

    def delete(self, name: str, /) -> None:
        self._storage.delete(self._top + name)

    def read_range(self, name: str, offset: int, size_bytes: int, /) -> Piece:
        return self._storage.read_range(self._top + name, offset, size_bytes)

    def create(self, name: str, content: bytes | bytearray, /) -> Stored:
        return self._seen(self._storage.create(self._top + name, content))

    def discard(self, checkpoint: Checkpoint, /) -> None:
        self._storage.discard(checkpoint)

    def location(self, name: str, /) -> str:
        return self._storage.location(self._top + name)

    def preflight(self, writing: bool, /) -> None:
        self._storage.preflight(writing)

    def close(self) -> None:
        self._storage.close()

    def _seen(self, stored: Stored) -> Stored:
        return replace(stored, name=stored.name.removeprefix(self._top))
