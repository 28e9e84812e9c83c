"""The token of the device, and the backoff for addresses that do not know it."""

import hashlib
import hmac
import math
import os
import threading
import time
from codecs import BOM_UTF8
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path

import structlog

from agent.faces.http.message import Problem
from agent.log.sparing import SparingLog
from agent.settings.secret_files import read_private

log = structlog.get_logger(__name__)

SHORTEST_TOKEN = 16
FREE_ATTEMPTS = 5
"""Different wrong tokens in a row that cost nothing: people mistype."""
KNOWN_TOKENS = 8
"""Wrong tokens of an address that are remembered: to send one again is no further guess."""
LONGEST_DELAY_S = 60.0
MAX_ADDRESSES = 256


class BadToken(Exception):
    """The file of the token cannot be used. The text says what to do, without the token."""


def read_token(path: Path) -> bytes:
    """Return the token in a file that others cannot read, without blanks around it. Raises `BadToken`."""
    try:
        content = read_private(path)
    except OSError as error:
        raise BadToken(f"http.tokenFile: '{path}' cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise BadToken(f"http.tokenFile: '{path}' cannot be used: {error}") from None
    token = content.removeprefix(BOM_UTF8).strip()
    # Other characters cannot be in a header: a browser and a program would send different bytes.
    if len(token) < SHORTEST_TOKEN or not all(0x21 <= byte <= 0x7E for byte in token):
        expected = f"one word of at least {SHORTEST_TOKEN} ASCII characters, as 'openssl rand -hex 32' prints"
        raise BadToken(f"http.tokenFile: expected {expected}, in '{path}'")
    return token


class Token:
    """The token in a file; one that was replaced counts at once. May be used from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sparing = SparingLog(log)
        self._read: tuple[tuple[int, int, int], bytes | None] | None = None

    def fingerprint(self) -> bytes | None:
        """Return a hash of the token; None while its file cannot be used, when nobody gets in."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        seen = (status.st_ino, status.st_size, status.st_mtime_ns)
        if self._read is None or self._read[0] != seen:
            self._read = (seen, self._hash())
        return self._read[1]

    def check(self, candidate: str) -> bytes | None:
        """Return the fingerprint of the right token, else None, in a time that tells nothing about it."""
        expected = self.fingerprint()
        is_right = expected is not None and hmac.compare_digest(_hash(candidate), expected)
        return expected if is_right else None

    def _hash(self) -> bytes | None:
        try:
            return hashlib.sha256(read_token(self._path)).digest()
        except BadToken as error:
            self._sparing.warning("http token not usable", reason=str(error))
            return None


@dataclass(slots=True)
class _Failures:
    count: int = 0
    until_s: float = 0.0
    known: set[bytes] = field(default_factory=set)
    """The beginnings of the hashes of wrong tokens."""

    def add(self, token: str) -> None:
        """Count a wrong token, unless it was sent before."""
        digest = _hash(token)[:8]
        if digest in self.known:
            return
        self.count += 1
        over = self.count - FREE_ATTEMPTS
        if over >= 0:
            self.until_s = time.monotonic() + min(2.0 ** min(over, 10), LONGEST_DELAY_S)
        if len(self.known) < KNOWN_TOKENS:
            self.known.add(digest)


class Backoff:
    """Makes each address that guesses tokens wait longer and longer. May be used from any thread.

    A program that goes on sending the token of before does not guess: it must not lock out others at its
    address, which all share behind a web server.
    """

    def __init__(self) -> None:
        self._failures: dict[str, _Failures] = {}
        self._sparing = SparingLog(log)
        self._lock = threading.Lock()

    def check(self, address: str) -> None:
        """Raise `Problem` 429 while this address has to wait, whatever its next token is."""
        with self._lock:
            failures = self._failures.get(_group(address))
            wait_s = failures.until_s - time.monotonic() if failures else 0.0
        if wait_s > 0:
            headers = {"Retry-After": str(math.ceil(wait_s))}
            raise Problem(429, f"too many wrong tokens: wait {math.ceil(wait_s)} seconds", headers)

    def failed(self, address: str, token: str) -> None:
        with self._lock:
            failures = self._failures.pop(_group(address), _Failures())
            failures.add(token)
            self._failures[_group(address)] = failures  # the newest last: the oldest is forgotten first
            if len(self._failures) > MAX_ADDRESSES:
                del self._failures[next(iter(self._failures))]
        self._sparing.warning("http token refused", address=address)

    def succeeded(self, address: str) -> None:
        with self._lock:
            self._failures.pop(_group(address), None)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _group(address: str) -> str:
    """Return the address, or the network of an IPv6 address: a neighbour has all addresses in that."""
    ip = ip_address(address)
    return str(ip_network((ip, 64), strict=False)) if isinstance(ip, IPv6Address) else address
