"""Names of archives: they tell the backup's name, its time and the device."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

PLAIN, ENCRYPTED = ".zip", ".zip.age"
"""Ends of archives' names."""


MAX_NAME_LETTERS = 64
_ARCHIVE_TIME = re.compile(
    r"-([0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2}\.[0-9]{2}\.[0-9]{2}\.[0-9]{3})-([0-9a-f]{8})\.zip(\.age)?\Z"
)


def archive_name(when: datetime, device_tag: str, suffix: str = PLAIN, name: str = "") -> str:
    """Return `<name>-<UTC time with milliseconds>-<tag><suffix>`; without a name it is `backup`."""
    time = when.astimezone(UTC)
    stamp = f"{time:%Y-%m-%d-%H.%M.%S}.{time.microsecond // 1000:03d}"
    return f"{name or 'backup'}-{stamp}-{device_tag}{suffix}"


@dataclass(frozen=True, slots=True)
class NamedArchive:
    """An archive of this device, as its name tells of it."""

    name: str
    series: str
    """The name that its backup was given."""
    made: datetime


def parse_archive_name(name: str, device_tag: str) -> NamedArchive | None:
    """Return what the name tells; None for any name but that of an archive of this device."""
    found = _ARCHIVE_TIME.search(name)
    if not found or found[2] != device_tag:
        return None
    try:
        made = datetime.strptime(found[1], "%Y-%m-%d-%H.%M.%S.%f").replace(tzinfo=UTC)
    except ValueError:  # digits that are no time
        return None
    return NamedArchive(name, name[: found.start()], made)
