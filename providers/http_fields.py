"""Parsers of HTTP header fields (RFC 9110 unless said otherwise). Pure.

None of them raises, whatever the far side has sent.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_CONTENT_RANGE = re.compile(
    r"bytes +(?:(\d{1,18})-(\d{1,18})|\*)/(?:(\d{1,18})|\*)", re.ASCII | re.IGNORECASE
)
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')
_DIGEST = re.compile(r"(sha-256|md5) *= *:?([A-Za-z0-9+/]+={0,2}):?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ContentRange:
    """The bytes that a 206 carries (first and last inclusive), or, without `first`, the total of a 416."""

    first: int | None
    last: int | None
    total: int | None


def content_length(headers: Mapping[str, str]) -> int | None:
    """Return the bytes of a body that `Content-Length` announces (8.6); None without a readable one."""
    value = headers.get("content-length", "")
    return int(value) if re.fullmatch(r"\d{1,18}", value, re.ASCII) else None


def content_range(value: str) -> ContentRange | None:
    """Parse `Content-Range` (14.4); return None for an absent, unreadable or impossible one."""
    if not (match := _CONTENT_RANGE.fullmatch(value.strip())):
        return None
    first, last, total = (None if group is None else int(group) for group in match.groups())
    if first is not None and last is not None and (last < first or (total is not None and total <= last)):
        return None
    return ContentRange(first, last, total)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds to wait of `Retry-After` (10.2.3), never negative; None without a readable one.

    A date is compared with the far side's own `Date`, since a device's clock may be wrong, and with
    `now` where there is none.
    """
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", value, re.ASCII):
        return float(value)
    if not (until := _date(value)):
        return None
    return max(0.0, (until - (_date(headers.get("date", "")) or now)).total_seconds())


def validator(headers: Mapping[str, str]) -> str:
    """Return the value of `If-Range` for this very content: a strong ETag, else a strong date, else "".

    A `Last-Modified` is strong when it is at least a second older than the answer (8.8.2.2).
    """
    etag = headers.get("etag", "").strip()
    if _STRONG_ETAG.fullmatch(etag):
        return etag
    modified = headers.get("last-modified", "").strip()
    changed, answered = _date(modified), _date(headers.get("date", ""))
    if etag or not changed or not answered or (answered - changed).total_seconds() < 1:
        return ""
    return modified


def digest(headers: Mapping[str, str]) -> tuple[str, bytes] | None:
    """Return algorithm ("sha256", "md5") and raw digest of the whole content; None without one.

    Read from `Repr-Digest` (RFC 9530), `Digest` (RFC 3230) and `Content-MD5` (RFC 1864).
    """
    named = [*_DIGEST.findall(f"{headers.get('repr-digest', '')},{headers.get('digest', '')}")]
    named.append(("md5", headers.get("content-md5", "").strip()))
    for algorithm, length in (("sha-256", 32), ("md5", 16)):
        for name, value in named:
            if name.lower() == algorithm and len(raw := _base64(value)) == length:
                return algorithm.replace("-", ""), raw
    return None


def _base64(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _date(value: str) -> datetime | None:
    try:
        when = parsedate_to_datetime(value)
        return when.replace(tzinfo=when.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
