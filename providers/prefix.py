"""A directory at a destination: every name of a storage gets the beginning that an option says.

So a bucket, a container or a target serves many devices, each with credentials for its own beginning.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from providers.api import Limits, Storage, StorageFactory, Stored, check_name
from providers.errors import BadOptions
from providers.forwarding import Forwarding

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


class Prefixed(Forwarding):
    """A storage below a prefix: it sees names without it, and the storage behind it those with it."""

    def __init__(self, storage: Storage, prefix: str) -> None:
        self.capabilities = storage.capabilities
        self._storage, self._top = storage, f"{prefix}/"

    @property
    def behind(self) -> Storage:
        return self._storage

    def inner(self, name: str) -> str:
        return self._top + name

    def outer(self, stored: Stored) -> Stored:
        return replace(stored, name=stored.name.removeprefix(self._top))

    def list(self, prefix: str, /) -> Iterator[Stored]:
        for stored in self._storage.list(self.inner(prefix)):
            if stored.name.startswith(self._top):
                yield self.outer(stored)

    def location(self, name: str, /) -> str:
        return self._storage.location(self.inner(name))

    def preflight(self, writing: bool, /) -> None:
        self._storage.preflight(writing)

    def close(self) -> None:
        self._storage.close()
