"""A repository after a month of logs, of which a week stays: pruned by the agent, and a copy by restic."""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.base.roots import Root
from benchmarks.agent_job import scratch
from benchmarks.corpora import log_text
from benchmarks.peers import RESTIC, size_bytes
from benchmarks.report import megabytes
from benchmarks.workloads import LOG_BYTES
from tests.support.repositories import Device

OURS = "edge-backup"
DAYS, KEPT = 30, 7
_MOST_UNUSED = 5
"""Percent, for both."""


@dataclass(frozen=True, slots=True)
class Pruned:
    before_bytes: int
    after_bytes: Mapping[str, int]
    """By who pruned."""

    @property
    def to_restic(self) -> float | None:
        """Return the size after the agent's prune by that after restic's; None where it is missing."""
        theirs = self.after_bytes.get(RESTIC.name)
        return self.after_bytes[OURS] / theirs if theirs else None


def measure(work: Path, scale: float, days: int = DAYS) -> Pruned:
    print("repository, prune", file=sys.stderr, flush=True)
    with scratch(work) as here:
        device = Device.at(here, Root("", here / "logs"))
        (here / "logs").mkdir()
        for day in range(days):
            _rotate(here / "logs", day, scale)
            device.save()
        copy = here / "copy"
        shutil.copytree(device.objects.path, copy)
        before_bytes, names = size_bytes(copy), device.names()
        device.remove(*names[:-KEPT], kept=names[-KEPT:], max_unused=_MOST_UNUSED)
        after = {OURS: size_bytes(device.objects.path)}
        if not RESTIC.missing:
            device.objects.path = copy
            device.restic("forget", "--keep-last", str(KEPT), "--prune", "--max-unused", f"{_MOST_UNUSED}%")
            after[RESTIC.name] = size_bytes(copy)
        return Pruned(before_bytes, after)


def note(found: Pruned) -> str:
    after = ", ".join(f"{megabytes(size)} MB by {who}" for who, size in found.after_bytes.items())
    return (
        f"A repository of {megabytes(found.before_bytes)} MB after {DAYS} days of logs that are rotated, of"
        f" which {KEPT} stay: {after} pruned it."
    )


def _rotate(logs: Path, day: int, scale: float) -> None:
    for number in (2, 1, 0):
        if (logs / f"app.log.{number}").exists():
            (logs / f"app.log.{number}").rename(logs / f"app.log.{number + 1}")
    (logs / "app.log.0").write_bytes(log_text(100 + day, round(LOG_BYTES / 4 * scale)))
