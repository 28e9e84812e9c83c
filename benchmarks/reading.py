"""A repository of the agent read by itself and by restic: restores, verifications, and memory."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks import corpora
from benchmarks.agent_job import MeasuredAgent, repository_agent, scratch
from benchmarks.backup_restore import check_same
from benchmarks.measure import Command, Usage, interleaved, run, typical, warm
from benchmarks.peers import RESTIC
from benchmarks.pruning import OURS
from benchmarks.report import mebibytes, seconds
from tests.support.agent_process import PROGRAM

HEADINGS = ("corpus", "read by", "verify s", "CPU s", "restore s", "CPU s", "peak MiB")
NOTE = (
    "Both read one repository, which the agent made. `verify` is beside `restic check --read-data`. The"
    " restore of the agent is all or nothing, that of restic includes a `sync`. Medians."
)
_MANY_FILES = 200_000
_SNAPSHOTS = 30


@dataclass(frozen=True, slots=True)
class Read:
    """A verification and a restore of a snapshot."""

    verify: Usage
    restore: Usage


@dataclass(frozen=True, slots=True)
class Reading:
    runs: Mapping[str, Mapping[str, Sequence[Read]]]
    """By corpus and by who read."""
    peaks: Mapping[str, int]
    """Bytes of memory, by what was asked for."""

    def to_restic(self, corpus: str, of: Callable[[Read], Usage]) -> float | None:
        """Return the time of ours by that of restic; None where it is missing."""
        if RESTIC.name not in self.runs[corpus]:
            return None
        return of(self.middle(corpus, OURS)).wall_s / of(self.middle(corpus, RESTIC.name)).wall_s

    def middle(self, corpus: str, who: str) -> Read:
        """Return the medians."""
        reads = self.runs[corpus][who]
        return Read(typical([one.verify for one in reads]), typical([one.restore for one in reads]))


def measure(work: Path, port: int, scale: float, repeat: int) -> Reading:
    runs = {
        name: beside_restic(work, port, make, scale, repeat, name) for name, make in corpora.CORPORA.items()
    }
    return Reading(runs, _peaks(work, port, scale))


def beside_restic(
    work: Path, port: int, make: Callable[[Path, float], None], scale: float, repeat: int, title: str
) -> dict[str, list[Read]]:
    # What was restored stays until the end: ext4 is slow where many files were removed just before.
    with scratch(work) as here, repository_agent(here, port) as measured:
        corpus, targets = here / "corpus", (here / f"restored-{number}" for number in count())
        make(corpus, scale)
        measured.backup(corpus, {"backup.store": "bench"})
        cases = {OURS: partial(_ours, measured, corpus, targets)}
        if not RESTIC.missing:
            cases[RESTIC.name] = partial(_theirs, measured.own_archives, corpus, targets)
        return interleaved(cases, repeat, f"repository read, {title}")


def _ours(measured: MeasuredAgent, corpus: Path, targets: Iterator[Path]) -> Read:
    target, options = next(targets), {"restore.store": "bench", "restore.source": str(corpus)}
    warm(measured.own_archives)
    found = Read(measured.verify(options), measured.restore(target, options))
    check_same(corpus, target)
    return found


def _theirs(repository: Path, corpus: Path, targets: Iterator[Path]) -> Read:
    target = next(targets)
    warm(repository)
    restore = RESTIC.restore(repository, target)
    assert restore
    argv = ("restic", "check", "-q", "--no-cache", "--read-data", "-r", str(repository))
    found = Read(run(Command(argv, RESTIC.environment)), run(restore))
    check_same(corpus, target / corpus.relative_to("/"))
    return found


def _peaks(work: Path, port: int, scale: float) -> dict[str, int]:
    """Return the memory of a list of many snapshots, and of a look into one with many files."""
    print("repository read, memory", file=sys.stderr, flush=True)
    with scratch(work) as here:
        corpus, few = here / "corpus", here / "few"
        corpora.tiny_files(corpus, round(_MANY_FILES * scale))
        corpora.tiny_files(few, 1)
        with repository_agent(here, port) as measured:
            for directory in (*[few] * (_SNAPSHOTS - 1), corpus):
                measured.backup(directory, {"backup.store": "bench"})
        with repository_agent(here, port) as measured:
            listed_bytes = measured.asked("archives", {"restore.store": "bench"})
        argv = (os.fspath(PROGRAM), "inspect", "--store", "bench", "--source", str(corpus), "--files")
        inspect = Command((*argv, "--config", str(measured.process.work / "config.json")))
        return {
            f"list of {_SNAPSHOTS} snapshots": listed_bytes,
            f"inspect with {_MANY_FILES:,} files": run(inspect).peak_bytes,
        }


def rows(found: Reading) -> list[list[str]]:
    return [_row(corpus, who, found.middle(corpus, who)) for corpus, by in found.runs.items() for who in by]


def _row(corpus: str, who: str, read: Read) -> list[str]:
    times_s = (read.verify.wall_s, read.verify.cpu_s, read.restore.wall_s, read.restore.cpu_s)
    peak_bytes = max(read.verify.peak_bytes, read.restore.peak_bytes)
    return [corpus, who, *map(seconds, times_s), mebibytes(peak_bytes)]
