"""S3, over two servers: rclone (what it stores are plain files) and moto (session tokens, part sizes)."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from providers.api import Limits, StorageFactory
from providers.aws import S3
from tests.support import stores


class S3Place:
    """A new bucket, seen with boto3."""

    factory: StorageFactory = S3
    networked = True

    def __init__(self, server: stores.Server, bucket: str) -> None:
        self.server, self.bucket = server, bucket
        self.limits = Limits()
        self.secrets: Sequence[str] = (server.secret,)
        self.client: Any = stores.aws_client(server)
        self.client.create_bucket(Bucket=bucket)

    def options(self, name: str) -> dict[str, str]:
        return {
            "aws.endpoint.url": self.server.url,
            "aws.s3.bucket": self.bucket,
            "aws.access.key.id": self.server.user,
            "aws.secret.access.key": self.server.secret,
            "aws.object.key": name,
        }

    def bad_options(self) -> Sequence[tuple[Mapping[str, str], set[str]]]:
        right = self.options("x")
        return [
            ({}, {"aws.region", "aws.s3.bucket", "aws.access.key.id", "aws.secret.access.key"}),
            (right | {"aws.secret.access.kye": "very-secret"}, {"aws.secret.access.kye"}),
            (right | {"aws.endpoint.url": "ftp://user:very-secret@host"}, {"aws.endpoint.url"}),
            (right | {"aws.endpoint.url": ""}, {"aws.region"}),
            (right | {"aws.region": "Frankfurt!", "aws.s3.bucket": "../x"}, {"aws.region", "aws.s3.bucket"}),
        ]

    def denied_options(self, name: str) -> dict[str, str] | None:
        return self.options(name) | {"aws.secret.access.key": "wrong-secret-0123456789"}

    def write(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=name, Body=data)

    def read(self, name: str) -> bytes | None:
        with suppress(ClientError):
            data: bytes = self.client.get_object(Bucket=self.bucket, Key=name)["Body"].read()
            return data
        return None

    def remove(self, name: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=name)

    def names(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return sorted(entry["Key"] for page in pages for entry in page.get("Contents", ()))

    def leftovers(self) -> list[str]:
        """Unfinished multipart uploads."""
        return [f"{name} {upload_id}" for name, upload_id in self._uploads()]

    def abort_all(self) -> None:
        for name, upload_id in self._uploads():
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=name, UploadId=upload_id)

    def _uploads(self) -> list[tuple[str, str]]:
        try:
            uploads = self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())
        except self.client.exceptions.NoSuchUpload:  # rclone's way to say that there is none
            return []
        return [(upload["Key"], upload["UploadId"]) for upload in uploads]


@contextmanager
def serve_rclone(work: Path) -> Iterator[Callable[[], S3Place]]:
    numbers = itertools.count()
    with stores.rclone(work) as server:
        yield lambda: S3Place(server, f"bucket-{next(numbers)}")


@contextmanager
def serve_moto(work: Path) -> Iterator[Callable[[], S3Place]]:
    numbers = itertools.count()
    with stores.moto(work) as server:
        yield lambda: S3Place(server, f"bucket-{next(numbers)}")


PLACES = {"aws-rclone": serve_rclone, "aws-moto": serve_moto}
