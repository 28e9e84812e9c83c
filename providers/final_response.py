"""The final answer to a request: interim answers (1xx, RFC 9110 15.2) are skipped, and heads limited."""

import http
import http.client
import io
from typing import cast

_MOST_HEAD_BYTES = 256 << 10
"""Limit for all heads of one answer."""


class FinalResponse(http.client.HTTPResponse):
    """An answer of `http.client`, which by itself skips only status 100, without a limit.

    `begin` raises `http.client.HTTPException` when the heads are too long.
    """

    def begin(self) -> None:
        stream = self.fp
        self.fp = cast(io.BufferedReader, _Heads(stream))
        try:
            super().begin()
            # 101 is final: after it the connection speaks another protocol, which no request asked for.
            while 100 <= self.status < 200 and self.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
                self.headers = None  # type: ignore[assignment]  # as before the first head
                super().begin()
        finally:
            if self.fp is not None:  # what is no HTTP at all is closed by now
                self.fp = stream


class _Heads:
    """Reads lines, up to a number of bytes."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream, self._left = stream, _MOST_HEAD_BYTES

    def close(self) -> None:
        self._stream.close()

    def readline(self, most_bytes: int, /) -> bytes:
        line = self._stream.readline(most_bytes)
        self._left -= len(line)
        if self._left < 0:
            raise http.client.HTTPException(f"heads of more than {_MOST_HEAD_BYTES} bytes")
        return line
