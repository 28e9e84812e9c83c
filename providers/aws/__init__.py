"""Archives in AWS S3, and in stores that speak its protocol (option `aws.endpoint.url`).

Built on boto3, which nothing outside this package imports. The options are checked without it: it is imported
when there is something to do.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from providers.address import parse_address
from providers.api import Limits, Storage
from providers.dial import check_allowed
from providers.forwarding import Deferred
from providers.options import HTTP_URL, Option, checked

_REGION = Option(r"[a-z0-9-]{1,64}", "a region such as 'eu-central-1'")
OPTIONS = {
    "aws.region": _REGION,
    "aws.access.key.id": Option(required=True),
    "aws.secret.access.key": Option(required=True),
    "aws.session.token": Option(),
    "aws.s3.bucket": Option(
        r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "3-63 lower-case letters, digits, '.' or '-'", required=True
    ),
    "aws.object.key": Option(r"(?s).+", "an object key"),
    "aws.endpoint.url": HTTP_URL,
}
OPTIONS_AT_AWS = {**OPTIONS, "aws.region": replace(_REGION, required=True)}


class S3(Deferred):
    """Storage in one S3 bucket, with keys that may be temporary. Options: `OPTIONS`.

    With `aws.endpoint.url` (a store that is not AWS) the bucket goes into the path, and the region,
    there often without a meaning, may be left out.
    """

    kind: ClassVar[str] = "aws"
    name_option: ClassVar[str | None] = "aws.object.key"
    prefix_option: ClassVar[str] = "aws.s3.prefix"

    def __init__(self, options: Mapping[str, str], limits: Limits, /) -> None:
        known = OPTIONS if options.get("aws.endpoint.url") else OPTIONS_AT_AWS
        super().__init__(checked(options, "aws.", known), limits)

    def open_behind(self) -> Storage:
        from providers.aws.storage import Bucket

        return Bucket(self._given, self._limits)

    def location(self, name: str, /) -> str:
        return f"s3://{self._given['aws.s3.bucket']}/{name}"

    def preflight(self, _writing: bool, /) -> None:
        """Raise `NotAllowed` when the device is known not to allow this destination.

        The host of a bucket at AWS is botocore's to say, so it is checked when it is connected to.
        """
        url = self._given.get("aws.endpoint.url")
        endpoint = parse_address(url) if url else None
        if endpoint:
            check_allowed(endpoint, self._limits)
        self._limits.allow.check_bucket(self._given["aws.s3.bucket"], endpoint)
