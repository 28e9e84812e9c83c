"""Servers that speak S3, Azure or plain HTTP, and mean no good: answers and lists without an end."""

from collections.abc import Iterator
from contextlib import contextmanager

from providers.api import Limits, Storage
from providers.aws import S3
from providers.azure import AzureBlob
from providers.https import Https
from tests.support.http_server import HttpServer, Received, Say

SECRET = "c2VjcmV0LXNpZ25hdHVyZS1vZi10aGUtU0FT"


def storage_at(kind: str, url: str, limits: Limits) -> Storage:
    """A storage of this kind of provider at the server."""
    if kind == "aws":
        keys = {"aws.access.key.id": "key", "aws.secret.access.key": "secret"}
        return S3({"aws.endpoint.url": url, "aws.s3.bucket": "bucket", **keys}, limits)
    if kind == "azure":
        sas = {"azure.shared.access.signature": f"sv=2024-11-04&sig={SECRET}"}
        return AzureBlob({"azure.storage.endpoint": url, "azure.blob.container": "container", **sas}, limits)
    return Https({"https.url": f"{url}/a.zip?key={SECRET}", "https.header.X-Key": SECRET}, limits)


@contextmanager
def endless_lists(*, full: bool) -> Iterator[HttpServer]:
    """Lists of S3 and Azure whose every page says that there is another; an empty one unless `full`."""

    def answer(request: Received) -> Say:
        number = len(server.requests)
        text = _blobs(number, full) if "comp=list" in request.target else _keys(request, number, full)
        return Say(200, {"Content-Type": "application/xml", "Connection": "close"}, text.encode())

    with HttpServer(answer) as server:
        yield server


def _keys(request: Received, number: int, full: bool) -> str:
    if "uploads" in request.target:
        return (
            "<ListMultipartUploadsResult><Bucket>bucket</Bucket><IsTruncated>true</IsTruncated>"
            f"<NextKeyMarker>k{number}</NextKeyMarker><NextUploadIdMarker>{number}</NextUploadIdMarker>"
            "</ListMultipartUploadsResult>"
        )
    if "uploadId" in request.target:
        return (
            "<ListPartsResult><Bucket>bucket</Bucket><IsTruncated>true</IsTruncated>"
            f"<NextPartNumberMarker>{number}</NextPartNumberMarker></ListPartsResult>"
        )
    entry = f"<Contents><Key>k{number}</Key><Size>1</Size></Contents>" if full else ""
    return (
        f"<ListBucketResult><Name>bucket</Name><IsTruncated>true</IsTruncated>{entry}"
        f"<NextContinuationToken>t{number}</NextContinuationToken></ListBucketResult>"
    )


def _blobs(number: int, full: bool) -> str:
    facts = "<Content-Length>1</Content-Length><Etag>0x1</Etag><BlobType>BlockBlob</BlobType>"
    entry = f"<Blob><Name>b{number}</Name><Properties>{facts}</Properties></Blob>" if full else ""
    return (
        f'<?xml version="1.0"?><EnumerationResults><Blobs>{entry}</Blobs>'
        f"<NextMarker>m{number}</NextMarker></EnumerationResults>"
    )
