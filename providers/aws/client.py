"""A client of boto3 with the command's keys only, over the provider's own connections.

No environment variable, no ~/.aws and no metadata service is ever asked.
"""

import logging
from collections.abc import Mapping
from typing import Any

from boto3.session import Session  # type: ignore[import-untyped]
from botocore.awsrequest import AWSPreparedRequest, AWSResponse  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.session import Session as BotocoreSession  # type: ignore[import-untyped]
from urllib3 import PoolManager

from providers.api import Limits
from providers.errors import Rejected
from providers.pool import control_answer, send_request

# Its debug lines hold signed headers, and with them the session token.
for sdk in ("boto3", "botocore"):
    logging.getLogger(sdk).setLevel(logging.CRITICAL)

Client = Any
"""boto3 makes the class of its S3 client at run time."""


def make_client(given: Mapping[str, str], pool: PoolManager, limits: Limits) -> Client:
    """Return an S3 client from checked options. Takes about 0.2 s: botocore reads its descriptions of
    services.

    Raises `BotoCoreError` for options that only botocore can judge, such as a region it cannot name.
    """
    endpoint = given.get("aws.endpoint.url")
    client = Session(botocore_session=_blind_session()).client(
        "s3",
        region_name=given.get("aws.region", "us-east-1"),
        endpoint_url=endpoint,
        aws_access_key_id=given["aws.access.key.id"],
        aws_secret_access_key=given["aws.secret.access.key"],
        aws_session_token=given.get("aws.session.token"),
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if endpoint else "auto"},
            retries={"total_max_attempts": 1, "mode": "standard"},
            # Trailing checksums are unknown to many stores; what we send is Content-MD5, which all know.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            ignore_configured_endpoint_urls=True,
        ),
    )

    def answer(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        reply = send_request(pool, request.method, request.url, request.headers, request.body)
        if reply.status in (301, 302, 307) and "x-amz-bucket-region" not in reply.headers:
            # botocore would ask for the region, with a request that is redirected too, and so on.
            reply.close()
            raise Rejected("the store redirects elsewhere: check aws.region and aws.endpoint.url")
        if reply.status >= 300 or not request.stream_output:
            reply = control_answer(reply, limits)
        return AWSResponse(request.url, reply.status, reply.headers, reply)

    # botocore takes the result of a `before-send` handler as the answer, and sends nothing itself.
    client.meta.events.register("before-send.s3", answer)
    return client


def _blind_session() -> BotocoreSession:
    """Return a session that ignores the environment and all files."""
    files = ("config_file", "credentials_file")
    blind = {
        name: (None, None, None if name in files else default, convert)
        for name, (_, _, default, convert) in BotocoreSession.SESSION_VARIABLES.items()
    }
    return BotocoreSession(session_vars=blind)
