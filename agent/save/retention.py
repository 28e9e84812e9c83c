"""Which archives of a place have had their time. Pure: no clock, no I/O; times are arguments.

Each name that backups were given is a series of its own. In a series the rules keep what restic and borg
keep by theirs: the newest archives, and the newest of each of the last days, weeks and months that have
one, in UTC. A retention date goes before the rules: until then an archive stays, afterwards it goes.
Whatever dates and rules say, the last good archive of a place stays.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from agent.formats.archive_names import NamedArchive

_NAMED_BY_US = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", re.ASCII)


class ClockIsWrong(Exception):
    """The clock is before the time of an archive that exists: nothing can be said by it."""


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive in a place."""

    name: str
    series: str
    made: datetime
    expires: datetime | None = None
    """Its retention date, if it was given one."""
    sound: bool | None = None
    """What the last verification found; None for an archive that nobody has verified."""


@dataclass(frozen=True, slots=True)
class KeepRules:
    """How many of each kind stay; 0 for a rule that keeps nothing."""

    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0

    def __bool__(self) -> bool:
        return any((self.last, self.daily, self.weekly, self.monthly))


def archives_of(
    listed: Iterable[NamedArchive], dates: Mapping[str, datetime], sound: Mapping[str, bool]
) -> list[Archive]:
    """Return those that this device has named itself, at the top of the destination.

    `dates` and `sound` are what is known of retention dates and verifications, by name.
    """
    return [
        Archive(each.name, each.series, each.made, dates.get(each.name), sound.get(each.name))
        for each in listed
        if _NAMED_BY_US.fullmatch(each.name)
    ]


def removable(archives: Iterable[Archive], rules: KeepRules, now: datetime) -> list[Archive]:
    """Those of one place that may go, oldest first; never all of them. Raises `ClockIsWrong`.

    Without rules only those past their retention date.
    """
    newest_first = sorted(archives, key=lambda archive: (archive.made, archive.name), reverse=True)
    if not newest_first:
        return []
    if now < newest_first[0].made:
        raise ClockIsWrong(f"the clock is before the time of '{newest_first[0].name}'")
    kept = {_last_good(newest_first)}
    series: defaultdict[str, list[Archive]] = defaultdict(list)
    for archive in newest_first:
        if archive.expires is None or archive.expires > now:
            series[archive.series].append(archive)
    for alive in series.values():
        kept.update(_kept_by_rules(alive, rules) if rules else alive)
        kept.update(archive for archive in alive if archive.expires)
    return [archive for archive in reversed(newest_first) if archive not in kept]


def _last_good(newest_first: Sequence[Archive]) -> Archive:
    """The newest that was verified, else that nobody has found to be damaged, else the newest."""
    for good in (lambda archive: archive.sound is True, lambda archive: archive.sound is None):
        if found := next(filter(good, newest_first), None):
            return found
    return newest_first[0]


def _kept_by_rules(newest_first: Sequence[Archive], rules: KeepRules) -> set[Archive]:
    """What the rules keep of one series. A damaged archive takes nobody's place; it goes when a newer,
    better one is there."""
    good = [archive for archive in newest_first if archive.sound is not False]
    kept = {archive for archive in newest_first if not good or archive.made > good[0].made}
    for count, period in (
        (rules.last, lambda archive: archive.name),
        (rules.daily, lambda archive: archive.made.date()),
        (rules.weekly, lambda archive: archive.made.isocalendar()[:2]),
        (rules.monthly, lambda archive: (archive.made.year, archive.made.month)),
    ):
        kept |= _newest_of_each(good, count, period)
    return kept


def _newest_of_each(
    newest_first: Sequence[Archive], count: int, period: Callable[[Archive], object]
) -> set[Archive]:
    """The newest archive of each of the last `count` periods that have one."""
    newest: dict[object, Archive] = {}
    for archive in newest_first:
        newest.setdefault(period(archive), archive)
    return set(list(newest.values())[:count])
