"""One multipart upload, remembered in the checkpoint (S3 user guide, "Multipart upload overview").

Checkpoint keys: `s3.endpoint`, `s3.bucket`, `s3.key` and `s3.identity` say what is uploaded, `s3.upload_id`
is the id of the upload; `s3.etags` is "md5" when the ETag of a part is its MD5; `s3.etag` is the ETag that
the object will have. `s3.begun` is the time (seconds since 1970) at which an upload was requested: when the
answer with its id is lost, the upload is found by this time.
"""

import time
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from providers.api import Checkpoint, Stored
from providers.aws.answers import check_stored, etag_of, etag_of_parts, first_pages, is_keyed, md5_in
from providers.aws.client import Client
from providers.aws.errors import errors, not_a_store
from providers.errors import (
    AccessDenied,
    NotFound,
    Rejected,
    StorageError,
    Unreachable,
    translating,
)
from providers.parts import Part

_KEYS = (
    *("s3.upload_id", "s3.begun"),
    *("s3.endpoint", "s3.bucket", "s3.key", "s3.identity", "s3.etags", "s3.etag"),
)
"""In the order of removal: the keys that tell of an upload come before those that tell where."""
_MOST_PAGES = 12
"""Pages of a thousand parts or unfinished uploads; an upload has at most 10,000 parts."""
_CLOCKS_DIFFER = timedelta(minutes=20)
"""S3 refuses requests by a clock that differs by more than 15 minutes (RequestTimeTooSkewed)."""


def put_object(
    client: Client, bucket: str, name: str, content: bytes | bytearray, md5: bytes, **more: Any
) -> Stored:
    """Store an object in one request, with further arguments of the SDK. Raises `StorageError`."""
    location = f"s3://{bucket}/{name}"
    with translating(errors(location, storing=True)):
        reply = client.put_object(
            Bucket=bucket, Key=name, Body=content, ContentMD5=b64encode(md5).decode(), **more
        )
    check_stored(reply, md5, location)
    return Stored(name, len(content), etag_of(reply), location)


