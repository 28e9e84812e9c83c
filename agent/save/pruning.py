"""`prune`: archives that have had their time go from the device's places, in a worker's thread."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from agent.base.errors import Cancelled, JobError
from agent.formats.base import Format
from agent.save.retention import ClockIsWrong, KeepRules, archives_of, removable
from agent.transfer.guarded_storage import GuardedStorage
from providers.api import Capability
from providers.errors import StorageError

log = structlog.get_logger(__name__)


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
    archives = archives_of(listed, order.dates, order.sound)
    # The time after the list was taken: a backup that ends meanwhile is no sign of a wrong clock.
    gone = removable(archives, order.rules, order.clock())
    done.kept = len(archives)
    for archive in gone:
        if not order.dry_run:
            order.format.remove(storage, archive.name)
            log.info("old archive removed", destination=done.place, archive=archive.name)
        done.removed.append(archive.name)
        done.kept -= 1
