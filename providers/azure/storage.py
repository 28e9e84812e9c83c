"""The storage itself: what the agent calls, behind `providers.azure.options`."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

from azure.storage.blob import BlobProperties, ContainerClient
from urllib3 import PoolManager

from providers.api import Checkpoint, Limits, Piece, Sink, Source, Storage, Stored
from providers.azure.client import make_client
from providers.azure.download import opener, read_piece
from providers.azure.errors import Sas, errors
from providers.azure.upload import Blocks
from providers.errors import Classify, NotFound, StorageError, Unreachable, translating
from providers.fetch import Download, stat_of
from providers.part_reader import PartPlan
from providers.parts import PartUpload, Uploads, ascii_metadata
from providers.pool import open_pool
from providers.ranges import Wanted

_PAGE = 500
"""Blobs asked for at a time: with names of any length their XML stays below what an answer may have."""


class Container(Storage):
    """Storage in one container. `given` are checked options (see `providers.azure.options`)."""

    plan: ClassVar[PartPlan] = PartPlan(8 << 20, 8 << 20, grow_every=50_000, most_parts=50_000)
    """50,000 blocks of 8 MiB: 390 GiB."""

    def __init__(self, given: Mapping[str, str], limits: Limits) -> None:
        self._given = given
        self._sas = Sas(self._given["azure.shared.access.signature"].removeprefix("?"))
        base = self._given["azure.storage.endpoint"].rstrip("/")
        self._base = f"{base}/{self._given['azure.blob.container']}"
        self._limits = limits
        self._uploads = Uploads()
        self._closing = ExitStack()

    def put(
        self, name: str, source: Source, metadata: Mapping[str, str], checkpoint: Checkpoint, /
    ) -> Stored:
        """Store `source`: in one request when it is smaller than a block, else as a list of blocks.

        After `Unreachable`, call again with the same source: the upload of a file goes on from the
        checkpoint, also in another process; the upload of a stream goes on in this very object, with
        the block that could not be sent. After `Expired` the upload of a file goes on with another SAS.
        After any other error nothing can be seen of it, and the service drops its blocks (see
        `providers.azure.upload`). `metadata["sha256"]`, when given, tells two files of one length apart.
        """

        def start() -> PartUpload:
            plan = self._plan_for(source.size)
            far = self.blocks(name, metadata, checkpoint)
            identity = f"{source.size} {plan.first_bytes} {metadata.get('sha256', '')}"
            far.adopt(identity if source.rewindable else "")
            return PartUpload(far, source, plan, self._limits.buffer_bytes)

        return self._uploads.put(source, start)

    def get(self, name: str, sink: Sink, checkpoint: Checkpoint, /) -> Stored:
        """Fetch the blob, from `sink.tell()` on when it still has the ETag in the checkpoint."""
        place = f"{self._base}/{name}"
        body = opener(self._pool, self._client.get_blob_client(name).url, self._sas, place)
        return Download(name, place, checkpoint, body).run(sink)

    def stat(self, name: str, /) -> Stored:
        """Size and ETag of the blob."""
        place = f"{self._base}/{name}"
        url = self._client.get_blob_client(name).url
        return stat_of(name, place, opener(self._pool, url, self._sas, place))

    def read_range(self, name: str, offset: int, size_bytes: int, /) -> Piece:
        """A part of the blob."""
        url = self._client.get_blob_client(name).url
        return read_piece(self._pool, url, self._sas, f"{self._base}/{name}", Wanted(offset, size_bytes))

    def list(self, prefix: str, /) -> Iterator[Stored]:
        """Yield what begins with `prefix`, ascending by name; 500 in memory at a time."""
        pages = self._client.list_blobs(name_starts_with=prefix, results_per_page=_PAGE).by_page()

        def empty(_: BaseException) -> StorageError:
            return Unreachable(f"{self._base}: what answers there is not Azure")

        # The SDK is surprised by an empty answer, and by one that leaves out what it must say.
        odd = (AttributeError, KeyError, TypeError, ValueError)
        table: dict[type[BaseException], Classify] = dict.fromkeys(odd, empty)
        table |= errors(self._base, self._sas)
        while True:
            self._limits.check()
            with translating(table):
                page = next(pages, None)
                found = [_found(blob) for blob in page or ()]
            if page is None:
                return
            yield from found

    def delete(self, name: str, /) -> None:
        """Remove the blob with its snapshots; an account may keep for a time what was deleted."""
        with suppress(NotFound), translating(errors(f"{self._base}/{name}", self._sas)):
            self._client.delete_blob(name, delete_snapshots="include")

    def discard(self, checkpoint: Checkpoint, /) -> None:
        """Forget the upload that the checkpoint knows; the service drops its blocks."""
        self.blocks("none", {}, checkpoint).abandon()

    def close(self) -> None:
        self._uploads.close()
        self._closing.close()

    @cached_property
    def _pool(self) -> PoolManager:
        pool = open_pool(self._limits, self._base)
        self._closing.callback(pool.clear)
        return pool

    @cached_property
    def _client(self) -> ContainerClient:
        with translating(errors(self._base, self._sas)):
            return make_client(self._given, self._pool, self._limits)

    def blocks(self, name: str, metadata: Mapping[str, str], checkpoint: Checkpoint) -> Blocks:
        blob = self._client.get_blob_client(name)
        place = f"{self._base}/{name}"
        return Blocks(
            blob,
            self._pool,
            self._limits,
            self._sas,
            place,
            metadata=ascii_metadata(metadata, "_"),
            checkpoint=checkpoint,
        )

    def _plan_for(self, size_bytes: int | None) -> PartPlan:
        """No two blocks are larger than the buffer may be. Raises `TooLarge`."""
        most_bytes = max(self._limits.buffer_bytes // 2, 1)
        plan = replace(
            self.plan,
            first_bytes=min(self.plan.first_bytes, most_bytes),
            largest_bytes=min(self.plan.largest_bytes, most_bytes),
        )
        return plan if size_bytes is None else plan.equal(size_bytes)


def _found(blob: BlobProperties) -> Stored:
    return Stored(blob.name, int(blob.size), str(blob.etag).strip('"'), modified=blob.last_modified)
