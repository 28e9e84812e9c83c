"""How a provider joins the contract suite: one file `place_<name>.py`, nothing else.

The file defines `PLACES`, a mapping from the name of a server (it becomes the test id: `local`,
`generic-nginx`, `aws-moto`) to a `Serve`: a context manager that is entered once per test session with a
private directory, starts the server, and gives a function that makes a fresh, empty `Place` for each
test. Where a tool is missing it calls `tests.support.require.require`. `place_local.py` is the shortest
example.

Every test of the suite then runs over it. What the suite needs to know is below; it looks into the
place without the provider (`read`, `names`, `leftovers`), so that a provider cannot vouch for itself.
Faults of the network need no help from here: the suite puts a `tests.support.faultproxy.FaultProxy`
in the way through `Limits.connect`, the one way in which a provider may open a connection.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Protocol

from providers.api import Limits, StorageFactory


class Place(Protocol):
    """A fresh, empty place on a real server (or in a directory), and eyes of our own on it."""

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
        """What others see under `name` now, not through the provider; None when nothing is there."""

    def names(self) -> list[str]:
        """All objects that others can see now, sorted."""

    def leftovers(self) -> list[str]:
        """What is hidden but takes room or costs money: temporary files, unfinished multipart uploads.

        Not what the server itself removes in time and never charges for (say so in the place's file).
        """


Serve = Callable[[Path], AbstractContextManager[Callable[[], Place]]]
"""Starts a server with this private directory; gives the maker of fresh places; stops it at the end."""


def all_places() -> dict[str, Serve]:
    """The servers of every `place_*.py` beside this file, by name."""
    found: dict[str, Serve] = {}
    for file in sorted(Path(__file__).parent.glob("place_*.py")):
        found.update(import_module(f"tests.contract.{file.stem}").PLACES)
    return found