class Multipart:
    """The far side of one upload: a `providers.parts.Far`."""

    needs_md5 = False  # S3 keeps none for an object made of parts

    def __init__(
        self, client: Client, bucket: str, name: str, metadata: Mapping[str, str], checkpoint: Checkpoint
    ) -> None:
        self._client, self._metadata, self._checkpoint = client, metadata, checkpoint
        self._bucket, self._name = bucket, name
        self._object = {"Bucket": bucket, "Key": name}
        self._location = f"s3://{bucket}/{name}"
        self._endpoint: str = client.meta.endpoint_url
        self._etags: dict[int, str] = {}
        self._stored_before = False

    def adopt(self, identity: str) -> None:
        """Keep the checkpoint's upload when it is of this object and source; abort it otherwise.

        Raises `Unreachable` when the old upload cannot be aborted now.
        """
        destination = {"s3.endpoint": self._endpoint, "s3.bucket": self._bucket, "s3.key": self._name}
        wanted = {**destination, "s3.identity": identity}
        if identity and all(self._checkpoint.get(key) == value for key, value in wanted.items()):
            return
        try:
            self.abort()
        except Unreachable:
            raise
        except StorageError:
            self._forget()  # not there, or not with these credentials: left to a lifecycle rule of the bucket
        self._checkpoint.update(wanted)

    def put_whole(self, body: bytearray, md5: bytes, /) -> Stored:
        stored = put_object(self._client, self._bucket, self._name, body, md5, Metadata=self._metadata)
        self._forget()
        return stored

    def begin(self) -> Mapping[int, Part]:
        if "s3.upload_id" in self._checkpoint:
            with suppress(NotFound):
                return self._list_parts()
            # Gone: aborted by a lifecycle rule, or completed by an attempt whose answer was lost.
            self._stored_before = self._is_stored()
            if self._stored_before:
                return {}
        self._abort_unknown()
        self._checkpoint.pop("s3.upload_id", None)
        self._checkpoint["s3.begun"] = str(int(time.time()))
        with translating(errors(self._location)):
            reply = self._client.create_multipart_upload(**self._object, Metadata=self._metadata)
        if not reply.get("UploadId"):
            raise not_a_store(self._location)
        self._checkpoint["s3.etags"] = "keyed" if is_keyed(reply) else "md5"
        self._checkpoint["s3.upload_id"] = reply["UploadId"]
        return {}

    def put_part(self, number: int, body: bytearray, md5: bytes, /) -> None:
        if self._stored_before:
            return
        with translating(errors(self._location)):
            reply = self._client.upload_part(
                **self._object,
                UploadId=self._checkpoint["s3.upload_id"],
                PartNumber=number,
                Body=body,
                ContentMD5=b64encode(md5).decode(),
            )
        check_stored(reply, md5, self._location)
        self._etags[number] = etag_of(reply)

    def commit(self, parts: int, size_bytes: int, _md5: bytes | None, /) -> Stored:
        if not self._stored_before:
            self._complete(parts)
        etag = self._checkpoint.get("s3.etag", "")
        self._forget()
        return Stored(self._name, size_bytes, etag, self._location)

    def abandon(self) -> None:
        with suppress(StorageError):
            self.abort()

    def abort(self) -> None:
        """Abort the upload that the checkpoint knows, and forget it. Raises `StorageError` if it stays."""
        if upload_id := self._checkpoint.get("s3.upload_id"):
            if self._checkpoint["s3.endpoint"] != self._endpoint:
                raise Rejected("the upload that is to be aborted is at another store")
            bucket, name = self._checkpoint["s3.bucket"], self._checkpoint["s3.key"]
            self._abort(bucket, name, upload_id)
        else:
            self._abort_unknown()
        self._forget()

    def _abort(self, bucket: str, name: str, upload_id: str) -> None:
        with suppress(NotFound), translating(errors(f"s3://{bucket}/{name}")):
            self._client.abort_multipart_upload(Bucket=bucket, Key=name, UploadId=upload_id)

    def _abort_unknown(self) -> None:
        """Abort the upload whose id was never received: of this object, and of that time."""
        begun = self._checkpoint.get("s3.begun")
        if not begun or "s3.upload_id" in self._checkpoint:
            return
        if self._checkpoint["s3.endpoint"] != self._endpoint:
            return
        bucket, name = self._checkpoint["s3.bucket"], self._checkpoint["s3.key"]
        # Without the right to list uploads a lifecycle rule removes it; some stores have no list.
        with suppress(NotFound, AccessDenied, Rejected), translating(errors(f"s3://{bucket}/{name}")):
            paginator = self._client.get_paginator("list_multipart_uploads")
            pages = paginator.paginate(Bucket=bucket, Prefix=name)
            found = first_pages(pages, f"s3://{bucket}/{name}", _MOST_PAGES)
            for upload in [upload for page in found for upload in page.get("Uploads", ())]:
                if not {"Key", "UploadId", "Initiated"} <= upload.keys():
                    raise not_a_store(self._location)
                moved = upload["Initiated"] - datetime.fromtimestamp(int(begun), UTC)
                if upload["Key"] == name and abs(moved) < _CLOCKS_DIFFER:
                    self._abort(bucket, name, upload["UploadId"])

    def _complete(self, parts: int) -> None:
        etags = [self._etags[number] for number in range(1, parts + 1)]
        self._checkpoint["s3.etag"] = etag_of_parts(etags)
        listed = [{"PartNumber": number, "ETag": f'"{etag}"'} for number, etag in enumerate(etags, 1)]
        try:
            with translating(errors(self._location, storing=True)):
                reply = self._client.complete_multipart_upload(
                    **self._object,
                    UploadId=self._checkpoint["s3.upload_id"],
                    MultipartUpload={"Parts": listed},
                )
        except NotFound:
            if not self._is_stored():
                raise
        else:
            self._checkpoint["s3.etag"] = etag_of(reply)

    def _is_stored(self) -> bool:
        """Return True when an earlier attempt completed the object and its answer was lost."""
        expected = self._checkpoint.get("s3.etag")
        if not expected:
            return False
        try:
            with translating(errors(self._location)):
                reply = self._client.head_object(**self._object)
        except NotFound:
            return False
        return etag_of(reply) == expected

    def _list_parts(self) -> dict[int, Part]:
        there = {}
        paginator = self._client.get_paginator("list_parts")
        pages = paginator.paginate(**self._object, UploadId=self._checkpoint["s3.upload_id"])
        found = first_pages(pages, self._location, _MOST_PAGES)
        for part in (part for page in found for part in page.get("Parts", ())):
            if not {"PartNumber", "Size"} <= part.keys():
                raise not_a_store(self._location)
            self._etags[part["PartNumber"]] = etag_of(part)
            md5 = md5_in(part) if self._checkpoint.get("s3.etags") == "md5" else None
            there[part["PartNumber"]] = Part(part["Size"], md5)
        return there

    def _forget(self) -> None:
        for key in _KEYS:
            self._checkpoint.pop(key, None)
