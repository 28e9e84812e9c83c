"""Texts, times and modes as Go's standard library writes them.

restic's trees must be byte for byte what Go's `encoding/json` makes of restic's structures: `restic rewrite`
refuses others, and equal directories would have different trees.
"""

import re
import stat
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_MODE_DIR, _MODE_LINK, _MODE_SETUID, _MODE_SETGID, _MODE_STICKY = 1 << 31, 1 << 27, 1 << 23, 1 << 22, 1 << 20
"""Bits of Go's `io/fs.FileMode`."""

_PLAIN = re.compile(rb"[ !#%'-;=?-\[\]-~]*\Z")
"""Letters that neither `strconv.Quote` nor `encoding/json` changes."""
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
_FARTHEST_NS = (1 << 63) - 1
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


def nanoseconds(time_ns: int) -> int:
    """Return `time_ns` as Go's `UnixNano` can have it: in 64 bits, which are the years 1678 to 2261.

    Clocks that were wrong, and some tools, leave files of other years.
    """
    if -_FARTHEST_NS <= time_ns <= _FARTHEST_NS:  # faster than min and max
        return time_ns
    return _FARTHEST_NS if time_ns > 0 else -_FARTHEST_NS


def time_text(moment: datetime) -> str:
    """Return a time as Go's `time.RFC3339Nano`, in UTC."""
    since = moment - _EPOCH
    return time_ns_text((since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000)


_SPECIAL = ((_MODE_SETUID, stat.S_ISUID), (_MODE_SETGID, stat.S_ISGID), (_MODE_STICKY, stat.S_ISVTX))


@lru_cache(maxsize=256)
def file_mode(mode: int) -> int:
    """Return `st_mode` of a file, directory or link as Go's FileMode."""
    found = mode & 0o777
    for bit, unix in _SPECIAL:
        if mode & unix:
            found |= bit
    return found | (_MODE_DIR if stat.S_ISDIR(mode) else _MODE_LINK if stat.S_ISLNK(mode) else 0)


_ESCAPE = re.compile(
    r"""\\(?:([abfnrtv\\"'])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.?))""",
    re.DOTALL,
)
_UNQUOTED = {quoted[1]: letter for letter, quoted in _QUOTED.items()} | {"'": "'"}


def unquoted(text: str) -> bytes:
    """Return the file's name in a text that `strconv.Quote` wrote. Raises ValueError."""
    if "\\" not in text:
        return text.encode()
    return b"".join(_unquoted_parts(text))


def _unquoted_parts(text: str) -> Iterator[bytes]:
    end = 0
    for match in _ESCAPE.finditer(text):
        yield text[end : match.start()].encode()
        letter, byte, short, long, octal, wrong = match.groups()
        if wrong is not None:
            raise ValueError(text)
        if letter:
            yield _UNQUOTED[letter].encode()
        elif byte or octal:
            yield bytes((int(byte, 16) if byte else int(octal, 8),))
        else:
            yield chr(int(short or long, 16)).encode()
        end = match.end()
    yield text[end:].encode()


_FOUR_YEARS = timedelta(days=4 * 365 + 1)
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)\Z", re.ASCII)


@lru_cache(maxsize=16)  # the times of a file are often equal
def time_ns(text: str) -> int:
    """Return the nanoseconds since the epoch of a time in RFC 3339. Raises ValueError."""
    match = _TIME.match(text)
    if not match:
        raise ValueError(text)
    second, fraction, zone = match.groups()
    return _seconds(second, zone) * 1_000_000_000 + (int(fraction.ljust(9, "0")) if fraction else 0)


@lru_cache(maxsize=1024)
def _seconds(second: str, zone: str) -> int:
    has_year_0 = second.startswith("0000")  # restic's for all times before it; unknown to `datetime`
    if has_year_0:
        second = "0004" + second[4:]
    since = datetime.fromisoformat(second + zone.replace("Z", "+00:00")) - _EPOCH
    if has_year_0:
        since -= _FOUR_YEARS
    return since.days * 86_400 + since.seconds


def time_in(text: str) -> datetime:
    """Return the time in a text of RFC 3339, in UTC. Raises ValueError and OverflowError."""
    return _EPOCH + timedelta(microseconds=time_ns(text) // 1000)


@lru_cache(maxsize=256)
def unix_mode(file_mode: int) -> int:
    """Return the `st_mode` of a file, directory or link for Go's FileMode."""
    mode = file_mode & 0o777
    for bit, unix in _SPECIAL:
        if file_mode & bit:
            mode |= unix
    if file_mode & _MODE_DIR:
        return mode | stat.S_IFDIR
    return mode | (stat.S_IFLNK if file_mode & _MODE_LINK else stat.S_IFREG)
