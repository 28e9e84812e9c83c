"""The meaning of an ETag of S3 (S3 API reference, type Object, "ETag")."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any


def etag_of(reply: Mapping[str, Any]) -> str:
    """The ETag in an answer of botocore's, without its quotes; "" where the store gives none."""
    return str(reply.get("ETag", "")).strip('"')


def is_keyed(reply: Mapping[str, Any]) -> bool:
    """Tell whether KMS's or the customer's keys encrypt the object: its ETag is then no MD5."""
    return str(reply.get("ServerSideEncryption", "")).startswith("aws:kms") or "SSECustomerAlgorithm" in reply


def md5_in(reply: Mapping[str, Any]) -> str | None:
    """The MD5 of the content as 32 hex digits, where the ETag is one; an object made of parts has none."""
    etag = etag_of(reply)
    return etag if not is_keyed(reply) and _is_md5(etag) else None


def etag_of_parts(etags: Sequence[str]) -> str:
    """Return the ETag of an object made of parts: MD5 of their MD5s, dash, their number; "" if unknown."""
    if not all(_is_md5(etag) for etag in etags):
        return ""
    joined = hashlib.md5(bytes.fromhex("".join(etags)), usedforsecurity=False)
    return f"{joined.hexdigest()}-{len(etags)}"


def _is_md5(etag: str) -> bool:
    return re.fullmatch("[0-9a-f]{32}", etag) is not None
