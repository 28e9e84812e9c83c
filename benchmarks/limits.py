"""Limits on growth: memory with the data, time per file with their number, the device's disk at all."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import pytest

from benchmarks import corpora
from benchmarks.agent_job import ARCHIVE, agent, scratch
from benchmarks.measure import interleaved, warm
from benchmarks.transfer_places import PLACES

LOOK_EVERY_S = 0.02
FEW_FILES, MANY_FILES = 10_000, 200_000
LEVELS, ONTO_FILES = (1_000, 4_000), (30_000, 300_000)
MANY_CORPUS = "200,000 tiny files"
SLOW_BYTES_PER_S = 5_000_000
STREAMING = ("local", "aws", "azure")
"""`generic` must know the length: its archive is a file first."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Peaks are those of the agent's process over its life: a backup and a restore of the corpus."""

    peaks: Mapping[str, Mapping[str, int]]
    """Bytes, by provider and corpus."""
    staged: Mapping[str, int]
    """Bytes that a backup needed on the device's disk at most, by streaming provider."""
    missing: Mapping[str, str]
    """Why a provider could not be measured."""
    file_s: Mapping[int, float]
    """Seconds of a backup for each tiny file, by their number."""
    level_s: Mapping[int, float]
    """Seconds of a restore onto what is there for each level of one chain of directories, by their number."""
    onto_s: Mapping[int, float]
    """The same for each tiny file."""
    hole_peaks: Mapping[str, int]
    """Bytes, for backups alone, by the size of a file without content."""
    slow: Mapping[str, float] = field(default_factory=dict)
    """Seconds of a backup to a place that takes 5 MB/s, by level."""
    quick: Mapping[str, float] = field(default_factory=dict)
    """The same to a local directory."""


def measure(work: Path, port: int, scale: float, repeat: int) -> Limits:
    peaks, staged, missing = _providers(work, port, scale)
    return Limits(
        peaks,
        staged,
        missing,
        _file_s(work, port, scale, repeat),
        _onto_s(work, port, corpora.deep, [round(levels * scale) for levels in LEVELS]),
        _onto_s(work, port, corpora.tiny_files, [round(files * scale) for files in ONTO_FILES]),
        {name: _hole_peak(work, port, size) for name, size in _holes(scale).items()},
        _paced(work, port, scale, repeat, SLOW_BYTES_PER_S),
        _paced(work, port, scale, repeat, 0),
    )


def _holes(scale: float) -> dict[str, int]:
    return {name: round(size * scale) for name, size in (("1 GiB", corpora.GIB), ("8 GiB", 8 * corpora.GIB))}


_Peaks = dict[str, dict[str, int]]


def _providers(work: Path, port: int, scale: float) -> tuple[_Peaks, dict[str, int], dict[str, str]]:
    """Peaks, the most that was staged, and the providers that are missing: each with an agent of its own."""
    peaks: _Peaks = {}
    staged: dict[str, int] = {}
    missing: dict[str, str] = {}
    for corpus, make in {
        corpora.LOG_CORPUS: corpora.large_log,
        corpora.MIXED_CORPUS: corpora.half_random,
        MANY_CORPUS: _many_files,
    }.items():
        with scratch(work) as destination:
            make(destination / "corpus", scale)
            for provider in (name for name in PLACES if name not in missing):
                try:
                    peak_bytes, staged_bytes = _one(destination, port, provider, corpus)
                except pytest.skip.Exception as error:  # how the tests' servers say that a program is missing
                    missing[provider] = str(error)
                    continue
                peaks.setdefault(provider, {})[corpus] = peak_bytes
                if provider in STREAMING:
                    staged[provider] = max(staged.get(provider, 0), staged_bytes)
    return peaks, staged, missing


