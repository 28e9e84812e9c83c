"""Bars for the agent: ratios to public tools in the same run, and limits for memory and time."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks.backup_restore import JUDGED_RESTORE, Corpus, ours
from benchmarks.corpora import LOG_CORPUS, MIXED_CORPUS, SMALL_CORPUS
from benchmarks.http_face import HttpFace
from benchmarks.limits import Limits
from benchmarks.liveness import Liveness
from benchmarks.peers import PIGZ, RESTIC, ZIP, ZSTD
from benchmarks.pruning import DAYS, OURS, Pruned
from benchmarks.reading import Reading
from benchmarks.repositories import (
    APPENDED,
    FLAT_CORPUS,
    MANY_CORPUS,
    Pair,
    Repositories,
    share,
)
from benchmarks.workloads import WORKLOADS

MIB = 1 << 20
HEADINGS = ("bar", "wanted", "measured", "holds")


@dataclass(frozen=True, slots=True)
class Bar:
    """`measured` has to be at least, or else at most, `wanted`; None for what could not be measured."""

    what: str
    wanted: float
    measured: float | None
    at_least: bool
    unit: str = "×"

    @property
    def holds(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted

    def row(self) -> list[str]:
        sign = "≥" if self.at_least else "≤"
        verdict = {True: "yes", False: "NO", None: "not measured"}[self.holds]
        shown = "" if self.measured is None else f"{self.measured:.3g} {self.unit}"
        return [self.what, f"{sign} {self.wanted:g} {self.unit}", shown, verdict]


def all_bars(
    results: Mapping[str, Corpus],
    limits: Limits,
    liveness: Liveness,
    repositories: Repositories,
    http: HttpFace,
) -> list[Bar]:
    return [
        *_large(results),
        *_small(results[SMALL_CORPUS]),
        *_memory(limits),
        *_growth(limits),
        *_life(liveness),
        *_http(http),
        *_snapshots(repositories),
        *_later(repositories),
        *_snapshot_memory(repositories),
        *_read(repositories.read),
        _pruned(repositories.pruned),
    ]


def _read(found: Reading) -> Iterator[Bar]:
    for corpus in found.runs:
        verify = found.to_restic(corpus, lambda read: read.verify)
        yield Bar(f"{corpus}: verify to restic check --read-data, time", 1.2, verify, False)
        restore = found.to_restic(corpus, lambda read: read.restore)
        yield Bar(f"{corpus}: restore of a snapshot to restic, time", 1.2, restore, False)
    for what, peak_bytes in found.peaks.items():
        yield Bar(f"repository: peak memory, {what}", 64, peak_bytes / MIB, False, "MiB")


def _pruned(found: Pruned) -> Bar:
    return Bar(f"repository of {DAYS} days after a prune to restic's, size", 1.1, found.to_restic, False)


def _speed(corpus: Corpus, level: str, peer: str) -> float | None:
    """How many times as fast as `peer` a backup is; None for a tool that is missing."""
    if peer not in corpus.rounds:
        return None
    return corpus.middle(peer).backup.wall_s / corpus.middle(ours(level)).backup.wall_s


def _size(corpus: Corpus, level: str) -> float:
    return corpus.middle(ours(level)).archive_bytes / corpus.middle(ZIP.name).archive_bytes


def _restore(corpus: Corpus, *, onto: bool) -> float:
    """How many times as fast as `unzip` a restore is, of what that level made."""
    mine, theirs = corpus.middle(ours(JUDGED_RESTORE)), corpus.middle(ZIP.name)
    one, other = (mine.onto, theirs.onto) if onto else (mine.restore, theirs.restore)
    assert one
    assert other
    return other.wall_s / one.wall_s


def _large(results: Mapping[str, Corpus]) -> Iterator[Bar]:
    balanced_at_least = {LOG_CORPUS: 4, MIXED_CORPUS: 6}
    for name, times in balanced_at_least.items():
        corpus = results[name]
        for level, speed, size in (("balanced", times, 1.04), ("fast", 15, 1.20), ("small", 2, 0.98)):
            yield Bar(f"{name}: {level} to zip -6, speed", speed, _speed(corpus, level, ZIP.name), True)
            yield Bar(f"{name}: {level} to zip -6, size", size, _size(corpus, level), False)
        yield Bar(f"{name}: balanced to tar, pigz -6, speed", 2, _speed(corpus, "balanced", PIGZ.name), True)
        yield Bar(f"{name}: fast to tar, zstd -T2 -3, speed", 2, _speed(corpus, "fast", ZSTD.name), True)
        yield Bar(f"{name}: restore to unzip, speed", 2, _restore(corpus, onto=False), True)
    log = results[LOG_CORPUS]
    time = log.middle(ours("fast")).backup.wall_s / log.floor.isal_s
    yield Bar(f"{LOG_CORPUS}: fast to ISA-L in memory on two threads, time", 1.5, time, False)


def _small(corpus: Corpus) -> Iterator[Bar]:
    yield Bar(f"{SMALL_CORPUS}: balanced to zip -6, speed", 5, _speed(corpus, "balanced", ZIP.name), True)
    empty, onto = _restore(corpus, onto=False), _restore(corpus, onto=True)
    yield Bar(f"{SMALL_CORPUS}: restore to unzip, speed", 1, empty, True)
    yield Bar(f"{SMALL_CORPUS}: restore onto existing to unzip, time", 1.5, 1 / onto, False)


def _memory(limits: Limits) -> Iterator[Bar]:
    for provider, peaks in limits.peaks.items():
        cloud = provider in ("aws", "azure")
        for corpus, peak_bytes in peaks.items():
            many = "tiny" in corpus
            wanted = (128 if many else 112) if cloud else (96 if many else 64)
            yield Bar(f"peak memory, {provider}, {corpus}", wanted, peak_bytes / MIB, False, "MiB")
    for provider in limits.missing:
        yield Bar(f"peak memory, {provider}", 112, None, False, "MiB")
    small, large = limits.hole_peaks.values()
    yield Bar("peak memory, 8 GiB to 1 GiB", 1.1, large / small, False)
    for provider, staged_bytes in limits.staged.items():
        yield Bar(f"temporary disk, {provider}", 0, staged_bytes, False, "bytes")


def _growth(limits: Limits) -> Iterator[Bar]:
    few_s, many_s = limits.file_s.values()
    yield Bar("time per file, 200,000 to 10,000 tiny files", 1.3, many_s / few_s, False)
    few_s, many_s = limits.level_s.values()
    yield Bar("time per level of a restore, 4,000 to 1,000 levels", 2, many_s / few_s, False)
    few_s, many_s = limits.onto_s.values()
    yield Bar("time per file of a restore onto existing, 300,000 to 30,000", 1.5, many_s / few_s, False)
    yield Bar(
        "auto to small at 5 MB/s, time (5 % are noise)",
        1.05,
        limits.slow["auto"] / limits.slow["small"],
        False,
    )
    yield Bar("auto to fast locally, time", 1.1, limits.quick["auto"] / limits.quick["fast"], False)


def _http(http: HttpFace) -> Iterator[Bar]:
    listening, loaded = ((each - http.idle_bytes) / MIB for each in (http.listening_bytes, http.loaded_bytes))
    yield Bar("HTTP over TCP and TLS, more memory when idle", 2, listening, False, "MiB")
    yield Bar("HTTP, more memory after the page was loaded", 2, loaded, False, "MiB")
    yield Bar("HTTP, wake-ups when idle", 1, http.wakeups, False, "a second")
    yield Bar("HTTP, questions over kept connections", 1000, http.requests_per_s, True, "a second")
    yield Bar("backup while 20 questions a second come, time", 1.05, http.polled, False)


def _snapshots(found: Repositories) -> Iterator[Bar]:
    for corpus in (LOG_CORPUS, MIXED_CORPUS):
        for what, (of, wanted) in _FIRST.items():
            yield _beside(found, corpus, f"first snapshot to restic, {what}", of, wanted)
    unchanged = {MIXED_CORPUS: 0.25, SMALL_CORPUS: 0.5, MANY_CORPUS: 0.5}
    for corpus, times in unchanged.items():
        yield _beside(found, corpus, "unchanged to restic, time", _later_s, times)
    for corpus, times in {SMALL_CORPUS: 0.8, MANY_CORPUS: 1.2}.items():
        yield _beside(
            found, corpus, "first snapshot to restic, time", lambda pair: pair.first.usage.wall_s, times
        )
    grown = found.middle(MIXED_CORPUS, OURS).later.size_bytes
    yield Bar(f"{MIXED_CORPUS}: unchanged, size", 1024, grown, False, "bytes")


def _first_s(pair: Pair) -> float:
    return pair.first.usage.wall_s


def _later_s(pair: Pair) -> float:
    return pair.later.usage.wall_s


_FIRST: dict[str, tuple[Callable[[Pair], float], float]] = {
    "time": (_first_s, 0.6),
    "CPU": (lambda pair: pair.first.usage.cpu_s, 0.6),
    "size": (lambda pair: pair.first.size_bytes, 1.05),
}


def _beside(found: Repositories, corpus: str, what: str, of: Callable[[Pair], float], wanted: float) -> Bar:
    """Return the bar of ours by restic's; not measured where restic is missing."""
    measured = None
    if RESTIC.name in found.runs[corpus]:
        theirs = of(found.middle(corpus, RESTIC.name))
        measured = of(found.middle(corpus, OURS)) / theirs if theirs else None
    return Bar(f"{corpus}: {what}", wanted, measured, False)


