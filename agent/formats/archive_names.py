"""Names of archives, which hold the backup's name, its time and the device."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.base.sources import KnownArchive

PLAIN, ENCRYPTED = ".zip", ".zip.age"
"""Ends of archives' names."""
MAX_NAME_LETTERS = 64
_ARCHIVE_TIME = re.compile(
    r"-([0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2}\.[0-9]{2}\.[0-9]{2}\.[0-9]{3})-([0-9a-f]{8})\.zip(\.age)?\Z"
)


def device_tag(device_id: str) -> str:
    """Return the part of an archive's name that tells devices apart."""
    return hashlib.sha256(device_id.encode()).hexdigest()[:8]


def archive_name(when: datetime, device_tag: str, suffix: str = PLAIN, name: str = "") -> str:
    """Return `<name>-<UTC time with milliseconds>-<tag><suffix>`; without a name it is `backup`."""
    time = when.astimezone(UTC)
    stamp = f"{time:%Y-%m-%d-%H.%M.%S}.{time.microsecond // 1000:03d}"
    return f"{name or 'backup'}-{stamp}-{device_tag}{suffix}"


@dataclass(frozen=True, slots=True)
class NamedArchive:
    """An archive that is named as agents name theirs."""

    name: str
    series: str
    """The name that its backup was given."""
    made: datetime
    device_tag: str
    size_bytes: int | None = None
    """None while nobody has looked."""


@dataclass(frozen=True, slots=True)
class OwnArchives:
    """Tells the archives of this device by their names.

    The journal knows the archives that were made under a former id of the device, whose tag differs. It does
    not keep the former tags: an id that was set by mistake may be that of another device, whose archives must
    not be removed or restored here.
    """

    device_tag: str
    """Empty for the archives of all devices."""
    known: Mapping[str, KnownArchive]
    """The journal's facts by name."""

    def parse(self, name: str) -> NamedArchive | None:
        """Parse a name; None for all but archives of this device."""
        archive = parse_archive_name(name)
        return archive if archive and self.include(archive) else None

    def include(self, archive: NamedArchive) -> bool:
        made_here = archive.name in self.known and self.known[archive.name].number > 0
        return made_here or self.device_tag in ("", archive.device_tag)


ALL_ARCHIVES = OwnArchives("", {})


def archives_of(device_id: str) -> OwnArchives:
    """Return the archives of another device, which no journal here knows."""
    return OwnArchives(device_tag(device_id), {})


def parse_archive_name(name: str) -> NamedArchive | None:
    """Parse a name; None for one that no agent makes."""
    found = _ARCHIVE_TIME.search(name)
    if not found:
        return None
    try:
        made = datetime.strptime(found[1], "%Y-%m-%d-%H.%M.%S.%f").replace(tzinfo=UTC)
    except ValueError:  # digits that are no time
        return None
    return NamedArchive(name, name[: found.start()], made, found[2])
