"""The kinds of values of settings: the texts that are accepted, the values, and their descriptions."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, StringConstraints
from pydantic.fields import FieldInfo

from agent.base.bech32 import decode_key
from agent.base.clock_times import DailyWindow, check_cron, cron_of, parse_daily_window, zone
from agent.base.durations import format_duration, parse_duration
from agent.base.operations import Face, offered
from agent.base.patterns import MAX_PATTERN_LENGTH, MAX_PATTERNS, check_patterns
from agent.base.text import valid_device_id, valid_level
from agent.base.times import parse_rfc3339
from agent.settings.http import ListenAddress, parse_listen
from providers.allow import EVERYTHING, HostPattern, host_pattern

PLAIN_PORT, TLS_PORT = 1883, 8883
SHORTEST_PERIOD = timedelta(seconds=1)
"""A shorter one is a mistake, and would fill the log."""
_TLS_SCHEMES = ("ssl", "tls", "mqtts")
_SCHEMES = ("tcp", "mqtt", *_TLS_SCHEMES)
_SIZE = re.compile(r"([0-9]{1,18})\s*([kKMGT]?i?B?)")
_UNITS: dict[str, int] = {"": 1, "B": 1} | {
    f"{letter}{binary}B": (1024 if binary else 1000) ** power
    for power, letter in enumerate("kMGT", start=1)
    for binary in ("", "i")
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ValueKind:
    """The description of a value: its `unit` in a table, and what is `expected` in an error message."""

    unit: str
    expected: str
    secret: bool = False


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
    if parts.scheme not in _SCHEMES or not host or rest or port == 0:
        raise ValueError("not scheme://host[:port]")
    tls = parts.scheme in _TLS_SCHEMES
    return BrokerAddress(host, port or (TLS_PORT if tls else PLAIN_PORT), tls)


def parse_size(text: str) -> int:
    """Return the bytes in `512MiB` (powers of 1024), `2GB` (of 1000) or `4096`. Raises ValueError."""
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


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("not a path")
    return Path(text)


def _at_least(shortest: timedelta) -> Callable[[str], timedelta]:
    """Return a parser of durations that raises ValueError for shorter ones."""

    def parse(text: str) -> timedelta:
        if (duration := parse_duration(text)) < shortest:
            raise ValueError("too short")
        return duration

    return parse


def _or_none(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    return lambda text: parse(text) if text else None


def _only(accepts: Callable[[str], object], *, empty: bool = False) -> Callable[[str], str]:
    """Return a parser that raises ValueError for other texts; `empty` accepts an empty one, too."""

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


def _from_text(parse: Callable[[str], T]) -> BeforeValidator:
    """Validate a text with `parse`; leave values that have the final type already."""

    def convert(value: object) -> object:
        if isinstance(value, str):
            return parse(value)
        if isinstance(value, int | float):  # which a timedelta, say, would take for seconds
            raise ValueError("not text")
        return value

    return BeforeValidator(convert)


def _whole(value: object) -> object:
    if isinstance(value, bool):  # which Python counts among the integers, and JSON does not
        raise ValueError("not a number")
    return value


def _patterns(value: object) -> object:
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


def _size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else _whole(value)


_Whole = Annotated[int, BeforeValidator(_whole)]
Text = Annotated[str, ValueKind("text", "text")]
DeviceId = Annotated[
    str,
    _from_text(_only(valid_device_id, empty=True)),
    ValueKind("text", "nothing, or <namespace>:<name>, printable and without spaces, '/', '+' and '#'"),
]
TenantId = Annotated[
    str,
    _from_text(_only(valid_level, empty=True)),
    ValueKind("text", "nothing, or printable without spaces, '/', '+' and '#'"),
]
FeatureId = Annotated[
    str,
    _from_text(_only(valid_level)),
    ValueKind("text", "printable, without spaces, '/', '+' and '#', and not empty"),
]
Switch = Annotated[bool, ValueKind("true or false", "true or false")]
Secret = Annotated[SecretStr, ValueKind("text", "text", secret=True)]
ExistingOrNewPath = Annotated[Path, _from_text(_path), ValueKind("path", "a path")]
OptionalPath = Annotated[Path | None, _from_text(_or_none(_path)), ValueKind("path", "a path, or nothing")]
PemFile = Annotated[
    Path | None, _from_text(_or_none(_path)), ValueKind("PEM file", "the path of a PEM file, or nothing")
]
Duration = Annotated[
    timedelta,
    _from_text(_at_least(timedelta(0))),
    ValueKind("duration", "a duration such as '90s' or '1h30m'"),
]
PositiveDuration = Annotated[
    timedelta,
    _from_text(_at_least(timedelta.resolution)),
    ValueKind("duration", "a duration above 0 such as '90s' or '1h30m'"),
]
OptionalDuration = Annotated[
    timedelta | None,
    _from_text(_or_none(_at_least(timedelta(0)))),
    ValueKind("duration", "a duration such as '90s' or '1h30m', or nothing"),
]
Period = Annotated[
    timedelta,
    _from_text(_at_least(SHORTEST_PERIOD)),
    ValueKind("duration", "a duration of at least 1s such as '90s' or '1h30m'"),
]
OptionalWindow = Annotated[
    DailyWindow | None,
    _from_text(_or_none(parse_daily_window)),
    ValueKind("daily window", "a time of every day in UTC, of 30 minutes or more, such as '02:00-04:00'"),
]
Moment = Annotated[
    datetime | None,
    _from_text(_or_none(parse_rfc3339)),
    ValueKind("RFC 3339 time", "a time such as '2026-11-21T22:00:00Z', or nothing"),
]
Size = Annotated[
    int,
    BeforeValidator(_size),
    Field(ge=0),
    ValueKind("bytes", "a whole number of bytes, or a size such as '512MiB' or '2GB'"),
]
BrokerUrl = Annotated[
    BrokerAddress,
    _from_text(parse_broker),
    ValueKind("URL", f"scheme://host[:port] with a scheme of {', '.join(_SCHEMES)}"),
]
Count = Annotated[_Whole, Field(ge=1), ValueKind("count", "a whole number of at least 1")]
KeptCount = Annotated[_Whole, Field(ge=0), ValueKind("count", "a whole number, 0 for no such rule")]
Megabytes = Annotated[_Whole, Field(ge=1), ValueKind("MB", "a whole number of at least 1")]
Percent = Annotated[_Whole, Field(ge=0, le=100), ValueKind("percent", "a whole number from 0 to 100")]
Days = Annotated[_Whole, Field(ge=0), ValueKind("days", "a whole number, 0 to keep for ever")]
Threads = Annotated[_Whole, Field(ge=0, le=4), ValueKind("count", "a whole number from 0 to 4")]
OperationList = Annotated[
    tuple[str, ...],
    list_of(_only({EVERYTHING, *offered(Face.MQTT)}.__contains__)),
    ValueKind("list", f"'*', or some of {', '.join(offered(Face.MQTT))}"),
]
HostList = Annotated[
    tuple[HostPattern, ...],
    list_of(host_pattern),
    ValueKind("list", "'*', or hosts such as 'backup.example', '*.example' or '10.0.0.0/8'"),
]
BucketList = Annotated[
    tuple[str, ...],
    list_of(_only(re.compile(r"\*|[a-z0-9$*.-]{1,63}").fullmatch)),
    ValueKind("list", "'*', or names of buckets such as 'backups' or 'site-*'"),
]
ListenAt = Annotated[
    ListenAddress | None,
    _from_text(_or_none(parse_listen)),
    ValueKind("address", "<IP address>:<port> such as '127.0.0.1:8765' or '[::]:8765', or nothing"),
]
HostNameList = Annotated[
    tuple[str, ...],
    list_of(_only(re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?").fullmatch)),
    ValueKind("list", "host names in small letters, such as 'gateway.local'"),
]
RecipientList = Annotated[
    tuple[str, ...],
    list_of(_only(partial(decode_key, prefix="age"))),
    ValueKind("list", "public keys of age, each 'age1…'"),
]
WorkFactor = Annotated[_Whole, Field(ge=10, le=15), ValueKind("power of 2", "a whole number from 10 to 15")]
MaxWorkFactor = Annotated[
    _Whole, Field(ge=15, le=22), ValueKind("power of 2", "a whole number from 15 to 22")
]
PatternList = Annotated[
    tuple[str, ...],
    BeforeValidator(_patterns),
    list_of(str),
    ValueKind(
        "list",
        f"at most {MAX_PATTERNS} patterns as in a .gitignore file, each of at most {MAX_PATTERN_LENGTH}"
        " letters",
    ),
]
TimeList = Annotated[
    tuple[str, ...], list_of(_only(cron_of)), ValueKind("list", "times such as '02:00' or 'Mon..Fri 13:30'")
]
CronExpression = Annotated[
    str,
    _from_text(_only(check_cron, empty=True)),
    ValueKind("text", "minute, hour, day, month and weekday as in cron(5)"),
]
TimeZone = Annotated[
    str,
    _from_text(_only(zone)),
    ValueKind("text", "a time zone such as 'Europe/Berlin' that the device's database has (package tzdata)"),
]
NameList = Annotated[tuple[str, ...], list_of(str), ValueKind("list", "names")]
ArchiveName = Annotated[
    str,
    StringConstraints(pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]{0,63})?$"),
    ValueKind("text", "letters (A-Z, a-z), digits, '.', '_' and '-'"),
]
LogLevel = Annotated[Literal["ERROR", "WARN", "INFO", "DEBUG", "TRACE"], _from_text(str.upper)]


def setting(default: object, description: str, *, key: str | None = None) -> Any:
    """Return a field whose `default` is written as in a file.

    `key` is its name in a file when that is not the field's name in camel case.
    """
    return Field(default=default, description=description, title=key)


def kind_of(field: FieldInfo) -> ValueKind:
    """Return the kind of a settings field, from its annotation. Raises TypeError for a type without one."""
    for part in field.metadata:
        if isinstance(part, ValueKind):
            return part
    if get_origin(field.annotation) is Literal:
        values = ", ".join(filter(None, get_args(field.annotation)))
        return ValueKind(values.replace(", ", " or "), f"one of {values}")
    raise TypeError(f"no kind is known for {field.annotation}")


def shown(value: Any, kind: ValueKind) -> str | int | bool:
    """Write `value` as in a configuration file; a secret becomes `***`."""
    if isinstance(value, SecretStr):
        return "***" if value.get_secret_value() else ""
    if isinstance(value, timedelta | datetime):
        return format_duration(value) if isinstance(value, timedelta) else value.isoformat()
    if kind.unit == "bytes" and value:
        return format_size(value)
    if isinstance(value, bool | int):
        return value
    if isinstance(value, dict | tuple) and value:
        return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else ",".join(map(str, value))
    return str(value) if value else ""
