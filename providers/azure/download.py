"""Opening a blob, or the rest of it, for `providers.fetch` ("Get Blob").

The SDK's own download tries three times by itself, with pauses, and joins what came in memory: this is one
plain GET, whose answer is read while it arrives.
"""

import re
from contextlib import closing

from urllib3 import PoolManager

from providers.api import Piece
from providers.azure.client import send
from providers.azure.errors import Sas, errors, refusal
from providers.errors import Corrupted, Unreachable, translating
from providers.fetch import Body, OpenBody
from providers.http_fields import content_range, digest
from providers.ranges import Wanted, received

_LENGTH = re.compile("[0-9]{1,18}")


def opener(pool: PoolManager, url: str, sas: Sas, place: str) -> OpenBody:
    """Return the function that opens the blob at `url`, which has the SAS in its query."""
    table = errors(place, sas)

    def open_body(offset: int, etag: str) -> Body:
        part = {"Range": f"bytes={offset}-", "If-Match": f'"{etag}"'} if offset else {}
        with translating(table):
            reply = send(pool, "GET", url, part)
        if reply.status not in (200, 206):
            reply.close()
            raise refusal(place, sas, reply.status, reply.headers)
        length = reply.headers.get("Content-Length", "")
        if "ETag" not in reply.headers or not _LENGTH.fullmatch(length):
            reply.close()
            raise Unreachable(f"{place}: what answers there is not Azure")
        start, size_bytes = 0, int(length)
        if reply.status == 206:
            there = content_range(reply.headers.get("Content-Range", ""))
            if not there or there.first != offset or there.total is None:
                raise Corrupted(f"{place}: the answer does not say which part of the blob it is")
            start, size_bytes = offset, there.total

        def read(most_bytes: int) -> bytes:
            with translating(table):
                return reply.read(most_bytes)

        named = digest({"content-md5": reply.headers.get("Content-MD5", "")}) if not start else None
        md5 = named[1].hex() if named else None
        return Body(start, size_bytes, reply.headers["ETag"].strip('"'), md5, read, reply.close)

    return open_body


def read_piece(pool: PoolManager, url: str, sas: Sas, place: str, wanted: Wanted) -> Piece:
    """A part of the blob. Raises `StorageError`."""
    with translating(errors(place, sas)):
        reply = send(pool, "GET", url, {"Range": wanted.header})
    with closing(reply):
        if reply.status not in (200, 206):
            raise refusal(place, sas, reply.status, reply.headers)
        said = reply.headers.get("Content-Range", "") if reply.status == 206 else ""

        def read(most_bytes: int) -> bytes:
            with translating(errors(place, sas)):
                return reply.read(most_bytes)

        return received(place, wanted, said, reply.headers.get("ETag", "").strip('"'), read)
