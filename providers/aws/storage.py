"""The storage itself: what the agent calls, behind `providers.aws.options`."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

from providers.api import Checkpoint, Limits, Piece, Sink, Source, Storage, Stored
from providers.aws.client import Client, make_client
from providers.aws.download import opener, read_piece
from providers.aws.errors import errors, not_a_store
from providers.aws.etag import etag_of
from providers.aws.pages import pages
from providers.aws.upload import Multipart
from providers.errors import translating
from providers.fetch import Download, stat_of
from providers.part_reader import PartPlan
from providers.parts import PartUpload, Uploads, ascii_metadata
from providers.pool import open_pool
from providers.ranges import Wanted

_SMALLEST_PART_BYTES = 5 << 20  # S3 takes no smaller part, except the last


class Bucket(Storage):
    """Storage in one bucket. `given` are checked options (see `providers.aws.options`)."""

    plan: ClassVar[PartPlan] = PartPlan(8 << 20, 16 << 20, grow_every=2000, most_parts=10_000)
    """2,000 parts of 8 MiB and 8,000 of 16 MiB: 140 GiB for a stream, 156 GiB for a file."""

    def __init__(self, given: Mapping[str, str], limits: Limits) -> None:
        self._given, self._limits = given, limits
        self._bucket = given["aws.s3.bucket"]
        self._uploads = Uploads()
        self._closing = ExitStack()

    def put(
        self, name: str, source: Source, metadata: Mapping[str, str], checkpoint: Checkpoint, /
    ) -> Stored:
        """Store `source`: in one request when it is smaller than a part, else as a multipart upload.

        After `Unreachable`, call again with the same source: the upload of a file goes on from the
        checkpoint, also in another process; the upload of a stream goes on in this very object, with
        the part that could not be sent. After `Expired` the upload of a file goes on with other
        credentials. After any other error it is aborted; where that fails, the checkpoint still knows
        it (see `discard`). `metadata["sha256"]`, when given, tells two files of one length apart.
        """

        def start() -> PartUpload:
            plan = self._plan_for(source.size)
            far = Multipart(self._client, self._bucket, name, ascii_metadata(metadata, "-"), checkpoint)
            identity = f"{source.size} {plan.first_bytes} {metadata.get('sha256', '')}"
            far.adopt(identity if source.rewindable else "")
            return PartUpload(far, source, plan, self._limits.buffer_bytes)

        return self._uploads.put(source, start)

    def get(self, name: str, sink: Sink, checkpoint: Checkpoint, /) -> Stored:
        """Fetch the object, from `sink.tell()` on when it still has the ETag in the checkpoint."""
        body = opener(self._client, self._bucket, name)
        return Download(name, f"s3://{self._bucket}/{name}", checkpoint, body).run(sink)

    def stat(self, name: str, /) -> Stored:
        """Size and ETag of the object."""
        return stat_of(name, f"s3://{self._bucket}/{name}", opener(self._client, self._bucket, name))

    def read_range(self, name: str, offset: int, size_bytes: int, /) -> Piece:
        """A part of the object."""
        return read_piece(self._client, self._bucket, name, Wanted(offset, size_bytes))

    def list(self, prefix: str, /) -> Iterator[Stored]:
        """Yield what begins with `prefix`, ascending by key; 1,000 in memory at a time."""
        place = f"s3://{self._bucket}"
        paginator = self._client.get_paginator("list_objects_v2")
        for page in pages(paginator.paginate(Bucket=self._bucket, Prefix=prefix), place, self._limits.check):
            if "Name" not in page:
                raise not_a_store(place)
            for entry in page.get("Contents", ()):
                if not {"Key", "Size"} <= entry.keys():
                    raise not_a_store(place)
                yield Stored(entry["Key"], entry["Size"], etag_of(entry), modified=entry.get("LastModified"))

    def delete(self, name: str, /) -> None:
        """Remove the object; in a bucket that keeps versions, it is only marked as deleted."""
        with translating(errors(f"s3://{self._bucket}/{name}")):
            self._client.delete_object(Bucket=self._bucket, Key=name)

    def discard(self, checkpoint: Checkpoint, /) -> None:
        """Abort the upload that the checkpoint knows: nobody is going to continue it.

        Clears the checkpoint. Raises `StorageError`, and leaves it, when the upload could not be aborted.
        """
        Multipart(self._client, self._bucket, "", {}, checkpoint).abort()

    def close(self) -> None:
        self._uploads.close()
        self._closing.close()

    @cached_property
    def _client(self) -> Client:
        pool = open_pool(self._limits, self._given.get("aws.endpoint.url", "https://s3.amazonaws.com"))
        self._closing.callback(pool.clear)
        with translating(errors(f"s3://{self._bucket}")):
            return make_client(self._given, pool, self._limits)

    def _plan_for(self, size_bytes: int | None) -> PartPlan:
        """No part is larger than the buffer may be. Raises `TooLarge`."""
        most_bytes = max(self._limits.buffer_bytes, _SMALLEST_PART_BYTES)
        plan = replace(
            self.plan,
            first_bytes=min(self.plan.first_bytes, most_bytes),
            largest_bytes=min(self.plan.largest_bytes, most_bytes),
        )
        return plan if size_bytes is None else plan.equal(size_bytes)
