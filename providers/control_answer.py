"""Answers that are no archives, such as a page of a list or an error: their size is limited."""

import io
import time

from urllib3 import BaseHTTPResponse, HTTPResponse

from providers.api import Limits
from providers.errors import Rejected, Unreachable
from providers.writeback import CHUNK_BYTES

MOST_BYTES = 8 << 20
"""Enough for a list of a thousand long names."""
MOST_MARKS = 100_000
"""Tags and attributes of a body: each becomes objects that are much larger than its text."""
MOST_ERROR_BYTES = 64 << 10
"""Longer texts of errors are not read."""
_READ_TIMEOUTS = 10
"""The time limit of an answer, in read time-outs."""


def control_answer(reply: BaseHTTPResponse, limits: Limits, most_marks: int = MOST_MARKS) -> HTTPResponse:
    """Return `reply` with its whole body in memory; its connection is free for the next request.

    The body of an error is left out when it is too long. Raises `Rejected` for another body that is too long
    or encoded, `Unreachable` for one that takes too long, and what urllib3 raises.
    """
    most_bytes = MOST_BYTES if reply.status < 300 else MOST_ERROR_BYTES
    if reply.headers.get("Content-Encoding", "identity") != "identity":
        most_bytes = 0  # the request did not allow it, and it may unpack to any size
    body = _read(reply, most_bytes, time.monotonic() + _READ_TIMEOUTS * limits.read_timeout_s)
    if body is None or body.count(b"<") + body.count(b"=") > most_marks:
        body = None
        reply.close()
        if reply.status < 300:
            raise Rejected("the answer is encoded, or larger than the answers of a store are")
    return HTTPResponse(
        io.BytesIO(body or b""),
        reply.headers,
        reply.status,
        preload_content=False,
        decode_content=False,
        enforce_content_length=False,  # `reply` was
    )


def _read(reply: BaseHTTPResponse, most_bytes: int, until_s: float) -> bytes | None:
    """Return the body; None when it has more than `most_bytes`."""
    body = bytearray()
    while chunk := reply.read1(CHUNK_BYTES, decode_content=False):
        body += chunk
        if len(body) > most_bytes:
            return None
        if time.monotonic() > until_s:
            reply.close()
            raise Unreachable("the answer did not end in time")
    return bytes(body)
