"""The archives of a device at a destination: what each contains, and in which order they were made.

Names carry the time of the device's clock, which may have been wrong: a clock without a battery begins in
1970, and one that was set badly may have been in 2036. The journal counts the archives as they are made, so
it knows their order whatever the clock said.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from agent.base.clock import CLOCK_SET
from agent.base.errors import Cancelled, JobError
from agent.base.sources import UNKNOWN, ArchiveSource, Extent, KnownArchive
from agent.formats.archive_names import ENCRYPTED, NamedArchive
from agent.formats.base import ReadFormat, Unlock
from agent.formats.manifest import Manifest
from agent.transfer.context import Destination
from providers.errors import NotFound, Rejected

log = structlog.get_logger(__name__)

FUTURE = timedelta(days=1)
"""An archive dated further ahead was made while the clock was wrong; less comes from adjusting a clock."""


@dataclass(frozen=True, slots=True)
class DatedArchive:
    name: str
    label: str
    """`backup`, or the name that its backup was given."""
    made: datetime
    """The time in its name, corrected where the journal knows better."""
    known: KnownArchive = UNKNOWN
    size_bytes: int | None = None

    @property
    def age(self) -> tuple[datetime, int, str]:
        """Return the key that sorts archives from the oldest to the newest."""
        return self.made, self.known.number, self.name

    @property
    def is_dated(self) -> bool:
        """Return False when nobody knows when it was made: its clock was not set, and the journal is lost."""
        return bool(self.known.number) or self.made >= CLOCK_SET


def in_order(
    archives: Iterable[NamedArchive], known: Mapping[str, KnownArchive], now: datetime
) -> list[DatedArchive]:
    """Return the archives of a device, newest first."""
    found = [
        DatedArchive(each.name, each.series, each.made, known.get(each.name, UNKNOWN), each.size_bytes)
        for each in archives
    ]
    return sorted(_corrected(found, now), key=lambda archive: archive.age, reverse=True)


def is_from_future(archive: DatedArchive, now: datetime) -> bool:
    """Return True for an archive that is dated more than `FUTURE` after `now`, when the clock is set."""
    return now >= CLOCK_SET and archive.made > now + FUTURE


def _corrected(archives: Iterable[DatedArchive], now: datetime) -> list[DatedArchive]:
    """Correct the times of the archives that the journal knows, so that they are in the order of making.

    An archive that is dated in the future gets the time of its successor, or `now`; an archive from before
    the clock was set gets the time of its predecessor.
    """
    ordered = sorted(archives, key=lambda archive: archive.known.number)
    known = [archive for archive in ordered if archive.known.number]
    limit = now
    for at in reversed(range(len(known))):
        if is_from_future(known[at], now):
            known[at] = replace(known[at], made=limit)
        elif known[at].made >= CLOCK_SET:
            limit = min(limit, known[at].made)
    for at in range(1, len(known)):
        known[at] = replace(known[at], made=max(known[at - 1].made, known[at].made))
    return [*ordered[: len(ordered) - len(known)], *known]


def read_manifest(
    archives: ReadFormat, destination: Destination, name: str, unlock: Unlock
) -> Manifest | None:
    """Return the manifest of an archive; None when it has none or cannot be opened.

    The archive is not fetched: the storage has to have `READ_RANGE`. Raises `StorageError` when the
    destination cannot be used now, and `Cancelled`.
    """
    keys = unlock if name.endswith(ENCRYPTED) else Unlock()
    try:
        return archives.manifest(destination, name, keys)
    except Cancelled:
        raise
    except (JobError, NotFound, Rejected) as error:
        log.debug("manifest of archive unreadable", archive=name, reason=str(error))
        return None


def known_from(manifest: Manifest | None) -> KnownArchive:
    """Return the facts in the manifest of an archive; `UNKNOWN` for None."""
    if manifest is None:
        return UNKNOWN
    roots = ((source.prefix, source.path, source.names) for source in manifest.sources)
    return KnownArchive(ArchiveSource.of(roots), Extent(manifest.counts.files, manifest.counts.bytes))


def read_about(archives: ReadFormat, destination: Destination, name: str, unlock: Unlock) -> KnownArchive:
    """Return the facts in the manifest of an archive. Raises as `read_manifest`."""
    return known_from(read_manifest(archives, destination, name, unlock))