def _one(work: Path, port: int, provider: str, corpus: str) -> tuple[int, int]:
    open_place, _ = PLACES[provider]
    print(f"memory, {provider}, {corpus}", file=sys.stderr, flush=True)
    with (
        scratch(work) as here,
        open_place(here / "server") as destination,
        agent(here / "agent", port, {"archive.level": "fast"}) as measured,
    ):
        with _watched(here / "agent" / "storage") as most:
            peak_bytes = measured.backup(work / "corpus", destination.options(ARCHIVE)).peak_bytes
        # So many files take a minute, and where they came from makes no difference to it.
        if corpus != MANY_CORPUS or provider == "local":
            peak_bytes = measured.restore(here / "restored", destination.options(ARCHIVE)).peak_bytes
    return peak_bytes, max(most)


def _many_files(root: Path, scale: float) -> None:
    corpora.tiny_files(root, round(MANY_FILES * scale))


@contextmanager
def _watched(storage: Path) -> Iterator[list[int]]:
    """The most that files of archives took in `storage`, looked at every 20 ms; complete after the exit."""
    sizes, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(LOOK_EVERY_S):
            sizes.append(sum(map(_size_of, (storage / "backups").glob("*"))))

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield sizes
    finally:
        done.set()
        watching.join()


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # gone between the two looks
        return 0


def _file_s(work: Path, port: int, scale: float, repeat: int) -> dict[int, float]:
    with scratch(work) as destination:
        numbers = [round(FEW_FILES * scale), round(MANY_FILES * scale)]
        for number in numbers:
            corpora.tiny_files(destination / str(number), number)
        cases = {
            str(number): partial(_backup_s, destination, destination / str(number), port, {})
            for number in numbers
        }
        times = interleaved(cases, repeat, "tiny files")
    return {number: median(times[str(number)]) / number for number in numbers}


def _onto_s(
    work: Path, port: int, make: Callable[[Path, int], None], numbers: Sequence[int]
) -> dict[int, float]:
    """Once: the second number takes minutes."""
    options, seconds = {"storage.provider": "local", "local.name": ARCHIVE}, {}
    for number in numbers:
        print(f"onto what is there, {number}", file=sys.stderr, flush=True)
        with scratch(work) as here, agent(here / "agent", port, {"archive.level": "fast"}) as measured:
            make(here / "corpus", number)
            measured.backup(here / "corpus", options)
            seconds[number] = measured.restore(here / "corpus", options).wall_s / number
            # What is deeper than Python's stack, the temporary directory cannot remove.
            subprocess.run(["rm", "-rf", here / "corpus"], check=True)
    return seconds


def _backup_s(work: Path, corpus: Path, port: int, settings: Mapping[str, object]) -> float:
    warm(corpus)
    with scratch(work) as destination, agent(destination / "agent", port, settings) as measured:
        options = {"storage.provider": "local", "local.name": ARCHIVE}
        return measured.backup(corpus, options).wall_s


def _hole_peak(work: Path, port: int, size_bytes: int) -> int:
    with (
        scratch(work) as destination,
        agent(destination / "agent", port, {"archive.level": "fast"}) as measured,
    ):
        corpora.sparse(destination / "corpus", size_bytes)
        options = {"storage.provider": "local", "local.name": ARCHIVE}
        return measured.backup(destination / "corpus", options).peak_bytes


def _paced(work: Path, port: int, scale: float, repeat: int, bytes_per_s: int) -> dict[str, float]:
    """A quarter of the log, for the levels between which `auto` chooses."""
    levels: Sequence[str] = ("auto", "small") if bytes_per_s else ("auto", "fast")
    with scratch(work) as destination:
        corpora.large_log(destination / "corpus", scale / 4)
        cases = {
            level: partial(
                _backup_s,
                destination,
                destination / "corpus",
                port,
                {"archive.level": level, "transfer.rateLimit": bytes_per_s},
            )
            for level in levels
        }
        os.sync()
        times = interleaved(cases, repeat, f"destination of {bytes_per_s or 'any number of'} bytes/s")
    return {level: median(many) for level, many in times.items()}
