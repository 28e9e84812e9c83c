"""Uploads to S3 in several parts: they go on where they stopped, and leave nothing where they cannot."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from providers.aws import S3
from providers.aws.storage import Bucket
from providers.errors import Corrupted, StorageError, TooLarge, Unreachable
from providers.part_sizes import PartPlan
from providers.testing.faultproxy import FaultProxy
from providers.testing.streams import BytesSource, HookedSource, StreamedSource, content
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
from tests.contract.place_aws import PLACES, S3Place

PART = 5 << 20
DATA = content(7 * PART + 1000)
OVERHEAD = 200_000  # headers of all requests together

Opened = Callable[[], S3]


@pytest.fixture(scope="module", params=sorted(PLACES))
def fresh(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], S3Place]]:
    with PLACES[request.param](tmp_path_factory.mktemp(request.param)) as fresh_place:
        yield fresh_place


@pytest.fixture
def place(fresh: Callable[[], S3Place], monkeypatch: pytest.MonkeyPatch) -> S3Place:
    """A bucket, and parts of the least size that S3 takes."""
    monkeypatch.setattr(Bucket, "plan", PartPlan(PART, PART, grow_every=1000, most_parts=100))
    return fresh()


@pytest.fixture
def uploads() -> Uploads:
    return Uploads(S3, DATA, PART, OVERHEAD)


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy() as running:
        yield running


@pytest.fixture
def opened(place: S3Place, proxy: FaultProxy) -> Iterator[Opened]:
    """Opens the bucket through the proxy, as another process would; closed at the end of the test."""
    with ExitStack() as stack:
        limits = replace(place.limits, connect=proxy.connect)
        yield lambda: stack.enter_context(closing(S3(place.options(NAME), limits)))


def test_a_small_stream_is_sent_again_as_a_whole(place: S3Place, opened: Opened, proxy: FaultProxy) -> None:
    source, storage = StreamedSource(DATA[:70_000]), opened()
    proxy.reset_after["up"] = 30_000
    with pytest.raises(Unreachable):
        storage.put(NAME, source, {}, {})
    proxy.reset_after.clear()
    storage.put(NAME, source, {}, {})
    assert place.read(NAME) == DATA[:70_000]


def test_closing_takes_away_the_upload_of_a_stream(place: S3Place, opened: Opened, proxy: FaultProxy) -> None:
    checkpoint: dict[str, str] = {}
    storage = opened()
    proxy.reset_after["up"] = len(DATA) // 2
    with pytest.raises(Unreachable):
        storage.put(NAME, StreamedSource(DATA), {}, checkpoint)
    assert place.leftovers() != []
    proxy.reset_after.clear()
    storage.close()
    assert place.leftovers() == []
    assert checkpoint == {}


def test_discard_aborts_the_upload_of_a_checkpoint(place: S3Place, opened: Opened, proxy: FaultProxy) -> None:
    checkpoint = interrupted(opened, proxy, DATA, "aa")
    opened().discard(checkpoint)
    assert place.leftovers() == []
    assert checkpoint == {}


def test_discard_leaves_alone_what_is_at_another_store(
    place: S3Place, opened: Opened, proxy: FaultProxy
) -> None:
    checkpoint = interrupted(opened, proxy, DATA, "aa")
    checkpoint["s3.endpoint"] = "https://elsewhere.example"
    with pytest.raises(StorageError):
        opened().discard(checkpoint)
    assert checkpoint["s3.upload_id"]
    assert place.leftovers() != []


def test_parts_that_differ_from_the_archive_are_never_mixed_with_it(
    place: S3Place, opened: Opened, proxy: FaultProxy
) -> None:
    """Without a SHA-256 two archives of one length look alike to the checkpoint, but not to the MD5s."""
    checkpoint = interrupted(opened, proxy, DATA, "")
    other = DATA[::-1]
    with pytest.raises(Corrupted):
        opened().put(NAME, BytesSource(other), {}, checkpoint)
    assert place.leftovers() == []
    opened().put(NAME, BytesSource(other), {}, checkpoint)
    assert place.read(NAME) == other


def test_a_checkpoint_that_a_crash_left_half_emptied_can_be_discarded(
    place: S3Place, opened: Opened, proxy: FaultProxy
) -> None:
    """It is emptied a key at a time: whatever is still there must be something to go on from."""
    checkpoint = interrupted(opened, proxy, DATA, "aa")
    names: list[set[str]] = []

    class Watched(dict[str, str]):
        def pop(self, key: str, *default: str) -> str:  # type: ignore[override]
            value = super().pop(key, *default)
            names.append(set(self))
            return value

    opened().discard(Watched(checkpoint))
    assert names[-1] == set()
    for left in names:
        rest = {key: checkpoint[key] for key in left}
        opened().discard(rest)
        assert rest == {}


def test_an_upload_that_somebody_aborted_begins_again(
    place: S3Place, opened: Opened, proxy: FaultProxy
) -> None:
    checkpoint = interrupted(opened, proxy, DATA, "aa")
    place.client.abort_multipart_upload(Bucket=place.bucket, Key=NAME, UploadId=checkpoint["s3.upload_id"])
    opened().put(NAME, BytesSource(DATA), {"sha256": "aa"}, checkpoint)
    assert place.read(NAME) == DATA
    assert place.leftovers() == []


def test_a_stream_with_more_parts_than_allowed_is_too_large_and_leaves_nothing(
    place: S3Place, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bucket, "plan", PartPlan(PART, PART, grow_every=1000, most_parts=3))
    checkpoint: dict[str, str] = {}
    with pytest.raises(TooLarge):
        opened().put(NAME, StreamedSource(DATA), {}, checkpoint)
    assert place.names() == []
    assert place.leftovers() == []
    assert checkpoint == {}


def test_a_file_that_is_too_large_is_refused_before_it_is_read(
    place: S3Place, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bucket, "plan", PartPlan(PART, PART, grow_every=1000, most_parts=3))

    def read(offset: int) -> None:
        raise AssertionError(f"read at {offset}")

    with pytest.raises(TooLarge):
        opened().put(NAME, HookedSource(DATA, read), {}, {})


def test_metadata_is_kept_in_headers_of_plain_ascii(place: S3Place, opened: Opened) -> None:
    metadata = {"correlation_id": "zürich #1\n%", "sha256": "ab" * 32, "empty": ""}
    opened().put(NAME, BytesSource(b"x"), metadata, {})
    kept = place.client.head_object(Bucket=place.bucket, Key=NAME)["Metadata"]
    kept = {key.lower(): value for key, value in kept.items() if key.lower() != "mtime"}
    assert kept == {"correlation-id": "z%C3%BCrich #1%0A%25", "sha256": "ab" * 32}


def test_the_environment_and_the_users_files_are_never_asked(
    place: S3Place, opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[profile other]\nendpoint_url = http://192.0.2.1\ns3 =\n  max = 1\n")
    for name, value in {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_PROFILE": "nobody",
        "AWS_ENDPOINT_URL": "http://192.0.2.1",
        "AWS_ENDPOINT_URL_S3": "http://192.0.2.1",
        "AWS_ACCESS_KEY_ID": "from-the-environment",
        "AWS_SECRET_ACCESS_KEY": "from-the-environment",
        "AWS_SESSION_TOKEN": "from-the-environment",
        "AWS_DEFAULT_REGION": "mars-north-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_DATA_PATH": str(tmp_path),
        "AWS_MAX_ATTEMPTS": "9",
    }.items():
        monkeypatch.setenv(name, value)
    with closing(S3(place.options(NAME), place.limits)) as storage:
        storage.put(NAME, BytesSource(b"x"), {}, {})
    assert place.read(NAME) == b"x"
