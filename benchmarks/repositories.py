"""Snapshots in repositories beside restic: the same files, in the same run, into a local directory."""

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agent.formats.repository.keys import N, P, R
from benchmarks import corpora, pruning, reading
from benchmarks.agent_job import repository_agent, scratch
from benchmarks.measure import Command, Usage, interleaved, run, typical, warm
from benchmarks.peers import RESTIC, size_bytes
from benchmarks.pruning import OURS, Pruned
from benchmarks.reading import Reading
from benchmarks.report import mebibytes, megabytes, seconds, table
from benchmarks.workloads import MIB, WORKLOADS, Workload
from tests.contract.place_aws import serve_moto

MANY_CORPUS, FLAT_CORPUS = "200,000 tiny files", "200,000 in one directory"
MANY_FILES = 200_000
APPENDED = "1 GiB log, 1 MiB appended"
STAMPED_BYTES = {"1 GiB": corpora.GIB, "16 GiB": 16 * corpora.GIB}
HEADINGS = (
    "corpus", "who", "first s", "CPU s", "repository MB", "unchanged s", "CPU s", "bytes", "peak MiB",
)  # fmt: skip
_WORKLOAD_HEADINGS = ("later snapshot of", "first MB", "later kB", "share", "restic's share", "expected")
NOTE = (
    "The time of the agent is from the command over MQTT to `BACKUP_FINISHED`, that of restic includes a "
    "`sync`; the opening of keys is subtracted from both. `bytes` is how much the repository grows by a "
    "snapshot of unchanged files. Medians; the page cache is warm."
)


@dataclass(frozen=True, slots=True)
class Saved:
    """A snapshot: what it took, and by how many bytes the repository grew."""

    usage: Usage
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Pair:
    """The first snapshot of a directory, and a later one."""

    first: Saved
    later: Saved


@dataclass(frozen=True, slots=True)
class Repositories:
    runs: Mapping[str, Mapping[str, Sequence[Pair]]]
    """First and unchanged, by corpus and by who made them."""
    changed: Mapping[str, Mapping[str, Pair]]
    """First and changed, by workload and by who made them."""
    keys: Mapping[str, Usage]
    """The opening of keys, by who opens them."""
    peaks: Mapping[str, Mapping[str, int]]
    """Bytes of memory, by provider and length of a file."""
    read: Reading
    pruned: Pruned

    def middle(self, corpus: str, who: str) -> Pair:
        """Return the medians, without the opening of keys."""
        pairs, keys = self.runs[corpus][who], self.keys[who]
        return Pair(
            _middle([pair.first for pair in pairs], keys), _middle([pair.later for pair in pairs], keys)
        )


def _middle(many: Sequence[Saved], keys: Usage) -> Saved:
    usage = typical([one.usage for one in many])
    without = Usage(max(usage.wall_s - keys.wall_s, 0), max(usage.cpu_s - keys.cpu_s, 0), usage.peak_bytes)
    return Saved(without, many[0].size_bytes)


Save = Callable[[], Saved]
Opened = Callable[[Path, Path], AbstractContextManager[Save]]
"""Opens a new repository in a directory, for snapshots of another one."""


def measure(work: Path, port: int, scale: float, repeat: int) -> Repositories:
    who = _who(port)
    many = {
        MANY_CORPUS: lambda root, scale: corpora.tiny_files(root, round(MANY_FILES * scale)),
        FLAT_CORPUS: lambda root, scale: corpora.flat_files(root, round(MANY_FILES * scale)),
    }
    made = {**corpora.CORPORA, **many}
    runs = {
        name: _runs(work, make, who, scale, 1 if name in many else repeat, name)
        for name, make in made.items()
    }
    later = {each.name: changed(work, port, each, scale) for each in (*WORKLOADS, _appended())}
    keys = {OURS: _our_keys(), **({RESTIC.name: _their_keys(work)} if not RESTIC.missing else {})}
    read = reading.measure(work, port, scale, repeat)
    peaks = _peaks(work, port, scale)
    return Repositories(runs, later, keys, peaks, read, pruning.measure(work, scale))


def _who(port: int) -> dict[str, Opened]:
    theirs: dict[str, Opened] = {} if RESTIC.missing else {RESTIC.name: _theirs}
    return {OURS: partial(_ours, port), **theirs}


def _appended() -> Workload:
    def append(root: Path, _scale: float) -> None:
        with (root / "application.log").open("ab") as file:
            file.write(corpora.log_text(80, MIB))

    return Workload(APPENDED, corpora.large_log, append, 2.5 / 1024)


def _runs(
    work: Path,
    make: Callable[[Path, float], None],
    who: Mapping[str, Opened],
    scale: float,
    repeat: int,
    title: str,
) -> dict[str, list[Pair]]:
    with scratch(work) as here:
        make(here / "corpus", scale)
        cases = {name: partial(_pair, here, opened) for name, opened in who.items()}
        return interleaved(cases, repeat, f"repository, {title}")


