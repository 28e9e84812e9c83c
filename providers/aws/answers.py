"""Answers of S3 as botocore gives them: their ETags, and lists in pages (S3 API reference)."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from providers.aws.errors import errors, not_a_store
from providers.errors import Corrupted, translating

Page = Mapping[str, Any]


def first_pages(paginator: Iterable[Page], location: str, most: int) -> Iterator[Page]:
    """Yield at most `most` pages, for lists without a cancel point. Raises `StorageError`."""
    return islice(pages(paginator, location, lambda: None), most)


def pages(paginator: Iterable[Page], location: str, check: Callable[[], None]) -> Iterator[Page]:
    """Yield page after page, and call `check` before each: a store may say for ever that there are more.

    Raises `StorageError`, and what `check` raises.
    """
    rest = iter(paginator)
    while True:
        check()
        with translating(errors(location)):
            page = next(rest, None)
        if page is None:
            return
        yield page


def etag_of(reply: Mapping[str, Any]) -> str:
    """Return the ETag in an answer, without its quotes; "" when the store gives none."""
    return str(reply.get("ETag", "")).strip('"')


def is_keyed(reply: Mapping[str, Any]) -> bool:
    """Return True when keys of KMS or the customer encrypt the object: its ETag is then no MD5."""
    return str(reply.get("ServerSideEncryption", "")).startswith("aws:kms") or "SSECustomerAlgorithm" in reply


def md5_in(reply: Mapping[str, Any]) -> str | None:
    """Return the content's MD5 as 32 hex digits when the ETag is one; an object made of parts has none."""
    etag = etag_of(reply)
    return etag if not is_keyed(reply) and _is_md5(etag) else None


def check_stored(reply: Page, md5: bytes, location: str) -> None:
    """Raise `Corrupted` when the ETag shows that the store has ignored Content-MD5."""
    if not etag_of(reply):
        raise not_a_store(location)
    if md5_in(reply) not in (None, md5.hex()):
        raise Corrupted(f"{location}: its ETag is not the MD5 of what was sent")


def etag_of_parts(etags: Sequence[str]) -> str:
    """Return the ETag of an object made of parts: MD5 of their MD5s, dash, their number; "" if unknown."""
    if not all(_is_md5(etag) for etag in etags):
        return ""
    joined = hashlib.md5(bytes.fromhex("".join(etags)), usedforsecurity=False)
    return f"{joined.hexdigest()}-{len(etags)}"


def _is_md5(etag: str) -> bool:
    return re.fullmatch("[0-9a-f]{32}", etag) is not None
