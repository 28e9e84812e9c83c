"""The description of a provider that the suite needs."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from providers.api import Limits, StorageFactory


class ProviderUnderTest(Protocol):
    """A fresh, empty storage on a real server (or in a directory), and a look at it without the provider.

    The suite looks at what is stored by itself, so that a provider cannot vouch for itself. Faults of the
    network need no help: the suite puts a `FaultProxy` in the way through `Limits.connect`, the one way in
    which a provider may open a connection.
    """

    factory: StorageFactory
    limits: Limits
    """As for this server: its CA, its targets. Tests replace single fields (`dataclasses.replace`)."""
    networked: bool
    """True when `put` and `get` open their connections through `limits.connect`."""
    secrets: Sequence[str]
    """Values in `options` that must never appear in an error, a repr or a log line."""

    def options(self, name: str) -> dict[str, str]:
        """Complete and right options for the object `name`, credentials and all."""

    def bad_options(self) -> Sequence[tuple[Mapping[str, str], set[str]]]:
        """Wrong sets of options, each with exactly the keys that `BadOptions` has to name."""

    def denied_options(self, name: str) -> dict[str, str] | None:
        """Options whose credentials are wrong; None where there are none to be wrong."""

    def write(self, name: str, data: bytes) -> None:
        """Put an object there, not through the provider."""

    def read(self, name: str) -> bytes | None:
        """Return the content that others see under `name` now, without the provider; None for nothing."""

    def names(self) -> list[str]:
        """All objects that others can see now, sorted."""

    def leftovers(self) -> list[str]:
        """List what is hidden and takes room or costs money: temporary files, unfinished multipart uploads.

        Not what the server itself removes in time and never charges for.
        """