def _pair(here: Path, opened: Opened) -> Pair:
    warm(here / "corpus")
    with scratch(here) as own, opened(own, here / "corpus") as save:
        return Pair(save(), save())


def changed(work: Path, port: int, workload: Workload, scale: float) -> dict[str, Pair]:
    """Return a snapshot before and one after the change, by who made them."""
    found = {}
    for name, opened in _who(port).items():
        print(f"repository, {workload.name}: {name}", file=sys.stderr, flush=True)
        with scratch(work) as here, opened(here, here / "corpus") as save:
            workload.make(here / "corpus", scale)
            first = save()
            workload.change(here / "corpus", scale)
            found[name] = Pair(first, save())
    return found


@contextmanager
def _ours(port: int, work: Path, corpus: Path) -> Iterator[Save]:
    with repository_agent(work, port) as measured:
        repository = measured.own_archives

        def save() -> Saved:
            before = size_bytes(repository)
            usage = measured.backup(corpus, {"backup.store": "bench"})
            return Saved(usage, size_bytes(repository) - before)

        yield save


@contextmanager
def _theirs(work: Path, corpus: Path) -> Iterator[Save]:
    repository = work / "restic"
    RESTIC.prepare(repository)

    def save() -> Saved:
        before = size_bytes(repository)
        return Saved(run(RESTIC.backup(repository), corpus), size_bytes(repository) - before)

    yield save
    shutil.rmtree(repository)


def _our_keys() -> Usage:
    return typical([_scrypt() for _ in range(5)])


def _scrypt() -> Usage:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    hashlib.scrypt(b"password", salt=bytes(64), n=N, r=R, p=P, maxmem=64 << 20, dklen=64)
    return Usage(time.perf_counter() - wall_s, time.process_time() - cpu_s, 0)


def _their_keys(work: Path) -> Usage:
    with scratch(work) as here:
        RESTIC.prepare(here / "restic")
        argv = ("restic", "cat", "config", "-q", "--no-cache", "--no-lock", "-r", os.fspath(here / "restic"))
        return typical([run(Command(argv, RESTIC.environment)) for _ in range(3)])


def _peaks(work: Path, port: int, scale: float) -> dict[str, dict[str, int]]:
    peaks: dict[str, dict[str, int]] = {"local": {}, "aws": {}}
    for length, size in STAMPED_BYTES.items():
        with scratch(work) as here:
            corpora.stamped(here / "corpus", round(size * scale))
            print(f"repository, memory, {length}", file=sys.stderr, flush=True)
            with scratch(here) as own, _ours(port, own, here / "corpus") as save:
                peaks["local"][length] = save().usage.peak_bytes
            peaks["aws"][length] = _peak_at_s3(here, port)
    return peaks


def _peak_at_s3(here: Path, port: int) -> int:
    with scratch(here) as own, serve_moto(own / "moto") as new_bucket:
        options = new_bucket().options("unused")
        del options["aws.object.key"]
        secret = {key: options.pop(key) for key in ("aws.access.key.id", "aws.secret.access.key")}
        with repository_agent(own, port, {"provider": "aws", "options": options}, secret) as measured:
            return measured.backup(here / "corpus", {"backup.store": "bench"}).peak_bytes


def rows(found: Repositories) -> list[list[str]]:
    return [_row(corpus, who, found) for corpus, by in found.runs.items() for who in by]


def _row(corpus: str, who: str, found: Repositories) -> list[str]:
    pair = found.middle(corpus, who)
    first, later = pair.first, pair.later
    return [
        corpus, who,
        seconds(first.usage.wall_s), seconds(first.usage.cpu_s), megabytes(first.size_bytes),
        seconds(later.usage.wall_s), seconds(later.usage.cpu_s), str(later.size_bytes),
        mebibytes(max(first.usage.peak_bytes, later.usage.peak_bytes)),
    ]  # fmt: skip


def notes(found: Repositories) -> list[str]:
    """Return the tables of writing, of reading and of workloads with their notes; a sentence about prunes."""
    read = table(reading.HEADINGS, reading.rows(found.read))
    workloads = table(_WORKLOAD_HEADINGS, _workload_rows(found))
    return [table(HEADINGS, rows(found)), NOTE, read, reading.NOTE, workloads, pruning.note(found.pruned)]


def _workload_rows(found: Repositories) -> list[list[str]]:
    expected = {each.name: f"{each.expected:.2%}" for each in (*WORKLOADS, _appended())}
    return [
        [
            name,
            megabytes(by[OURS].first.size_bytes),
            f"{by[OURS].later.size_bytes / 1000:.1f}",
            f"{share(by[OURS]):.2%}",
            f"{share(by[RESTIC.name]):.2%}" if RESTIC.name in by else "",
            expected[name],
        ]
        for name, by in found.changed.items()
    ]


def share(pair: Pair) -> float:
    """Return the bytes of the later snapshot by those of the first."""
    return pair.later.size_bytes / pair.first.size_bytes
