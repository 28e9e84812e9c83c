"""The kinds of values of settings: the texts that are accepted, the values, and their descriptions."""

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BeforeValidator, Field, SecretStr, StringConstraints
from pydantic.fields import FieldInfo

from agent.base.bech32 import decode_key
from agent.base.clock_times import DailyWindow, check_cron, cron_of, parse_daily_window, zone
from agent.base.durations import format_duration
from agent.base.operations import Face, offered
from agent.base.patterns import MAX_PATTERN_LENGTH, MAX_PATTERNS
from agent.base.text import valid_device_id, valid_level
from agent.base.times import parse_rfc3339
from agent.settings.http import ListenAddress, parse_listen
from agent.settings.parsing import (
    BROKER_SCHEMES,
    SHORTEST_PERIOD,
    BrokerAddress,
    at_least,
    format_size,
    from_text,
    list_of,
    only,
    or_none,
    parse_broker,
    path_of,
    pattern_list,
    size_bytes_of,
    whole_number,
)
from providers.allow import EVERYTHING, HostPattern, host_pattern


@dataclass(frozen=True, slots=True)
class ValueKind:
    """The description of a value: its `unit` in a table, and what is `expected` in an error message."""

    unit: str
    expected: str
    secret: bool = False


_Whole = Annotated[int, BeforeValidator(whole_number)]
Text = Annotated[str, ValueKind("text", "text")]
DeviceId = Annotated[
    str,
    from_text(only(valid_device_id, empty=True)),
    ValueKind("text", "nothing, or <namespace>:<name>, printable and without spaces, '/', '+' and '#'"),
]
TenantId = Annotated[
    str,
    from_text(only(valid_level, empty=True)),
    ValueKind("text", "nothing, or printable without spaces, '/', '+' and '#'"),
]
FeatureId = Annotated[
    str,
    from_text(only(valid_level)),
    ValueKind("text", "printable, without spaces, '/', '+' and '#', and not empty"),
]
Switch = Annotated[bool, ValueKind("true or false", "true or false")]
Secret = Annotated[SecretStr, ValueKind("text", "text", secret=True)]
ExistingOrNewPath = Annotated[Path, from_text(path_of), ValueKind("path", "a path")]
OptionalPath = Annotated[Path | None, from_text(or_none(path_of)), ValueKind("path", "a path, or nothing")]
PemFile = Annotated[
    Path | None, from_text(or_none(path_of)), ValueKind("PEM file", "the path of a PEM file, or nothing")
]
Duration = Annotated[
    timedelta,
    from_text(at_least(timedelta(0))),
    ValueKind("duration", "a duration such as '90s' or '1h30m'"),
]
PositiveDuration = Annotated[
    timedelta,
    from_text(at_least(timedelta.resolution)),
    ValueKind("duration", "a duration above 0 such as '90s' or '1h30m'"),
]
OptionalDuration = Annotated[
    timedelta | None,
    from_text(or_none(at_least(timedelta(0)))),
    ValueKind("duration", "a duration such as '90s' or '1h30m', or nothing"),
]
Period = Annotated[
    timedelta,
    from_text(at_least(SHORTEST_PERIOD)),
    ValueKind("duration", "a duration of at least 1s such as '90s' or '1h30m'"),
]
OptionalWindow = Annotated[
    DailyWindow | None,
    from_text(or_none(parse_daily_window)),
    ValueKind("daily window", "a time of every day in UTC, of 30 minutes or more, such as '02:00-04:00'"),
]
Moment = Annotated[
    datetime | None,
    from_text(or_none(parse_rfc3339)),
    ValueKind("RFC 3339 time", "a time such as '2026-11-21T22:00:00Z', or nothing"),
]
Size = Annotated[
    int,
    BeforeValidator(size_bytes_of),
    Field(ge=0),
    ValueKind("bytes", "a whole number of bytes, or a size such as '512MiB' or '2GB'"),
]
BrokerUrl = Annotated[
    BrokerAddress,
    from_text(parse_broker),
    ValueKind("URL", f"scheme://host[:port] with a scheme of {', '.join(BROKER_SCHEMES)}"),
]
Count = Annotated[_Whole, Field(ge=1), ValueKind("count", "a whole number of at least 1")]
KeptCount = Annotated[_Whole, Field(ge=0), ValueKind("count", "a whole number, 0 for no such rule")]
Megabytes = Annotated[_Whole, Field(ge=1), ValueKind("MB", "a whole number of at least 1")]
Percent = Annotated[_Whole, Field(ge=0, le=100), ValueKind("percent", "a whole number from 0 to 100")]
Days = Annotated[_Whole, Field(ge=0), ValueKind("days", "a whole number, 0 to keep for ever")]
Threads = Annotated[_Whole, Field(ge=0, le=4), ValueKind("count", "a whole number from 0 to 4")]
OperationList = Annotated[
    tuple[str, ...],
    list_of(only({EVERYTHING, *offered(Face.MQTT)}.__contains__)),
    ValueKind("list", f"'*', or some of {', '.join(offered(Face.MQTT))}"),
]
HostList = Annotated[
    tuple[HostPattern, ...],
    list_of(host_pattern),
    ValueKind("list", "'*', or hosts such as 'backup.example', '*.example' or '10.0.0.0/8'"),
]
BucketList = Annotated[
    tuple[str, ...],
    list_of(only(re.compile(r"\*|[a-z0-9$*.-]{1,63}").fullmatch)),
    ValueKind("list", "'*', or names of buckets such as 'backups' or 'site-*'"),
]
ListenAt = Annotated[
    ListenAddress | None,
    from_text(or_none(parse_listen)),
    ValueKind("address", "<IP address>:<port> such as '127.0.0.1:8765' or '[::]:8765', or nothing"),
]
HostNameList = Annotated[
    tuple[str, ...],
    list_of(only(re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?").fullmatch)),
    ValueKind("list", "host names in small letters, such as 'gateway.local'"),
]
RecipientList = Annotated[
    tuple[str, ...],
    list_of(only(partial(decode_key, prefix="age"))),
    ValueKind("list", "public keys of age, each 'age1…'"),
]
WorkFactor = Annotated[_Whole, Field(ge=10, le=15), ValueKind("power of 2", "a whole number from 10 to 15")]
MaxWorkFactor = Annotated[
    _Whole, Field(ge=15, le=22), ValueKind("power of 2", "a whole number from 15 to 22")
]
PatternList = Annotated[
    tuple[str, ...],
    BeforeValidator(pattern_list),
    list_of(str),
    ValueKind(
        "list",
        f"at most {MAX_PATTERNS} patterns as in a .gitignore file, each of at most {MAX_PATTERN_LENGTH}"
        " letters",
    ),
]
TimeList = Annotated[
    tuple[str, ...], list_of(only(cron_of)), ValueKind("list", "times such as '02:00' or 'Mon..Fri 13:30'")
]
CronExpression = Annotated[
    str,
    from_text(only(check_cron, empty=True)),
    ValueKind("text", "minute, hour, day, month and weekday as in cron(5)"),
]
TimeZone = Annotated[
    str,
    from_text(only(zone)),
    ValueKind("text", "a time zone such as 'Europe/Berlin' that the device's database has (package tzdata)"),
]
NameList = Annotated[tuple[str, ...], list_of(str), ValueKind("list", "names")]
ArchiveName = Annotated[
    str,
    StringConstraints(pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]{0,63})?$"),
    ValueKind("text", "letters (A-Z, a-z), digits, '.', '_' and '-'"),
]
LogLevel = Annotated[Literal["ERROR", "WARN", "INFO", "DEBUG", "TRACE"], from_text(str.upper)]


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
