"""`prune`: removes old archives from the device's destinations, in a worker's thread."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from agent.base.errors import Cancelled, JobError, NoRepository, RepositoryBusy
from agent.base.sources import KnownArchive, Verdicts
from agent.formats.archive_names import ENCRYPTED, OwnArchives
from agent.formats.archive_order import DatedArchive, in_order, read_about
from agent.formats.base import PruneFormat, Removal, Unlock
from agent.save.retention import Candidate, KeepRules, removable, undecided
from agent.transfer.context import Context, Destination
from providers.api import Capability
from providers.errors import StorageError, TargetAbsent

log = structlog.get_logger(__name__)

_NAMED_BY_US = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class PruneOrder:
    """Remove the archives that `rules` and `dates` do not keep."""

    own: OwnArchives
    rules: KeepRules
    dates: Mapping[str, datetime]
    """Retention dates by the archive's name."""
    verdicts: Verdicts
    clock: Callable[[], datetime]
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Prunable:
    """A destination that is pruned, with the format of its archives."""

    destination: Destination
    format: PruneFormat


@dataclass(slots=True)
class Pruned:
    """The result for one destination; with `dry_run`, what would be done."""

    place: str
    removed: list[str] = field(default_factory=list)
    kept: int = 0
    """Archives of this device that stay."""
    problem: str = ""
    """The reason why nothing, or no more, was removed; empty when all was."""
    retryable: bool = False
    """True when the problem may be temporary."""
    failed: bool = False
    """True when there is a problem, but for an absent stick."""
    freed: int = 0
    """Bytes of the archives that were removed; of a repository, of packs."""
    note: str = ""
    """A note for people about archives of unknown source or time, which stay."""


@dataclass(frozen=True, slots=True)
class PruneOutcome:
    """The results, and the facts that were read of archives that the journal did not know."""

    places: list[Pruned]
    learned: dict[str, KnownArchive]

    def problems(self) -> dict[str, str]:
        """Return by destination why old archives stay; leave out sticks that are not plugged in."""
        return {
            each.place: each.problem for each in self.places if each.problem and (each.failed or each.kept)
        }


def prune(destinations: Mapping[str, Prunable], order: PruneOrder, context: Context) -> PruneOutcome:
    """Prune the destinations one by one, also after a problem with one, and close their storages.

    `destinations` are by their names for people. Raises `Cancelled`.
    """
    pruner = _Pruner(order, context)
    done = [pruner.pruned(name, each) for name, each in destinations.items()]
    return PruneOutcome(done, pruner.learned)


class _Pruner:
    def __init__(self, order: PruneOrder, context: Context) -> None:
        self._order, self._context = order, context
        self.learned: dict[str, KnownArchive] = {}

    def pruned(self, name: str, opened: Prunable) -> Pruned:
        done = Pruned(name)
        try:
            with closing(opened.destination.storage):
                self._prune(done, opened)
        except Cancelled:
            raise
        except NoRepository:
            log.debug("no repository to prune yet", destination=name)
        except (JobError, StorageError) as error:
            done.problem = str(error)
            done.failed = not isinstance(error, TargetAbsent)
            done.retryable = isinstance(error, RepositoryBusy) or getattr(error, "retryable", False)
            log.warning("old archives not removed", destination=name, reason=done.problem)
        return done

    def _prune(self, done: Pruned, opened: Prunable) -> None:
        if not {Capability.LIST, Capability.DELETE} <= opened.destination.storage.capabilities:
            done.problem = "its provider cannot list or delete archives"
            return
        archives, order = self._candidates(opened), self._order
        # The time after listing: an archive that is stored meanwhile is not from the future.
        now = order.clock()
        gone = removable(archives, order.rules, now)
        done.kept = len(archives)
        done.note = _note(undecided(archives, order.rules, now))

        def removed(name: str) -> None:
            if not order.dry_run:
                log.info("old archive removed", destination=done.place, archive=name)
            done.removed.append(name)
            done.kept -= 1

        names = {archive.name: archive.dated.size_bytes or 0 for archive in gone}
        kept = frozenset(archive.name for archive in archives) - names.keys()
        removal = Removal(opened.destination, names, kept, order.dry_run, removed, self._context)
        freed = opened.format.remove(removal)
        done.freed, done.problem = freed.size_bytes, freed.problem

    def _candidates(self, opened: Prunable) -> list[Candidate]:
        """Return the archives that this device has named, with their sources where the rules need them."""
        destination, order = opened.destination, self._order
        listed = opened.format.listed(destination, order.own)
        named = [each for each in listed if _NAMED_BY_US.fullmatch(each.name)]
        dated = in_order(named, {**order.own.known, **self.learned}, order.clock())
        if order.rules and Capability.READ_RANGE in destination.storage.capabilities:
            dated = [self._looked_at(archive, opened) for archive in dated]
        verdicts = (order.verdicts.of(each.name, destination.place_of(each.name)) for each in dated)
        dates = (order.dates.get(each.name) for each in dated)
        return list(map(Candidate, dated, dates, verdicts))

    def _looked_at(self, archive: DatedArchive, opened: Prunable) -> DatedArchive:
        if archive.known.source is not None or archive.name.endswith(ENCRYPTED):
            return archive
        found = read_about(opened.format, opened.destination, archive.name, Unlock())
        if found.source is not None:
            self.learned[archive.name] = found
        return replace(archive, known=replace(found, number=archive.known.number))


def _note(left_alone: Sequence[Candidate]) -> str:
    if not left_alone:
        return ""
    return (
        f"{len(left_alone)} left alone, as nobody knows what they are of or when they were made,"
        f" such as '{left_alone[0].name}'"
    )
