"""Tests of uploads in parts to a cloud, whose test module gives `place`, `proxy`, `opened` and `uploads`."""

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace

import pytest

from agent.transfer.cancel import CancelToken
from agent.transfer.connections import Connections
from providers.api import Storage, StorageFactory
from providers.errors import StorageError, Unreachable
from providers.testing.faultproxy import FaultProxy
from providers.testing.streams import BytesSource, StreamedSource
from tests.contract.place_aws import S3Place
from tests.contract.place_azure import AzurePlace

NAME = "backup-2026-11-21-22.28.08.388-0a1b2c3d.zip"

Place = S3Place | AzurePlace
Opened = Callable[[], Storage]


@dataclass(frozen=True, slots=True)
class Uploads:
    """Uploads of `data` in parts to one cloud."""

    factory: StorageFactory
    data: bytes
    part_bytes: int
    overhead_bytes: int
    """Headers of all requests together."""


def interrupted(opened: Opened, proxy: FaultProxy, data: bytes, sha256: str = "aa") -> dict[str, str]:
    """The checkpoint of an upload that was cut at 70 %."""
    checkpoint: dict[str, str] = {}
    proxy.reset_after["up"] = proxy.passed["up"] + len(data) * 7 // 10
    with pytest.raises(Unreachable):
        opened().put(NAME, BytesSource(data), {"sha256": sha256}, checkpoint)
    proxy.reset_after.clear()
    return checkpoint


def test_after_a_restart_at_most_one_part_is_sent_twice(
    place: Place, opened: Opened, proxy: FaultProxy, uploads: Uploads
) -> None:
    checkpoint = interrupted(opened, proxy, uploads.data)
    # Nothing of the first process but the checkpoint.
    stored = opened().put(NAME, BytesSource(uploads.data), {"sha256": "aa"}, checkpoint)
    assert stored.size_bytes == len(uploads.data)
    assert place.read(NAME) == uploads.data
    assert checkpoint == {}
    assert place.leftovers() == []
    assert proxy.passed["up"] < len(uploads.data) + uploads.part_bytes + uploads.overhead_bytes


def test_a_stream_goes_on_with_the_part_that_could_not_be_sent(
    place: Place, opened: Opened, proxy: FaultProxy, uploads: Uploads
) -> None:
    source, storage, checkpoint = StreamedSource(uploads.data), opened(), dict[str, str]()
    proxy.reset_after["up"] = len(uploads.data) // 2
    with pytest.raises(Unreachable):
        storage.put(NAME, source, {}, checkpoint)
    proxy.reset_after.clear()
    storage.put(NAME, source, {}, checkpoint)
    assert place.read(NAME) == uploads.data
    assert checkpoint == {}
    assert proxy.passed["up"] < len(uploads.data) + uploads.part_bytes + uploads.overhead_bytes


def test_a_stream_that_lost_its_storage_is_refused_not_stored_in_part(
    place: Place, opened: Opened, uploads: Uploads
) -> None:
    source = StreamedSource(uploads.data)
    source.read(1000)
    with pytest.raises(StorageError):
        opened().put(NAME, source, {}, {})
    assert place.names() == []


def test_another_archive_does_not_go_on_with_the_old_upload(
    place: Place, opened: Opened, proxy: FaultProxy, uploads: Uploads
) -> None:
    checkpoint, other = interrupted(opened, proxy, uploads.data), uploads.data[::-1]
    opened().put(NAME, BytesSource(other), {"sha256": "bb"}, checkpoint)
    assert place.read(NAME) == other
    assert place.leftovers() == []


def test_a_cancel_in_the_middle_of_a_part_ends_it_at_once(
    place: Place, proxy: FaultProxy, uploads: Uploads
) -> None:
    """As the agent does it: what is open is shut down, and nothing is opened any more."""
    token, checkpoint = CancelToken(), dict[str, str]()
    connections = Connections(10)

    def connect(host: str, port: int) -> socket.socket:
        proxy.upstream = (host, port)
        return connections.open(*proxy.address)

    proxy.rate_bytes_per_s = 4_000_000
    with (
        closing(connections),
        token.waking(connections.shut),
        closing(uploads.factory(place.options(NAME), replace(place.limits, connect=connect))) as storage,
        ThreadPoolExecutor() as worker,
    ):
        upload = worker.submit(storage.put, NAME, BytesSource(uploads.data), {}, checkpoint)
        while proxy.passed["up"] < uploads.part_bytes * 5 // 4:
            assert not upload.done()
            time.sleep(0.01)
        token.cancel("enough")
        assert isinstance(upload.exception(timeout=60), Unreachable)
    assert place.names() == []
    assert checkpoint, "the upload can go on"
