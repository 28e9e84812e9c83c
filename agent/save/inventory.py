"""An inventory counts the files of a backup without making one. It may wait for a disk."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.base.errors import IoError
from agent.formats.base import Format
from agent.formats.entries import FILE
from agent.formats.walk_report import Report
from agent.save.databases import CountedCopies
from agent.save.pipeline import saved_entries
from agent.save.walk import WalkRoot
from providers.api import Limits, Target
from providers.errors import StorageError
from providers.local import Local


@dataclass(slots=True)
class Inventory:
    """The count of one directory or data set so far; other threads may read it."""

    roots: tuple[WalkRoot, ...] = ()
    problem: str = ""
    """The reason why nothing can be saved; empty when something can."""
    files: int = 0
    size_bytes: int = 0
    report: Report = field(default_factory=Report)


def take_inventory(
    inventory: Inventory,
    archive_format: Format,
    own: tuple[Path, ...],
    check: Callable[[], None],
    *,
    consistent: bool,
) -> None:
    """Count the files that archives of this format have; `consistent` for copies of SQLite databases.

    `check` ends it by raising; the count so far stays.
    """
    copies = CountedCopies() if consistent else None
    report = inventory.report
    try:
        for root in inventory.roots:
            with closing(saved_entries(root, archive_format, report, own, check, copies=copies)) as entries:
                for entry in entries:
                    if entry.kind is FILE:
                        inventory.files += 1
                        inventory.size_bytes += entry.stat.st_size
    except IoError as error:
        inventory.problem = str(error)
    except OSError as error:
        inventory.problem = f"cannot be read: {os.strerror(error.errno or 0)}"


def look_at_target(name: str, targets: Mapping[str, Target]) -> dict[str, Any]:
    """Return the members `present`, and `freeBytes` or `problem`, of a target."""
    try:
        Local({"local.target": name}, Limits(targets=targets)).preflight(True)
        disk = os.statvfs(targets[name].path)
    except StorageError as error:
        return {"present": False, "problem": str(error)}
    except OSError as error:
        return {"present": False, "problem": os.strerror(error.errno or 0)}
    return {"present": True, "freeBytes": disk.f_bavail * disk.f_frsize}


def total(inventories: Iterable[Inventory]) -> dict[str, Any]:
    """Return the sums, as members of an answer."""
    everything = list(inventories)
    reasons: dict[str, int] = {}
    for inventory in everything:
        for reason, count in list(inventory.report.reasons.items()):
            reasons[reason] = reasons.get(reason, 0) + count
    return {
        "files": sum(inventory.files for inventory in everything),
        "bytes": sum(inventory.size_bytes for inventory in everything),
        "excluded": sum(inventory.report.excluded for inventory in everything),
        "unexportable": sum(reasons.values()),
        "reasons": reasons,
    }