def _later(found: Repositories) -> Iterator[Bar]:
    for each in WORKLOADS:
        measured = share(found.changed[each.name][OURS])
        yield Bar(f"later snapshot, {each.name}, share", 1.2 * each.expected, measured, False)
    appended = found.changed[APPENDED][OURS].later.size_bytes
    yield Bar(f"later snapshot, {APPENDED}", 2.5, appended / MIB, False, "MiB")


def _snapshot_memory(found: Repositories) -> Iterator[Bar]:
    for provider, wanted in (("local", 80), ("aws", 124)):
        peaks = found.peaks[provider]
        for length, peak_bytes in peaks.items():
            yield Bar(
                f"repository: peak memory, {provider}, {length}", wanted, peak_bytes / MIB, False, "MiB"
            )
        small, large = peaks.values()
        yield Bar(f"repository: peak memory, {provider}, 16 GiB to 1 GiB", 1.1, large / small, False)
    for corpus in (MANY_CORPUS, FLAT_CORPUS):
        pair = found.middle(corpus, OURS)
        peak_bytes = max(pair.first.usage.peak_bytes, pair.later.usage.peak_bytes)
        yield Bar(f"repository: peak memory, {corpus}", 128, peak_bytes / MIB, False, "MiB")


def _life(liveness: Liveness) -> Iterator[Bar]:
    what = "during a backup" if liveness.whole else "during a backup (which ended before them)"
    yield Bar(f"200 answers {what}, median", 10, liveness.median_s * 1e3, False, "ms")
    yield Bar(f"200 answers {what}, worst", 50, liveness.worst_s * 1e3, False, "ms")
    yield Bar("from exec to announced", 0.5, liveness.start_s, False, "s")
    yield Bar("idle memory", 44, liveness.idle_bytes / MIB, False, "MiB")
    yield Bar("idle wake-ups of all threads", 1, liveness.idle_wakeups, False, "/s")
