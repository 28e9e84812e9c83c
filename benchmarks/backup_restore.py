"""Backup and restore beside `zip -6` and `unzip`, from the same files, in the same run.

`python -m benchmarks.backup_restore [--scale 0.02] [--repeat 3]`
"""

import argparse
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import machine
from benchmarks.agent_job import ARCHIVE, agent, broker, scratch
from benchmarks.corpora import CORPORA
from benchmarks.measure import Command, Usage, interleaved, run, typical
from benchmarks.report import Report, mebibytes, megabytes, seconds

LEVELS = ("fast", "balanced", "small")
PEER = "zip -6, unzip"
HEADINGS = (
    "corpus", "who", "backup s", "speed", "archive MB", "size",
    "restore s", "speed", "peak MiB", "backup CPU s", "restore CPU s",
)  # fmt: skip
NOTES = (
    "Medians of {repeat} interleaved rounds; `speed` is the time of `zip -6` or `unzip` divided by this one, "
    "`size` the archive's divided by that of `zip -6`. The page cache is warm.",
    "The agent is measured from the command over MQTT to the last word about it, `BACKUP_FINISHED` (stored "
    "with the provider `local`) or `RESTORE_FINISHED` (all or nothing, into a directory that did not exist); "
    "it was started anew for each round. Its archive, and everything restored, is on the disk by then; so "
    "are the peers', whose `sync` of the archive and its directory (`sync -f` after `unzip`) is in the time.",
    "Peak memory is the agent's over its whole life, backup and restore; the larger of both tools for the "
    "peers, where nothing below 10 MiB can be told apart. Every restored tree was compared with its origin.",
)
"""Said under the table."""


@dataclass(frozen=True, slots=True)
class Round:
    backup: Usage
    restore: Usage
    archive_bytes: int


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backup_restore", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="size of the corpora; 1 is the full one")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    given = parser.parse_args(argv)
    # /var/tmp is on a disk where /tmp may be in memory, and a sync would cost nothing.
    with tempfile.TemporaryDirectory(prefix="edge-backup-bench-", dir="/var/tmp") as directory:
        work = Path(directory)
        facts = machine.facts(work, (("zip", "-v"), ("unzip", "-v")), ("isal", "zlib-ng"))
        with machine.OtherLoad() as others:
            rounds = compare(work, CORPORA, given.scale, given.repeat)
    report(rounds, {**facts, "other load": str(others)}, given.scale, given.repeat).publish()


def compare(
    work: Path, corpora: Mapping[str, Callable[[Path, float], None]], scale: float, repeat: int
) -> dict[str, dict[str, list[Round]]]:
    """Rounds by corpus and by who ran them."""
    results = {}
    with broker(work) as port:
        for name, make in corpora.items():
            with scratch(work) as place:
                corpus = place / "corpus"
                make(corpus, scale)
                results[name] = interleaved(_cases(place, corpus, port), repeat, name)
    return results


def _cases(work: Path, corpus: Path, port: int) -> dict[str, Callable[[], Round]]:
    ours = {f"edge-backup {level}": partial(_ours, work, corpus, port, level) for level in LEVELS}
    return {PEER: partial(_theirs, work, corpus), **ours}


def _ours(work: Path, corpus: Path, port: int, level: str) -> Round:
    options = {"storage.provider": "local", "local.name": ARCHIVE}
    settings = {"archive.level": level}
    with scratch(work) as place, agent(place / "agent", port, settings) as measured:
        backup = measured.backup(corpus, options)
        archive_bytes = (measured.own_archives / ARCHIVE).stat().st_size
        restore = measured.restore(place / "restored", options)
        _check_same(corpus, place / "restored")
    return Round(backup, restore, archive_bytes)


def _theirs(work: Path, corpus: Path) -> Round:
    with scratch(work) as place:
        archive, restored = place / ARCHIVE, place / "restored"
        backup = run(Command(("zip", "-6", "-r", "-q", str(archive), ".")).synced(archive), corpus)
        restore = run(Command(("unzip", "-q", str(archive), "-d", str(restored))).tree_synced(place))
        _check_same(corpus, restored)
        return Round(backup, restore, archive.stat().st_size)


def _check_same(corpus: Path, restored: Path) -> None:
    subprocess.run(["diff", "-rq", "--no-dereference", str(corpus), str(restored)], check=True)


def report(
    rounds: Mapping[str, Mapping[str, Sequence[Round]]], facts: Mapping[str, str], scale: float, repeat: int
) -> Report:
    full = scale == 1
    title = "Backup and restore" + ("" if full else f", every corpus at {scale:g} of its size")
    rows = [row for corpus, by_name in rounds.items() for row in _rows(corpus, by_name)]
    figures = {
        corpus: {name: [asdict(one) for one in many] for name, many in by_name.items()}
        for corpus, by_name in rounds.items()
    }
    name = "backup_restore" if full else f"backup_restore-{scale:g}"
    notes = [note.format(repeat=repeat) for note in NOTES]
    return Report(name, title, facts, HEADINGS, rows, notes, figures)


def _rows(corpus: str, by_name: Mapping[str, Sequence[Round]]) -> list[list[str]]:
    peer_backup, peer_restore, peer_bytes = _medians(by_name[PEER])
    rows = []
    for name, many in by_name.items():
        backup, restore, size_bytes = _medians(many)
        rows.append(
            [
                corpus,
                name,
                seconds(backup.wall_s),
                f"{peer_backup.wall_s / backup.wall_s:.1f}×",
                megabytes(size_bytes),
                f"{size_bytes / peer_bytes:.3f}",
                seconds(restore.wall_s),
                f"{peer_restore.wall_s / restore.wall_s:.1f}×",
                mebibytes(max(backup.peak_bytes, restore.peak_bytes)),
                seconds(backup.cpu_s),
                seconds(restore.cpu_s),
            ]
        )
    return rows


def _medians(rounds: Sequence[Round]) -> tuple[Usage, Usage, int]:
    return (
        typical([one.backup for one in rounds]),
        typical([one.restore for one in rounds]),
        round(median(one.archive_bytes for one in rounds)),
    )


if __name__ == "__main__":
    main()
