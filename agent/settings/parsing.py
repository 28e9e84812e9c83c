"""How a setting is read from a text, and the validators that do it for pydantic."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import BeforeValidator

from agent.base.durations import parse_duration
from agent.base.patterns import check_patterns

PLAIN_PORT, TLS_PORT = 1883, 8883
SHORTEST_PERIOD = timedelta(seconds=1)
"""A shorter one is a mistake, and would fill the log."""
_TLS_SCHEMES = ("ssl", "tls", "mqtts")
BROKER_SCHEMES = ("tcp", "mqtt", *_TLS_SCHEMES)
_SIZE = re.compile(r"([0-9]{1,18})\s*([kKMGT]?i?B?)")
_UNITS: dict[str, int] = {"": 1, "B": 1} | {
    f"{letter}{binary}B": (1024 if binary else 1000) ** power
    for power, letter in enumerate("kMGT", start=1)
    for binary in ("", "i")
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ssl' if self.tls else 'tcp'}://{host}:{self.port}"


def parse_broker(text: str) -> BrokerAddress:
    """Return the address in `scheme://host[:port]`. Raises ValueError for anything else."""
    parts = urlsplit(text)
    host, port = parts.hostname, parts.port
    rest = parts.path.strip("/") + parts.query + parts.fragment + (parts.username or "")
    if parts.scheme not in BROKER_SCHEMES or not host or rest or port == 0:
        raise ValueError("not scheme://host[:port]")
    tls = parts.scheme in _TLS_SCHEMES
    return BrokerAddress(host, port or (TLS_PORT if tls else PLAIN_PORT), tls)


def parse_size(text: str) -> int:
    """Return the number of bytes in `512MiB` (powers of 1024), `2GB` (of 1000), `4096`. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None or (unit := match[2].replace("K", "k")) not in _UNITS:
        raise ValueError("not a size")
    return int(match[1]) * _UNITS[unit]


def format_size(size_bytes: int) -> str:
    """Write `size_bytes` with the largest binary unit that divides it, as `64MiB`, or as plain digits."""
    for unit in ("TiB", "GiB", "MiB", "kiB"):
        if size_bytes and size_bytes % _UNITS[unit] == 0:
            return f"{size_bytes // _UNITS[unit]}{unit.replace('k', 'K')}"
    return str(size_bytes)


def path_of(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("not a path")
    return Path(text)


def at_least(shortest: timedelta) -> Callable[[str], timedelta]:
    """Return a parser of durations that raises ValueError for shorter ones."""

    def parse(text: str) -> timedelta:
        if (duration := parse_duration(text)) < shortest:
            raise ValueError("too short")
        return duration

    return parse


def or_none(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    return lambda text: parse(text) if text else None


def only(accepts: Callable[[str], object], *, empty: bool = False) -> Callable[[str], str]:
    """Return a parser that raises ValueError for what `accepts` refuses; `empty` allows an empty text."""

    def parse(text: str) -> str:
        if not (empty and not text) and not accepts(text):
            raise ValueError("not accepted")
        return text

    return parse


def is_tiny_period(text: str) -> bool:
    """Return True for a period above 0 that is too short."""
    try:
        return timedelta(0) < parse_duration(text) < SHORTEST_PERIOD
    except ValueError:
        return False


def from_text(parse: Callable[[str], T]) -> BeforeValidator:
    """Validate a text with `parse`; leave values that have the final type already."""

    def convert(value: object) -> object:
        if isinstance(value, str):
            return parse(value)
        if isinstance(value, int | float):  # a field of timedelta would take it for seconds
            raise ValueError("not text")
        return value

    return BeforeValidator(convert)


def whole_number(value: object) -> object:
    if isinstance(value, bool):  # which Python counts among the integers, and JSON does not
        raise ValueError("not a number")
    return value


def pattern_list(value: object) -> object:
    assert isinstance(value, tuple)
    return check_patterns(value)


def list_of(parse: Callable[[str], T]) -> BeforeValidator:
    """Validate a list of texts, or one text with commas between; an empty text has no members."""

    def convert(value: object) -> object:
        if isinstance(value, str):
            value = value.split(",") if value.strip() else []
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise ValueError("not a list of texts")
        return tuple(parse(text.strip()) for text in value)

    return BeforeValidator(convert)


def size_bytes_of(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else whole_number(value)
