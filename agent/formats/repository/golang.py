"""Texts, times and modes as Go's standard library writes them.

restic's trees must be byte for byte what Go's `encoding/json` makes of restic's structures: `restic rewrite`
refuses others, and equal directories would have different trees.
"""

import re
import stat
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_MODE_DIR, _MODE_LINK, _MODE_SETUID, _MODE_SETGID, _MODE_STICKY = 1 << 31, 1 << 27, 1 << 23, 1 << 22, 1 << 20
"""Bits of Go's `io/fs.FileMode`."""

_PLAIN = re.compile(rb"[ !#%'-;=?-\[\]-~]*\Z")
"""What neither `strconv.Quote` nor `encoding/json` changes."""
_QUOTED = dict(zip('\a\b\f\n\r\t\v\\"', (f"\\{letter}" for letter in 'abfnrtv\\"'), strict=True))
_JSON = {"\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\\": r"\\", '"': r"\""}
_JSON_HEX = re.compile('[\x00-\x1f<>&\u2028\u2029\\\\"]|[\udc80-\udcff]')


def name_json(name: bytes) -> bytes:
    """Return a file's name as a JSON text, quotes included: restic applies `strconv.Quote` before."""
    if _PLAIN.match(name):
        return b'"%b"' % name
    quoted = "".join(map(_quote, name.decode("utf-8", "surrogateescape")))
    return text_json(quoted)


def _quote(letter: str) -> str:
    """Return a letter as `strconv.Quote` writes it."""
    if known := _QUOTED.get(letter):
        return known
    if letter.isprintable():
        return letter
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def text_json(text: str) -> bytes:
    """Return a text as `encoding/json` writes it; bytes that are not UTF-8 become U+FFFD."""
    return b'"%b"' % _JSON_HEX.sub(_escape, text).encode()


def _escape(match: re.Match[str]) -> str:
    letter = match[0]
    if letter >= "\udc80":
        return "\\ufffd"
    return _JSON.get(letter) or f"\\u{ord(letter):04x}"


def bytes_json(value: bytes) -> bytes:
    """Return bytes as `encoding/json` writes them: in base64."""
    return b'"%b"' % b64encode(value)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799  # the years 1 to 9999


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    """Return a second up to the point of RFC 3339. Years that cannot be written become the nearest ones."""
    moment = _EPOCH + timedelta(seconds=min(max(seconds, _FIRST_S), _LAST_S))
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}"


def time_ns_text(time_ns: int) -> str:
    """Return a time since the epoch as Go's `time.RFC3339Nano`, in UTC."""
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    if not fraction:
        return f"{_second(seconds)}Z"
    return f"{_second(seconds)}.{fraction:09d}".rstrip("0") + "Z"


def time_text(moment: datetime) -> str:
    """Return a time as Go's `time.RFC3339Nano`, in UTC."""
    since = moment - _EPOCH
    return time_ns_text((since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000)


def file_mode(mode: int) -> int:
    """Return `st_mode` of a file, directory or link as Go's FileMode."""
    found = mode & 0o777
    if stat.S_ISDIR(mode):
        found |= _MODE_DIR
    elif stat.S_ISLNK(mode):
        found |= _MODE_LINK
    if mode & stat.S_ISUID:
        found |= _MODE_SETUID
    if mode & stat.S_ISGID:
        found |= _MODE_SETGID
    if mode & stat.S_ISVTX:
        found |= _MODE_STICKY
    return found
