"""Which archives of a device there are at a destination, and in which order they were made.

Names carry the time of the device's clock, and that may have been wrong: a clock without a battery begins
in 1970, and one that was set badly was once in 2036. The journal counts the archives that it has seen being
made, so it knows their order whatever the clock said. Pure: no clock, no I/O.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from agent.base.sources import UNKNOWN, KnownArchive
from agent.formats.archive_names import NamedArchive

FUTURE = timedelta(days=1)
"""What is dated later than this from now was made while the clock was wrong; less is an adjusted clock."""
CLOCK_SET = datetime(2020, 1, 1, tzinfo=UTC)
"""A clock that is before this was never set: no release of this agent is so old."""


@dataclass(frozen=True, slots=True)
class DatedArchive:
    """One archive at a destination."""

    name: str
    label: str
    """`backup`, or the name that its backup was given."""
    made: datetime
    """By its name, or where the journal knows better, not before the archives that were made earlier."""
    known: KnownArchive = UNKNOWN

    @property
    def is_dated(self) -> bool:
        """False when nobody knows when it was made: before the clock was set, and the journal is lost."""
        return bool(self.known.number) or self.made >= CLOCK_SET


def in_order(
    archives: Iterable[NamedArchive], known: Mapping[str, KnownArchive], now: datetime
) -> list[DatedArchive]:
    """Return the archives of a device, newest first."""
    found = [
        DatedArchive(each.name, each.series, each.made, known.get(each.name, UNKNOWN)) for each in archives
    ]
    return sorted(_corrected(found, now), key=_age, reverse=True)


def is_from_future(archive: DatedArchive, now: datetime) -> bool:
    """True when it is dated later than `now`, and the clock is set."""
    return now >= CLOCK_SET and archive.made > now + FUTURE


def _corrected(archives: Iterable[DatedArchive], now: datetime) -> list[DatedArchive]:
    """Give archives that the journal knows times in the order in which they were made.

    One that is dated in the future was made before its successor, and by now at the latest; one from
    before the clock was set, not before its predecessor.
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


def _age(archive: DatedArchive) -> tuple[datetime, int, str]:
    return archive.made, archive.known.number, archive.name
