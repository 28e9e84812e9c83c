"""The description of a provider that the suite needs."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from providers.api import Limits, StorageFactory


class ProviderUnderTest(Protocol):
    """A fresh, empty store on a real server (or in a directory), with access to it without the provider.

    The suite checks the stored objects without the provider. It makes faults of the network itself: it leads
    the provider through a `FaultProxy` by `Limits.connect`, the only way in which a provider may open a
    connection.
    """

    factory: StorageFactory
    limits: Limits
    """The limits for this server: its CA, its targets. Tests replace fields (`dataclasses.replace`)."""
    networked: bool
    """True when `put` and `get` open their connections through `limits.connect`."""
    secrets: Sequence[str]
    """Values in `options` that must never appear in an error, a repr or a log line."""

    def options(self, name: str) -> dict[str, str]:
        """Return complete options for the object `name`, with credentials."""

    def bad_options(self) -> Sequence[tuple[Mapping[str, str], set[str]]]:
        """Return wrong sets of options, each with exactly the keys that `BadOptions` has to name."""

    def denied_options(self, name: str) -> dict[str, str] | None:
        """Return options with wrong credentials; None for a provider without credentials."""

    def write(self, name: str, data: bytes) -> None:
        """Store an object without the provider."""

    def read(self, name: str) -> bytes | None:
        """Return the content that is visible under `name`, without the provider; None for no object."""

    def names(self) -> list[str]:
        """Return the names of all visible objects, sorted."""

    def leftovers(self) -> list[str]:
        """Return hidden objects that take space or cost money: temporary files, unfinished uploads.

        Those that the server removes by itself and never charges for do not count.
        """
