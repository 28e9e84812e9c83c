"""Retention: which archives of a destination have had their time, and their removal.

Each name that backups were given is a series of its own. In a series the rules keep what restic and borg
keep by theirs: the newest archives, and the newest of each of the last days, weeks and months that have
one, in UTC. A retention date goes before the rules: until then an archive stays, afterwards it goes.
Whatever dates and rules say, the last good archive of a place stays.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from agent.base.errors import Cancelled, JobError
from agent.formats.archive_names import NamedArchive
from agent.formats.base import Format
from agent.transfer.guarded_storage import GuardedStorage
from providers.api import Capability
from providers.errors import StorageError

log = structlog.get_logger(__name__)

_NAMED_BY_US = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", re.ASCII)


class ClockIsWrong(Exception):
    """The clock is before the time of an archive that exists: nothing can be said by it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An archive that may have had its time."""

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


def candidates(
    listed: Iterable[NamedArchive], dates: Mapping[str, datetime], sound: Mapping[str, bool]
) -> list[Candidate]:
    """Return those that this device has named itself, at the top of the destination.

    `dates` and `sound` are what is known of retention dates and verifications, by name.
    """
    return [
        Candidate(each.name, each.series, each.made, dates.get(each.name), sound.get(each.name))
        for each in listed
        if _NAMED_BY_US.fullmatch(each.name)
    ]


def removable(archives: Iterable[Candidate], rules: KeepRules, now: datetime) -> list[Candidate]:
    """Those of one place that may go, oldest first; never all of them. Raises `ClockIsWrong`.

    Without rules only those past their retention date.
    """
    newest_first = sorted(archives, key=lambda archive: (archive.made, archive.name), reverse=True)
    if not newest_first:
        return []
    if now < newest_first[0].made:
        raise ClockIsWrong(f"the clock is before the time of '{newest_first[0].name}'")
    kept = {_last_good(newest_first)}
    series: defaultdict[str, list[Candidate]] = defaultdict(list)
    for archive in newest_first:
        if archive.expires is None or archive.expires > now:
            series[archive.series].append(archive)
    for alive in series.values():
        kept.update(_kept_by_rules(alive, rules) if rules else alive)
        kept.update(archive for archive in alive if archive.expires)
    return [archive for archive in reversed(newest_first) if archive not in kept]


def _last_good(newest_first: Sequence[Candidate]) -> Candidate:
    """The newest that was verified, else that nobody has found to be damaged, else the newest."""
    for good in (lambda archive: archive.sound is True, lambda archive: archive.sound is None):
        if found := next(filter(good, newest_first), None):
            return found
    return newest_first[0]


def _kept_by_rules(newest_first: Sequence[Candidate], rules: KeepRules) -> set[Candidate]:
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
    newest_first: Sequence[Candidate], count: int, period: Callable[[Candidate], object]
) -> set[Candidate]:
    """The newest archive of each of the last `count` periods that have one."""
    newest: dict[object, Candidate] = {}
    for archive in newest_first:
        newest.setdefault(period(archive), archive)
    return set(list(newest.values())[:count])


@dataclass(frozen=True, slots=True)
class PruneOrder:
    """Remove what has had its time."""

    format: Format
    device_tag: str
    rules: KeepRules
    dates: Mapping[str, datetime]
    """Retention dates by the archive's name."""
    sound: Mapping[str, bool]
    """What verifications found, by the archive's name."""
    clock: Callable[[], datetime]
    dry_run: bool


@dataclass(slots=True)
class Pruned:
    """What was done in one place, or with `dry_run` would be."""

    place: str
    removed: list[str] = field(default_factory=list)
    kept: int = 0
    """Archives of this device that stay."""
    problem: str = ""
    """Why nothing, or no more, was done; empty when all was."""
    retryable: bool = False
    """Whether it may be otherwise in a while."""


def prune(places: Mapping[str, GuardedStorage], order: PruneOrder) -> list[Pruned]:
    """Go through the places one by one; what goes wrong in one is said, and the next one's turn comes.

    `places` are by what people call them, and are closed. Raises `Cancelled`.
    """
    return [_pruned(destination, storage, order) for destination, storage in places.items()]


def _pruned(destination: str, storage: GuardedStorage, order: PruneOrder) -> Pruned:
    done = Pruned(destination)
    try:
        with closing(storage):
            _prune_place(done, storage, order)
    except Cancelled:
        raise
    except (JobError, StorageError, ClockIsWrong) as error:
        done.problem = str(error)
        done.retryable = isinstance(error, StorageError) and error.retryable
        log.warning("old archives stay", destination=destination, reason=done.problem)
    return done


def _prune_place(done: Pruned, storage: GuardedStorage, order: PruneOrder) -> None:
    if not {Capability.LIST, Capability.DELETE} <= storage.capabilities:
        done.problem = "its provider cannot list or delete archives"
        return
    listed = order.format.listed(storage, order.device_tag)
    archives = candidates(listed, order.dates, order.sound)
    # The time after the list was taken: a backup that ends meanwhile is no sign of a wrong clock.
    gone = removable(archives, order.rules, order.clock())
    done.kept = len(archives)
    for archive in gone:
        if not order.dry_run:
            order.format.remove(storage, archive.name)
            log.info("old archive removed", destination=done.place, archive=archive.name)
        done.removed.append(archive.name)
        done.kept -= 1
