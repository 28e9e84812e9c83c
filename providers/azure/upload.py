"""One blob made of blocks, remembered in the checkpoint ("Put Block", "Put Block List").

Checkpoint keys: `azure.place` and `azure.identity` say what is uploaded, `azure.token` begins the id of
each of its blocks. Blocks that are never committed cannot be seen, and cannot be deleted either: the
service drops them when the blob of that name is stored another time, and after a week.
"""

import secrets
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from azure.storage.blob import BlobBlock, BlobClient, ContentSettings
from urllib3 import PoolManager

from providers.api import Checkpoint, Limits, Stored
from providers.azure.errors import Sas, errors, refusal
from providers.errors import AccessDenied, NotFound, translating
from providers.parts import Part
from providers.pool import control_answer, send_request

_KEYS = ("azure.place", "azure.identity", "azure.token")
_DIGITS = 5


class BlockUpload:
    """The far side of one upload: a `providers.parts.Far`. `location` is for people and the checkpoint."""

    needs_md5 = True

    def __init__(
        self,
        blob: BlobClient,
        pool: PoolManager,
        limits: Limits,
        sas: Sas,
        location: str,
        *,
        metadata: Mapping[str, str],
        checkpoint: Checkpoint,
    ) -> None:
        self._blob, self._pool, self._sas, self._location = blob, pool, sas, location
        self._limits = limits
        self._metadata, self._checkpoint = dict(metadata), checkpoint
        self._continues = True

    def adopt(self, identity: str) -> None:
        """Keep the checkpoint's blocks when they are of this blob and source, else begin with none."""
        wanted = {"azure.place": self._location, "azure.identity": identity}
        if not identity or any(self._checkpoint.get(key) != value for key, value in wanted.items()):
            self._checkpoint.update({**wanted, "azure.token": secrets.token_hex(4)})
            self._continues = False

    def put_whole(self, body: bytearray, md5: bytes, /) -> Stored:
        with translating(errors(self._location, self._sas, storing=True)):
            reply = self._blob.upload_blob(
                bytes(body),
                length=len(body),
                overwrite=True,
                metadata=self._metadata,
                content_settings=ContentSettings(content_md5=bytearray(md5)),
                headers={"Content-MD5": b64encode(md5).decode()},
            )
        return self._finished(reply, len(body))

    def begin(self) -> Mapping[int, Part]:
        if not self._continues:
            return {}
        try:
            with translating(errors(self._location, self._sas)):
                # The committed blocks as well: the answer to an earlier commit may have been lost.
                committed, uncommitted = self._blob.get_block_list("all")
        except (NotFound, AccessDenied):
            return {}  # the blocks are gone, or the SAS allows no reading: send all again
        prefix = self._id(0)[:-_DIGITS]
        return {
            int(block.id[-_DIGITS:]): Part(block.size)
            for block in (*committed, *uncommitted)
            if block.id.startswith(prefix)
        }

    def put_part(self, number: int, body: bytearray, md5: bytes, /) -> None:
        # The SDK's own `stage_block` wants bytes: each block would be in memory twice.
        block = quote(b64encode(self._id(number).encode()), safe="")
        url = f"{self._blob.url}&comp=block&blockid={block}"
        with translating(errors(self._location, self._sas)):
            reply = send_request(self._pool, "PUT", url, {"Content-MD5": b64encode(md5).decode()}, body)
            control_answer(reply, self._limits)
        if reply.status != 201:
            raise refusal(self._location, self._sas, reply.status, reply.headers)

    def commit(self, parts: int, size_bytes: int, md5: bytes | None, /) -> Stored:
        assert md5 is not None
        with translating(errors(self._location, self._sas, storing=True)):
            reply = self._blob.commit_block_list(
                [BlobBlock(self._id(number)) for number in range(1, parts + 1)],
                metadata=self._metadata,
                content_settings=ContentSettings(content_md5=bytearray(md5)),
            )
        return self._finished(reply, size_bytes)

    def abandon(self) -> None:
        for key in _KEYS:
            self._checkpoint.pop(key, None)

    def _id(self, number: int) -> str:
        """Return the id of a block; all ids of a blob must have one length."""
        return f"{self._checkpoint['azure.token']}-{number:0{_DIGITS}}"

    def _finished(self, reply: Mapping[str, Any], size_bytes: int) -> Stored:
        self.abandon()
        return Stored(self._blob.blob_name, size_bytes, str(reply["etag"]).strip('"'), self._location)
