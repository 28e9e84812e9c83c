"""Opening an object, or the rest of it, for `providers.fetch`."""

from contextlib import closing

from providers.api import Piece
from providers.aws.client import Client
from providers.aws.errors import errors, not_a_store
from providers.aws.etag import etag_of, md5_in
from providers.errors import translating
from providers.fetch import Body, OpenBody
from providers.ranges import Wanted, received


def opener(client: Client, bucket: str, name: str) -> OpenBody:
    """Return the function that opens this object (S3 API reference, GetObject)."""
    place = f"s3://{bucket}/{name}"

    def open_body(offset: int, etag: str) -> Body:
        part = {"Range": f"bytes={offset}-", "IfMatch": f'"{etag}"'} if offset else {}
        with translating(errors(place)):
            reply = client.get_object(Bucket=bucket, Key=name, **part)
        if not etag_of(reply):
            reply["Body"].close()
            raise not_a_store(place)
        start = offset if "ContentRange" in reply else 0
        content = reply["Body"]

        def read(size_bytes: int) -> bytes:
            with translating(errors(place)):
                chunk: bytes = content.read(size_bytes)
                return chunk

        return Body(start, start + reply["ContentLength"], etag_of(reply), md5_in(reply), read, content.close)

    return open_body


def read_piece(client: Client, bucket: str, name: str, wanted: Wanted) -> Piece:
    """A part of the object. Raises `StorageError`."""
    place = f"s3://{bucket}/{name}"
    with translating(errors(place)):
        reply = client.get_object(Bucket=bucket, Key=name, Range=wanted.header)
    with closing(reply["Body"]) as content:

        def read(most_bytes: int) -> bytes:
            with translating(errors(place)):
                chunk: bytes = content.read(most_bytes)
                return chunk

        return received(place, wanted, reply.get("ContentRange", ""), etag_of(reply), read)
