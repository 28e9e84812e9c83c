"""How a provider joins the contract suite: one file `place_<name>.py`, nothing else.

The file defines `PLACES`, a mapping from the name of a server (it becomes the test id: `local`,
`generic-nginx`, `aws-moto`) to a `Serve`: a context manager that is entered once per test session with a
private directory, starts the server, and gives a function that makes a fresh `ProviderUnderTest` for each
test. Where a tool is missing it calls `tests.support.require.require`. `place_local.py` is the shortest
example.

Every test of `providers.testing` then runs over it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path

from providers.testing.under_test import ProviderUnderTest

Serve = Callable[[Path], AbstractContextManager[Callable[[], ProviderUnderTest]]]
"""Starts a server with this private directory; gives the maker of fresh ones; stops it at the end."""


def all_places() -> dict[str, Serve]:
    """The servers of every `place_*.py` beside this file, by name."""
    found: dict[str, Serve] = {}
    for file in sorted(Path(__file__).parent.glob("place_*.py")):
        found.update(import_module(f"tests.contract.{file.stem}").PLACES)
    return found
