"""Objects below a prefix in a bucket or a container, and below a URL that ends in a slash."""

import io
from pathlib import Path
from urllib.parse import unquote

import pytest

import providers
from providers.api import Limits
from providers.prefix import opened
from tests.support import clouds
from tests.support.http_server import HttpServer, Say, keeping

PREFIX = {"aws": "aws.s3.prefix", "azure": "azure.blob.prefix"}
EMPTY = b"<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated></ListBucketResult>"


class Memory(io.BytesIO):
    """A sink."""

    def restart(self) -> None:
        self.seek(0)
        self.truncate()

    def expect(self, size_bytes: int, /) -> None:
        """Nobody shows it."""


class Archive(io.BytesIO):
    """A source."""

    size: int | None = 7
    rewindable = True
    md5: bytes | None = None


@pytest.mark.parametrize("provider", ["aws", "azure"])
def test_objects_below_a_prefix_are_stored_listed_fetched_and_removed(provider: str, tmp_path: Path) -> None:
    with clouds.bucket(provider, tmp_path) as place:
        place.write("beside.zip", b"not below it")
        options = clouds.options(place) | {PREFIX[provider]: "sites/one/"}
        del options["storage.provider"]
        storage = opened(providers.factory(provider), options, Limits())
        stored = storage.put("a.zip", Archive(b"content"), {}, {})
        assert stored.name == "a.zip"
        assert stored.place.endswith("/sites/one/a.zip")
        assert place.read("sites/one/a.zip") == b"content"
        assert [(each.name, each.size_bytes) for each in storage.list("")] == [("a.zip", 7)]
        assert storage.stat("a.zip").etag == stored.etag
        assert storage.read_range("a.zip", 3, 4).data == b"tent"
        sink = Memory()
        assert storage.get("a.zip", sink, {}).name == "a.zip"
        assert sink.getvalue() == b"content"
        storage.delete("a.zip")
        assert list(storage.list("")) == []
        assert place.names() == ["beside.zip"]
        storage.close()


def test_credentials_for_one_prefix_are_enough_to_list() -> None:
    """A policy of S3 allows `s3:prefix` with this beginning: a list of the whole bucket would be refused."""
    with HttpServer(lambda _: Say(200, {"Content-Type": "application/xml"}, EMPTY)) as server:
        options = {
            "aws.endpoint.url": server.url,
            "aws.s3.bucket": "bucket",
            "aws.access.key.id": "id",
            "aws.secret.access.key": "secret",
            "aws.s3.prefix": "sites/one",
        }
        storage = opened(providers.factory("aws"), options, Limits())
        assert list(storage.list("")) == []
        storage.close()
        (request,) = server.requests
    assert "prefix=sites/one/" in unquote(request.target)


def test_a_url_that_ends_in_a_slash_holds_archives_by_name() -> None:
    with keeping() as (server, kept):
        storage = opened(providers.factory("generic"), {"https.url": f"{server}/site%20one/"}, Limits())
        stored = storage.put("a b.zip", Archive(b"content"), {}, {})
        assert kept["/site%20one/a%20b.zip"].body == b"content"
        assert stored.place.endswith("/site%20one/a%20b.zip")
        sink = Memory()
        assert storage.get("a b.zip", sink, {}).place == stored.place
        assert sink.getvalue() == b"content"
    url = {"https.url": "https://host/one.zip"}
    assert providers.name_option("generic", url) is None
    assert providers.name_option("generic", {"https.url": "https://host/"}) == "https.name"
