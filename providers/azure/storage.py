"""The storage in one container of Azure.

The SDK's own download tries three times, with pauses, and joins the content in memory. Here a download is one
plain GET ("Get Blob"), read while it arrives.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from functools import cached_property
from typing import ClassVar

from azure.storage.blob import BlobProperties, ContainerClient
from urllib3 import BaseHTTPResponse, PoolManager

from providers.api import Checkpoint, Limits, Piece, Stored
from providers.azure.client import make_client
from providers.azure.errors import Sas, errors, refusal, says_exists
from providers.azure.upload import BlockUpload
from providers.errors import (
    AccessDenied,
    AlreadyThere,
    Classify,
    Corrupted,
    NotFound,
    StorageError,
    Unreachable,
    translating,
)
from providers.fetch import Body, Wanted, received
from providers.http_fields import content_length, content_range, digest
from providers.part_sizes import PartPlan
from providers.parts import PartStorage, ascii_metadata
from providers.pool import open_pool, send_request

_PAGE = 500
"""Blobs asked for at a time: even with the longest names their XML stays below the limit of an answer."""


class Container(PartStorage):
    """Storage in one container, with the options of `providers.azure`.

    The service drops the blocks of an upload that fails (see `providers.azure.upload`).
    """

    plan: ClassVar[PartPlan] = PartPlan(8 << 20, 8 << 20, grow_every=50_000, most_parts=50_000)
    """50,000 blocks of 8 MiB: 390 GiB."""

    def __init__(self, given: Mapping[str, str], limits: Limits) -> None:
        super().__init__(given, limits)
        self._sas = Sas(self._given["azure.shared.access.signature"].removeprefix("?"))
        base = self._given["azure.storage.endpoint"].rstrip("/")
        self._base = f"{base}/{self._given['azure.blob.container']}"

    @property
    def most_part_bytes(self) -> int:
        return max(self._limits.buffer_bytes // 2, 1)  # room to read ahead

    def far(self, name: str, metadata: Mapping[str, str], checkpoint: Checkpoint) -> BlockUpload:
        return BlockUpload(
            self._client.get_blob_client(name),
            self._pool,
            self._limits,
            self._sas,
            self.location(name),
            metadata=ascii_metadata(metadata, "_"),
            checkpoint=checkpoint,
        )

    def read_range(self, name: str, offset: int, size_bytes: int, /) -> Piece:
        wanted = Wanted(offset, size_bytes)
        reply, read = self._get_blob(name, {"Range": wanted.header})
        with closing(reply):
            said = reply.headers.get("Content-Range", "") if reply.status == 206 else ""
            etag = reply.headers.get("ETag", "").strip('"')
            return received(self.location(name), wanted, said, etag, read)

    def open(self, name: str, offset: int, etag: str) -> Body:
        part = {"Range": f"bytes={offset}-", "If-Match": f'"{etag}"'} if offset else {}
        reply, read = self._get_blob(name, part)
        length = content_length(reply.headers)
        if "ETag" not in reply.headers or length is None:
            reply.close()
            raise not_azure(self.location(name))
        start, size_bytes = 0, length
        if reply.status == 206:
            there = content_range(reply.headers.get("Content-Range", ""))
            if not there or there.first != offset or there.total is None:
                raise Corrupted(f"{self.location(name)}: the answer does not say which part it is")
            start, size_bytes = offset, there.total
        named = digest({"content-md5": reply.headers.get("Content-MD5", "")}) if not start else None
        md5 = named[1].hex() if named else None
        return Body(start, size_bytes, reply.headers["ETag"].strip('"'), md5, read, reply.close)

    def _get_blob(
        self, name: str, headers: Mapping[str, str]
    ) -> tuple[BaseHTTPResponse, Callable[[int], bytes]]:
        """Return the answer, and a function that reads its body."""
        location = self.location(name)
        table = errors(location, self._sas)
        with translating(table):
            reply = send_request(self._pool, "GET", self._client.get_blob_client(name).url, headers)
        if reply.status not in (200, 206):
            reply.close()
            raise refusal(location, self._sas, reply.status, reply.headers)

        def read(most_bytes: int) -> bytes:
            with translating(table):
                return reply.read(most_bytes)

        return reply, read

    def list(self, prefix: str, /) -> Iterator[Stored]:
        """Yield what begins with `prefix`, ascending by name; 500 in memory at a time."""
        pages = self._client.list_blobs(name_starts_with=prefix, results_per_page=_PAGE).by_page()
        # The SDK raises these for an empty answer, and for one without a required member.
        odd = (AttributeError, KeyError, TypeError, ValueError)
        table: dict[type[BaseException], Classify] = dict.fromkeys(odd, lambda _: not_azure(self._base))
        table |= errors(self._base, self._sas)
        while True:
            self._limits.check()
            with translating(table):
                page = next(pages, None)
                found = [_found(blob) for blob in page or ()]
            if page is None:
                return
            yield from found

    def create(self, name: str, content: bytes | bytearray, /) -> Stored:
        """Store a small blob in one request ("Put Blob"), for which the right to create is enough."""
        location, md5 = self.location(name), hashlib.md5(content, usedforsecurity=False).digest()
        try:
            with translating(errors(location, self._sas, storing=True)):
                reply = self._client.get_blob_client(name).upload_blob(
                    bytes(content),
                    length=len(content),
                    overwrite=False,  # the SDK sends If-None-Match
                    headers={"Content-MD5": b64encode(md5).decode()},
                )
        except StorageError as error:
            if says_exists(error):
                raise AlreadyThere(f"{location} is there already") from error
            if type(error) is AccessDenied:
                why = "the SAS does not allow to create it, or it is there already"
                raise AccessDenied(f"{location}: {why}") from error
            raise
        return Stored(name, len(content), str(reply["etag"]).strip('"'), location)

    def delete(self, name: str, /) -> None:
        """Remove the blob with its snapshots; an account may keep deleted blobs for some time."""
        with suppress(NotFound), translating(errors(self.location(name), self._sas)):
            self._client.delete_blob(name, delete_snapshots="include")

    def discard(self, checkpoint: Checkpoint, /) -> None:
        """Forget the upload that the checkpoint knows; the service drops its blocks."""
        self.far("none", {}, checkpoint).abandon()

    def location(self, name: str, /) -> str:
        return f"{self._base}/{name}"

    @cached_property
    def _pool(self) -> PoolManager:
        pool = open_pool(self._limits, self._base)
        self._closing.callback(pool.clear)
        return pool

    @cached_property
    def _client(self) -> ContainerClient:
        with translating(errors(self._base, self._sas)):
            return make_client(self._given, self._pool, self._limits)


def not_azure(location: str) -> Unreachable:
    return Unreachable(f"{location}: what answers there is not Azure")


def _found(blob: BlobProperties) -> Stored:
    return Stored(blob.name, int(blob.size), str(blob.etag).strip('"'), modified=blob.last_modified)
