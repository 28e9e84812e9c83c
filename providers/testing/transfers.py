"""Means of the contract tests: archives of two sizes, and storages that are opened and closed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from providers.api import Capability, Limits, Storage
from providers.testing.faultproxy import FaultProxy
from providers.testing.streams import MemorySink, content
from providers.testing.under_test import ProviderUnderTest

NAME = "backup-2026-11-21-22.28.08.388-0a1b2c3d.zip"
SMALL = content(70_000)  # one request everywhere
LARGE = content(9_000_000)  # several parts where there are parts


class Stopped(Exception):
    """Raised by a stream when a job is to stop; providers do not know it."""


@contextmanager
def opened(
    under_test: ProviderUnderTest,
    name: str = NAME,
    limits: Limits | None = None,
    *,
    needs: Capability | None = None,
) -> Iterator[Storage]:
    """Open the storage, and close it at the end. Skips the test for a provider without what it `needs`."""
    if needs and needs not in under_test.factory.capabilities:
        pytest.skip(f"this provider lacks the capability {needs}")
    storage = under_test.factory(under_test.options(name), limits or under_test.limits)
    try:
        yield storage
    finally:
        storage.close()


@contextmanager
def through_proxy(
    under_test: ProviderUnderTest, *, needs: Capability | None = None, timeout_s: float = 60
) -> Iterator[tuple[Storage, FaultProxy]]:
    """Open the storage with a fault proxy in its way.

    Only who tests a time-out gives a short one: a server on a busy machine may need seconds for an answer.
    """
    if not under_test.networked:
        pytest.skip("this provider opens no connection")
    with FaultProxy() as proxy:
        limits = replace(under_test.limits, connect=proxy.connect, read_timeout_s=timeout_s)
        with opened(under_test, limits=limits, needs=needs) as storage:
            yield storage, proxy


def fetched(storage: Storage, name: str = NAME) -> bytes:
    sink = MemorySink()
    storage.get(name, sink, {})
    return bytes(sink.data)


def assert_nothing_stored(under_test: ProviderUnderTest, checkpoint: dict[str, str]) -> None:
    """Check rule 3: nothing new is visible, and the checkpoint names what is hidden."""
    assert under_test.names() == []
    assert under_test.leftovers() == [] or checkpoint


def wait_until_nothing_is_stored(under_test: ProviderUnderTest, timeout_s: float = 60) -> None:
    """Wait: a server that writes uploads in their place shows one that was cut off until it notices."""
    deadline_s = time.monotonic() + timeout_s
    while stored := under_test.names():
        assert time.monotonic() < deadline_s, f"still stored after {timeout_s:g} s: {stored}"
        time.sleep(0.005)
