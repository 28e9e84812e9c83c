"""Upload and download through every provider beside the best public tool, over the same server.

`python -m benchmarks.transfers [--size 1GiB] [--repeat 3]`
"""

import argparse
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

import pytest

from agent.settings.parsing import format_size, parse_size
from benchmarks import machine
from benchmarks.agent_job import ARCHIVE, agent, broker, scratch
from benchmarks.corpora import incompressible
from benchmarks.measure import interleaved, run, warm
from benchmarks.report import Report, mebibytes, seconds
from benchmarks.transfer_places import PLACES, rclone_program

SMALL_BYTES, FULL_BYTES = 64 << 20, 1 << 30
PAYLOAD = "payload.bin"
HEADINGS = (
    "provider", "beside", "size", "upload s", "theirs", "ratio", "download s", "theirs", "ratio",
    "backup s", "restore s", "peak MiB", "their peak",
)  # fmt: skip
NOTES = (
    "Medians of {repeat} interleaved rounds, each with a new server and a new agent; one round only at the "
    "64 MiB that are there to show whether memory grows with the size. A `ratio` is our time divided by "
    "theirs. The file is incompressible and `archive.level` is `store`: the archive is as long as the file.",
    "`upload`: the staged archive, from the command `start` over MQTT to `lastUpload` SUCCESS; theirs is "
    "the same number of bytes from a file. Both write a new object: to replace one of 1 GiB costs a server "
    "half a second, whoever asks for it. `download`: the phase `fetching` of a restore, with the fsync at "
    "its end; theirs with a `sync` of the file. What is read, staged archive, file or object, is read once "
    "before the measuring begins, for both alike.",
    "`backup` and `restore` are whole jobs, for which there is no counterpart: from the command to stored "
    "(reading, CRC and hash of the file; a copy in staging where the provider wants to know the length), "
    "and from the command to all files in place (fetched, checked, unpacked, fsynced).",
    "`peak MiB` is that of the agent's process over its whole life, all four jobs. The start of a tool is in "
    "its time; the first import of an SDK by the agent is in the time of `backup`.",
)
"""Said under the table."""
OURS, THEIRS = "edge-backup", "peer"


@dataclass(frozen=True, slots=True)
class Round:
    """The needs of one of the two. The whole jobs are ours only."""

    upload_s: float
    download_s: float
    peak_bytes: int
    backup_s: float = 0.0
    restore_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """All rounds over one provider with one size, by `OURS` and `THEIRS`."""

    provider: str
    size_bytes: int
    rounds: Mapping[str, Sequence[Round]]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfers", description=__doc__)
    parser.add_argument("--size", type=parse_size, default=FULL_BYTES, help="of the archive, default 1GiB")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    given = parser.parse_args(argv)
    # /var/tmp is on a disk where /tmp may be in memory, and a sync would cost nothing.
    with tempfile.TemporaryDirectory(prefix="edge-backup-bench-", dir="/var/tmp") as directory:
        work = Path(directory)
        tools = (("curl", "--version"), (rclone_program(), "version"), ("nginx", "-v"))
        facts = machine.facts(work, tools, ("azure-storage-blob", "boto3", "urllib3"))
        with machine.OtherLoad() as others, broker(work) as port:
            results, missing = compare(work, port, PLACES, given.size, given.repeat)
    report(results, {**facts, **missing, "other load": str(others)}, given.size, given.repeat).publish()


def compare(
    work: Path, port: int, providers: Iterable[str], size_bytes: int, repeat: int
) -> tuple[list[Result], dict[str, str]]:
    """Return the measurements; and the providers without one, with the reason."""
    results: list[Result] = []
    missing: dict[str, str] = {}
    small = {SMALL_BYTES: 1} if size_bytes > SMALL_BYTES else {}
    for size, times in (small | {size_bytes: repeat}).items():
        with scratch(work) as destination:
            data = destination / "data"
            data.mkdir()
            incompressible(data / PAYLOAD, size)
            for provider in (name for name in providers if name not in missing):
                cases = {
                    OURS: partial(_ours, destination, port, data, provider),
                    THEIRS: partial(_theirs, destination, data, provider),
                }
                try:
                    rounds = interleaved(cases, times, f"{provider}, {format_size(size)}")
                    results.append(Result(provider, size, rounds))
                except pytest.skip.Exception as error:  # how the tests' servers say that a program is missing
                    missing[provider] = f"not measured, {error}"
    return results, missing


def _ours(work: Path, port: int, data: Path, provider: str) -> Round:
    open_place, _ = PLACES[provider]
    settings = {"archive.level": "store"}
    with scratch(work) as here, open_place(here / "server") as destination:
        with agent(here / "agent", port, settings) as measured:
            backup = measured.backup(data, destination.options("first.zip"))
            upload = measured.upload(data, destination.options(ARCHIVE))
            warm(here)
            restore = measured.restore(here / "restored", destination.options(ARCHIVE))
            download_s = measured.last_phase_s("fetching", "unpacking")
        _check_same(data / PAYLOAD, here / "restored" / PAYLOAD)
    return Round(upload.wall_s, download_s, restore.peak_bytes, backup.wall_s, restore.wall_s)


def _theirs(work: Path, data: Path, provider: str) -> Round:
    open_place, _ = PLACES[provider]
    with scratch(work) as here, open_place(here / "server") as destination:
        warm(data)
        upload = run(destination.put(data / PAYLOAD))
        warm(here)
        download = run(destination.get(here / PAYLOAD))
        _check_same(data / PAYLOAD, here / PAYLOAD)
    return Round(upload.wall_s, download.wall_s, max(upload.peak_bytes, download.peak_bytes))


def _check_same(sent: Path, fetched: Path) -> None:
    subprocess.run(["cmp", str(sent), str(fetched)], check=True)


def report(results: Sequence[Result], facts: Mapping[str, str], size_bytes: int, repeat: int) -> Report:
    full = size_bytes == FULL_BYTES
    return Report(
        name="transfers" if full else f"transfers-{format_size(size_bytes)}",
        title=f"Transfers of {format_size(size_bytes)}",
        facts=facts,
        headings=HEADINGS,
        rows=[_row(result) for result in results],
        notes=[note.format(repeat=repeat) for note in NOTES],
        figures={"results": [asdict(result) for result in results]},
    )


def _row(result: Result) -> list[str]:
    ours, theirs = (_typical(result.rounds[who]) for who in (OURS, THEIRS))
    return [
        result.provider,
        PLACES[result.provider][1],
        format_size(result.size_bytes),
        seconds(ours.upload_s),
        seconds(theirs.upload_s),
        f"{ours.upload_s / theirs.upload_s:.2f}",
        seconds(ours.download_s),
        seconds(theirs.download_s),
        f"{ours.download_s / theirs.download_s:.2f}",
        seconds(ours.backup_s),
        seconds(ours.restore_s),
        mebibytes(ours.peak_bytes),
        mebibytes(theirs.peak_bytes),
    ]


def _typical(rounds: Sequence[Round]) -> Round:
    """Median times, and the highest peak."""
    return Round(
        median(one.upload_s for one in rounds),
        median(one.download_s for one in rounds),
        max(one.peak_bytes for one in rounds),
        median(one.backup_s for one in rounds),
        median(one.restore_s for one in rounds),
    )


if __name__ == "__main__":
    main()
