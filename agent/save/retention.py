"""Decides which archives of a destination may go. Pure: no clock, no I/O; times are arguments.

Backups of one source (a directory, data sets) with one name are a series. In a series the rules keep, as
those of restic and borg do, the newest archives, and the newest of each of the last days, weeks and months
that have one, in UTC. A retention date precedes the rules: until then an archive stays, afterwards it goes.
The last good archive of a source always stays.

An archive with far fewer files or bytes than the one before it may be of a disk that was not mounted, or of a
dump that failed. Such archives are a series of their own, so that they do not replace the last full one. An
archive of unknown source or time stays.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from agent.base.sources import Extent, is_emptied
from agent.formats.archive_order import DatedArchive, is_from_future


@dataclass(frozen=True, slots=True)
class Candidate:
    """One archive at a destination, with the facts that decide whether it stays."""

    dated: DatedArchive
    expires: datetime | None = None
    """Its retention date, if it was given one."""
    sound: bool | None = None
    """The result of the last verification; None for an archive that nobody has verified."""
    emptied: bool = False
    """True for one with far fewer files or bytes than the archive of its source before."""

    @property
    def name(self) -> str:
        return self.dated.name

    @property
    def made(self) -> datetime:
        return self.dated.made

    @property
    def series(self) -> tuple[object, ...]:
        return self.dated.label, self.dated.known.source, self.emptied


@dataclass(frozen=True, slots=True)
class KeepRules:
    """Numbers of archives that stay; 0 for a rule that keeps nothing."""

    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    emptied_percent: int = 1
    """An archive with a smaller percentage of the last one's files or bytes is emptied."""

    def __bool__(self) -> bool:
        return any((self.last, self.daily, self.weekly, self.monthly))


def undecided(archives: Iterable[Candidate], rules: KeepRules, now: datetime) -> list[Candidate]:
    """Return those that stay because their time, or what `rules` need, their source, is unknown."""
    return [
        archive
        for archive in archives
        if not archive.dated.is_dated
        or is_from_future(archive.dated, now)
        or (rules and archive.dated.known.source is None)
    ]


def removable(archives: Iterable[Candidate], rules: KeepRules, now: datetime) -> list[Candidate]:
    """Return those of one destination that may go, oldest first; never all of a source.

    Without rules, only those past their retention date go.
    """
    newest_first = sorted(archives, key=lambda archive: archive.dated.age, reverse=True)
    left_alone = set(undecided(newest_first, rules, now))
    decided = _with_emptied([one for one in newest_first if one not in left_alone], rules.emptied_percent)
    sources: defaultdict[object, list[Candidate]] = defaultdict(list)
    series: defaultdict[object, list[Candidate]] = defaultdict(list)
    for archive in decided:
        sources[archive.dated.known.source].append(archive)
        if archive.expires is None or archive.expires > now:
            series[archive.series].append(archive)
    kept = set(map(_last_good, sources.values()))
    for alive in series.values():
        kept.update(_kept_by_rules(alive, rules) if rules else alive)
        kept.update(archive for archive in alive if archive.expires)
    return [archive for archive in reversed(decided) if archive not in kept]


def _with_emptied(newest_first: Sequence[Candidate], percent: int) -> list[Candidate]:
    """Mark the emptied archives, each compared with the last full one of its source before."""
    full: dict[object, Extent] = {}
    marked = []
    for archive in reversed(newest_first):
        known = archive.dated.known
        emptied = is_emptied(known.extent, full.get(known.source), percent)
        if known.extent is not None and not emptied and archive.sound is not False:
            full[known.source] = known.extent
        marked.append(replace(archive, emptied=emptied))
    return marked[::-1]


def _last_good(newest_first: Sequence[Candidate]) -> Candidate:
    """Return the newest full archive that is sound, else one that is not known to be damaged, else any."""
    full = [archive for archive in newest_first if not archive.emptied] or newest_first
    for good in (lambda archive: archive.sound is True, lambda archive: archive.sound is None):
        if found := next(filter(good, full), None):
            return found
    return full[0]


def _kept_by_rules(newest_first: Sequence[Candidate], rules: KeepRules) -> set[Candidate]:
    """Return the archives of a series that the rules keep.

    A damaged archive does not count, and goes when a newer sound one is there.
    """
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
    newest_first: Sequence[Candidate], count: int, period: Callable[[Candidate], object]
) -> set[Candidate]:
    """Return the newest archive of each of the last `count` periods that have one."""
    newest: dict[object, Candidate] = {}
    for archive in newest_first:
        newest.setdefault(period(archive), archive)
    return set(list(newest.values())[:count])
