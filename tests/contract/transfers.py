"""What the contract tests share: archives of two sizes, and storages that are opened and closed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from providers.api import Limits, Storage
from tests.contract.places import Place
from tests.support.faultproxy import FaultProxy
from tests.support.streams import MemorySink, content

NAME = "backup-2026-11-21-22.28.08.388-0a1b2c3d.zip"
SMALL = content(70_000)  # one request everywhere
LARGE = content(9_000_000)  # several parts where there are parts


class Stopped(Exception):
    """What the agent's streams raise when a job is to stop; providers do not know it."""


@contextmanager
def opened(place: Place, name: str = NAME, limits: Limits | None = None) -> Iterator[Storage]:
    storage = place.factory(place.options(name), limits or place.limits)
    try:
        yield storage
    finally:
        storage.close()


@contextmanager
def through_proxy(place: Place) -> Iterator[tuple[Storage, FaultProxy]]:
    """The storage with a fault proxy in its way, and short time-outs."""
    if not place.networked:
        pytest.skip("this provider opens no connection")
    with FaultProxy() as proxy:
        limits = replace(place.limits, connect=proxy.connect, connect_timeout_s=2, read_timeout_s=1)
        with opened(place, limits=limits) as storage:
            yield storage, proxy


def fetched(storage: Storage, name: str = NAME) -> bytes:
    sink = MemorySink()
    storage.get(name, sink, {})
    return bytes(sink.data)


def assert_nothing_stored(place: Place, checkpoint: dict[str, str]) -> None:
    """Rule 3: nothing new is visible, and what is hidden is named by the checkpoint."""
    assert place.names() == []
    assert place.leftovers() == [] or checkpoint
