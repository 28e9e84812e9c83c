"""The storage in one bucket of S3 (S3 API reference)."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import cached_property
from typing import Any, ClassVar

from providers.api import Checkpoint, Limits, Piece, Stored
from providers.aws.answers import etag_of, md5_in, pages
from providers.aws.client import Client, make_client
from providers.aws.errors import errors, not_a_store, status_behind
from providers.aws.upload import Multipart, put_object
from providers.errors import AlreadyThere, StorageError, translating
from providers.fetch import Body, Wanted, received
from providers.part_sizes import PartPlan
from providers.parts import PartStorage, ascii_metadata
from providers.pool import open_pool

log = logging.getLogger(__name__)

_SMALLEST_PART_BYTES = 5 << 20  # S3 takes no smaller part, except the last


class Bucket(PartStorage):
    """Storage in one bucket, with the options of `providers.aws`. An upload that fails is aborted."""

    plan: ClassVar[PartPlan] = PartPlan(8 << 20, 16 << 20, grow_every=2000, most_parts=10_000)
    """2,000 parts of 8 MiB and 8,000 of 16 MiB: 140 GiB for a stream, 156 GiB for a file."""

    def __init__(self, given: Mapping[str, str], limits: Limits) -> None:
        super().__init__(given, limits)
        self._bucket = given["aws.s3.bucket"]
        self._conditional = True
        """False once the store has said that it does not know conditional requests."""

    @property
    def most_part_bytes(self) -> int:
        return max(self._limits.buffer_bytes, _SMALLEST_PART_BYTES)

    def far(self, name: str, metadata: Mapping[str, str], checkpoint: Checkpoint) -> Multipart:
        return Multipart(self._client, self._bucket, name, ascii_metadata(metadata, "-"), checkpoint)

    def read_range(self, name: str, offset: int, size_bytes: int, /) -> Piece:
        wanted = Wanted(offset, size_bytes)
        reply, read = self._get_object(name, Range=wanted.header)
        with closing(reply["Body"]):
            return received(self.location(name), wanted, reply.get("ContentRange", ""), etag_of(reply), read)

    def open(self, name: str, offset: int, etag: str) -> Body:
        part = {"Range": f"bytes={offset}-", "IfMatch": f'"{etag}"'} if offset else {}
        reply, read = self._get_object(name, **part)
        if not etag_of(reply):
            reply["Body"].close()
            raise not_a_store(self.location(name))
        start = offset if "ContentRange" in reply else 0
        size_bytes = start + reply["ContentLength"]
        return Body(start, size_bytes, etag_of(reply), md5_in(reply), read, reply["Body"].close)

    def _get_object(self, name: str, **part: str) -> tuple[Mapping[str, Any], Callable[[int], bytes]]:
        """Return the answer, and a function that reads its body."""
        table = errors(self.location(name))
        with translating(table):
            reply = self._client.get_object(Bucket=self._bucket, Key=name, **part)

        def read(most_bytes: int) -> bytes:
            with translating(table):
                return bytes(reply["Body"].read(most_bytes))

        return reply, read

    def list(self, prefix: str, /) -> Iterator[Stored]:
        """Yield what begins with `prefix`, ascending by key; 1,000 in memory at a time."""
        bucket = f"s3://{self._bucket}"
        paginator = self._client.get_paginator("list_objects_v2")
        for page in pages(paginator.paginate(Bucket=self._bucket, Prefix=prefix), bucket, self._limits.check):
            if "Name" not in page:
                raise not_a_store(bucket)
            for entry in page.get("Contents", ()):
                if not {"Key", "Size"} <= entry.keys():
                    raise not_a_store(bucket)
                yield Stored(entry["Key"], entry["Size"], etag_of(entry), modified=entry.get("LastModified"))

    def create(self, name: str, content: bytes | bytearray, /) -> Stored:
        """Store a small object in one request, with the header `If-None-Match` where the store knows it."""
        if self._conditional:
            try:
                return self._put_new(name, content, IfNoneMatch="*")
            except StorageError as error:
                if status_behind(error) == 412:
                    raise AlreadyThere(f"{self.location(name)} is there already") from error
                if status_behind(error) != 501:
                    raise
            self._conditional = False
            log.warning("store does not know If-None-Match, objects are stored without it")
        return self._put_new(name, content)

    def _put_new(self, name: str, content: bytes | bytearray, **condition: str) -> Stored:
        md5 = hashlib.md5(content, usedforsecurity=False).digest()
        return put_object(self._client, self._bucket, name, content, md5, **condition)

    def delete(self, name: str, /) -> None:
        """Remove the object; in a bucket that keeps versions, it is only marked as deleted."""
        with translating(errors(self.location(name))):
            self._client.delete_object(Bucket=self._bucket, Key=name)

    def discard(self, checkpoint: Checkpoint, /) -> None:
        """Abort the upload in the checkpoint, and clear it. Raises `StorageError` and leaves it otherwise."""
        self.far("", {}, checkpoint).abort()

    def location(self, name: str, /) -> str:
        return f"s3://{self._bucket}/{name}"

    @cached_property
    def _client(self) -> Client:
        pool = open_pool(self._limits, self._given.get("aws.endpoint.url", "https://s3.amazonaws.com"))
        self._closing.callback(pool.clear)
        with translating(errors(f"s3://{self._bucket}")):
            return make_client(self._given, pool, self._limits)
