"""`prune`: archives that have had their time go from the device's places, in a worker's thread."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from agent.base.errors import Cancelled, JobError
from agent.save.retention import ClockIsWrong, KeepRules, archives_of, removable
from agent.transfer.context import Context
from agent.transfer.put import distrusting
from agent.transfer.retry import with_retries
from providers.api import Deleting, Listing, Storage
from providers.errors import StorageError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PruneOrder:
    """Remove what has had its time."""

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


def prune(places: Mapping[str, Storage], order: PruneOrder, context: Context) -> list[Pruned]:
    """Go through the places one by one; what goes wrong in one is said, and the next one's turn comes.

    `places` are by what people call them, and are closed. Raises `Cancelled`.
    """
    return [_pruned(destination, storage, order, context) for destination, storage in places.items()]


def _pruned(destination: str, storage: Storage, order: PruneOrder, context: Context) -> Pruned:
    done = Pruned(destination)
    try:
        with _closing(storage):
            _prune_place(done, storage, order, context)
    except Cancelled:
        raise
    except (JobError, StorageError, ClockIsWrong) as error:
        done.problem = str(error)
        done.retryable = isinstance(error, StorageError) and error.retryable
        log.warning("old archives stay", destination=destination, reason=done.problem)
    return done


@contextmanager
def _closing(storage: Storage) -> Iterator[None]:
    try:
        yield
    finally:
        with distrusting():
            storage.close()


def _prune_place(done: Pruned, storage: Storage, order: PruneOrder, context: Context) -> None:
    if not isinstance(storage, Listing) or not isinstance(storage, Deleting):
        done.problem = "its provider cannot list or delete archives"
        return
    archives = archives_of(_listed(storage, context), order.device_tag, order.dates, order.sound)
    # The time after the list was taken: a backup that ends meanwhile is no sign of a wrong clock.
    gone = removable(archives, order.rules, order.clock())
    done.kept = len(archives)
    for archive in gone:
        if not order.dry_run:
            _delete(storage, archive.name, context)
            log.info("old archive removed", destination=done.place, archive=archive.name)
        done.removed.append(archive.name)
        done.kept -= 1


def _listed(storage: Listing, context: Context) -> Sequence[str]:
    def names() -> Sequence[str]:
        with distrusting(), context.token.lent():
            return list(storage.list(""))

    return with_retries(names, context.retries, context.token)


def _delete(storage: Deleting, name: str, context: Context) -> None:
    def delete() -> None:
        with distrusting(), context.token.lent():
            storage.delete(name)

    with_retries(delete, context.retries, context.token)
