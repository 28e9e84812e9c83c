"""Uploads to Azure in several blocks: they go on where they stopped, and show nothing before their end."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace

import pytest

from providers.azure import AzureBlob
from providers.azure.storage import Container
from providers.errors import AccessDenied, AlreadyThere, TooLarge
from providers.part_sizes import PartPlan
from providers.testing.faultproxy import FaultProxy
from providers.testing.streams import BytesSource, StreamedSource, content
from tests.contract.parts_suite import (  # noqa: F401  (the tests are collected here)
    NAME,
    Uploads,
    interrupted,
    test_a_cancel_in_the_middle_of_a_part_ends_it_at_once,
    test_a_stream_goes_on_with_the_part_that_could_not_be_sent,
    test_a_stream_that_lost_its_storage_is_refused_not_stored_in_part,
    test_after_a_restart_at_most_one_part_is_sent_twice,
    test_another_archive_does_not_go_on_with_the_old_upload,
)
from tests.contract.place_azure import AzurePlace, serve

BLOCK = 1 << 20
DATA = content(9 * BLOCK + 1000)
OVERHEAD = 100_000  # headers of all requests together

Opened = Callable[[], AzureBlob]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], AzurePlace]]:
    with serve(tmp_path_factory.mktemp("azurite")) as fresh_place:
        yield fresh_place


@pytest.fixture
def place(fresh: Callable[[], AzurePlace], monkeypatch: pytest.MonkeyPatch) -> AzurePlace:
    """A container, and blocks of 1 MiB."""
    monkeypatch.setattr(Container, "plan", PartPlan(BLOCK, BLOCK, grow_every=1000, most_parts=100))
    return fresh()


@pytest.fixture
def uploads() -> Uploads:
    return Uploads(AzureBlob, DATA, BLOCK, OVERHEAD)


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy() as running:
        yield running


@pytest.fixture
def opened(place: AzurePlace, proxy: FaultProxy) -> Iterator[Opened]:
    """Opens the container through the proxy, as another process would; closed at the end of the test."""
    with ExitStack() as stack:
        limits = replace(place.limits, connect=proxy.connect)
        yield lambda: stack.enter_context(closing(AzureBlob(place.options(NAME), limits)))


def test_an_upload_goes_on_after_its_answer_was_lost_without_sending_again(
    place: AzurePlace, opened: Opened, proxy: FaultProxy
) -> None:
    checkpoint = interrupted(opened, proxy, DATA)
    remembered = dict(checkpoint)
    opened().put(NAME, BytesSource(DATA), {"sha256": "aa"}, checkpoint)
    sent = proxy.passed["up"]
    opened().put(NAME, BytesSource(DATA), {"sha256": "aa"}, remembered)
    assert place.read(NAME) == DATA
    assert proxy.passed["up"] - sent < OVERHEAD


def test_without_the_permission_to_read_everything_is_sent_again(
    place: AzurePlace, opened: Opened, proxy: FaultProxy
) -> None:
    checkpoint = interrupted(opened, proxy, DATA)
    place.sas = place.make_sas("cw")
    opened().put(NAME, BytesSource(DATA), {"sha256": "aa"}, checkpoint)
    assert place.read(NAME) == DATA


def test_discard_forgets_the_upload(place: AzurePlace, opened: Opened, proxy: FaultProxy) -> None:
    checkpoint = interrupted(opened, proxy, DATA)
    opened().discard(checkpoint)
    assert checkpoint == {}
    assert place.names() == []


@pytest.mark.parametrize("source", [StreamedSource(DATA), BytesSource(DATA)], ids=["streamed", "staged"])
def test_an_archive_with_more_blocks_than_allowed_is_too_large(
    place: AzurePlace, opened: Opened, source: BytesSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Container, "plan", PartPlan(BLOCK, BLOCK, grow_every=1000, most_parts=3))
    checkpoint: dict[str, str] = {}
    with pytest.raises(TooLarge):
        opened().put(NAME, source, {}, checkpoint)
    assert place.names() == []
    assert checkpoint == {}


@pytest.mark.parametrize("data", [DATA, DATA[:1000]], ids=["blocks", "whole"])
def test_md5_and_metadata_are_kept_with_the_blob(place: AzurePlace, opened: Opened, data: bytes) -> None:
    metadata = {"correlation-id": "zürich #1\n%", "sha256": "ab" * 32, "empty": ""}
    opened().put(NAME, BytesSource(data), metadata, {})
    kept = place.client.get_blob_client(NAME).get_blob_properties()
    assert kept.metadata == {"correlation_id": "z%C3%BCrich #1%0A%25", "sha256": "ab" * 32}
    assert kept.content_settings.content_md5 == bytearray(hashlib.md5(data).digest())


def test_the_right_to_create_is_enough_for_an_object_that_stays(place: AzurePlace) -> None:
    """A thief with this signature can neither read nor replace the objects."""
    place.sas = place.make_sas("c")
    with closing(AzureBlob(place.options(NAME), place.limits)) as storage:
        storage.create("data/00/0000", DATA)
        with pytest.raises((AlreadyThere, AccessDenied)):
            storage.create("data/00/0000", DATA[:1000])
        with pytest.raises(AccessDenied):
            storage.stat("data/00/0000")
        with pytest.raises(AccessDenied):
            storage.delete("data/00/0000")
    assert place.read("data/00/0000") == DATA
