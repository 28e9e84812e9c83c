"""Backup and restore beside public tools, from the same files, in the same run."""

import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.agent_job import ARCHIVE, agent, scratch
from benchmarks.corpora import SMALL_CORPUS
from benchmarks.measure import Usage, interleaved, run, typical, warm
from benchmarks.peers import PEERS, ZIP, Floor, Peer, floor, size_bytes, typical_floor
from benchmarks.report import mebibytes, megabytes, seconds

LEVELS = ("fast", "balanced", "small")
JUDGED_RESTORE = "balanced"
"""The level whose archives the bars of restores are about."""
HEADINGS = (
    "corpus", "who", "backup s", "speed", "archive MB", "size",
    "restore s", "speed", "onto s", "peak MiB", "backup CPU s", "restore CPU s",
)  # fmt: skip
NOTES = (
    "Medians of {repeat} interleaved rounds (one for 7z and restic, on which no bar depends); `speed` is "
    "the time of `zip -6` or `unzip` divided by that of the tool, `size` the size of its archive divided "
    "by that of `zip -6`. The page cache is warm.",
    "The agent's time is from the command over MQTT to its last message, `BACKUP_FINISHED` (stored with "
    "the provider `local`) or `RESTORE_FINISHED` (all or nothing, into a missing directory, and for "
    "`balanced` then once more, `onto`, over these files); it was started anew for each round. Its "
    "archive, and everything restored, is on the disk by then; the time of the other tools includes a "
    "`sync`.",
    "Peak memory is that of the agent over its whole life, and of the largest process of another tool, "
    "where values below 10 MiB are not exact. Every restored directory was compared with the original.",
)
"""Printed under the table."""


@dataclass(frozen=True, slots=True)
class Round:
    backup: Usage
    archive_bytes: int
    restore: Usage | None = None
    onto: Usage | None = None
    """The same restore once more, over what is there."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """All rounds over one corpus, by who ran them, and the floors."""

    rounds: Mapping[str, Sequence[Round]]
    floor: Floor

    def middle(self, who: str) -> Round:
        """Medians, and the highest peaks. Raises KeyError for a tool that is missing."""
        rounds = self.rounds[who]
        return Round(
            typical([one.backup for one in rounds]),
            round(median(one.archive_bytes for one in rounds)),
            _middle(one.restore for one in rounds),
            _middle(one.onto for one in rounds),
        )


def _middle(usages: Iterable[Usage | None]) -> Usage | None:
    measured = [usage for usage in usages if usage]
    return typical(measured) if measured else None


def ours(level: str) -> str:
    return f"edge-backup {level}"


def compare(
    work: Path,
    port: int,
    corpora: Mapping[str, Callable[[Path, float], None]],
    scale: float,
    repeat: int,
    peers: Sequence[Peer] = PEERS,
) -> dict[str, Corpus]:
    """Return the measurements by corpus. A tool that is not installed is left out."""
    present = [peer for peer in peers if not peer.missing]
    results = {}
    for name, make in corpora.items():
        with scratch(work) as destination:
            corpus = destination / "corpus"
            make(corpus, scale)
            directory = partial(_kept if name == SMALL_CORPUS else scratch, destination)
            cases = {peer.name: partial(_theirs, directory, corpus, peer) for peer in present} | {
                ours(level): partial(_ours, directory, corpus, port, level) for level in LEVELS
            }
            once = [peer.name for peer in present if not peer.judged]
            floors = [floor(corpus) for _ in range(repeat)]
            results[name] = Corpus(interleaved(cases, repeat, name, once), typical_floor(floors))
    return results


@contextmanager
def _kept(work: Path) -> Iterator[Path]:
    """A new directory that stays as long as `work`.

    ext4 does not use the number of a file again that was removed in the last minutes, and looks at each of
    them whenever it makes a file: the next case would pay for what the one before left.
    """
    yield Path(tempfile.mkdtemp(dir=work))


Directory = Callable[[], AbstractContextManager[Path]]


def _ours(directory: Directory, corpus: Path, port: int, level: str) -> Round:
    options = {"storage.provider": "local", "local.name": ARCHIVE}
    warm(corpus)
    with directory() as destination, agent(destination / "agent", port, {"archive.level": level}) as measured:
        target = destination / "restored"
        backup = measured.backup(corpus, options)
        restore = measured.restore(target, options)
        onto = measured.restore(target, options) if level == JUDGED_RESTORE else None
        check_same(corpus, target)
        return Round(backup, size_bytes(measured.own_archives / ARCHIVE), restore, onto)


def _theirs(directory: Directory, corpus: Path, peer: Peer) -> Round:
    warm(corpus)
    with directory() as destination:
        archive, target = destination / ARCHIVE, destination / "restored"
        peer.prepare(archive)
        backup = run(peer.backup(archive), corpus)
        command = peer.restore(archive, target)
        if command is None:
            return Round(backup, size_bytes(archive))
        restore, onto = run(command), run(command)
        check_same(corpus, target)
        return Round(backup, size_bytes(archive), restore, onto)


def check_same(corpus: Path, restored: Path) -> None:
    """Raises CalledProcessError when a name or a byte differs."""
    subprocess.run(["diff", "-rq", "--no-dereference", str(corpus), str(restored)], check=True)


def rows(results: Mapping[str, Corpus]) -> list[list[str]]:
    return [_row(name, corpus, who) for name, corpus in results.items() for who in corpus.rounds] + [
        _floor_row(name, what, time_s)
        for name, corpus in results.items()
        for what, time_s in (("cat", corpus.floor.cat_s), ("ISA-L in memory", corpus.floor.isal_s))
    ]


def _row(name: str, corpus: Corpus, who: str) -> list[str]:
    one, zipped = corpus.middle(who), corpus.middle(ZIP.name)
    usages = [usage for usage in (one.backup, one.restore, one.onto) if usage]
    return [
        name,
        who,
        seconds(one.backup.wall_s),
        f"{zipped.backup.wall_s / one.backup.wall_s:.1f}×",
        megabytes(one.archive_bytes),
        f"{one.archive_bytes / zipped.archive_bytes:.3f}",
        seconds(one.restore.wall_s) if one.restore else "",
        f"{zipped.restore.wall_s / one.restore.wall_s:.1f}×" if one.restore and zipped.restore else "",
        seconds(one.onto.wall_s) if one.onto else "",
        mebibytes(max(usage.peak_bytes for usage in usages)),
        seconds(one.backup.cpu_s),
        seconds(one.restore.cpu_s) if one.restore else "",
    ]


def _floor_row(name: str, what: str, time_s: float) -> list[str]:
    return [name, what, seconds(time_s), *[""] * (len(HEADINGS) - 3)]
