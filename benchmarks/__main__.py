"""`make bench`: everything that is promised, measured in one run, beside public tools; forty minutes at most.

`python -m benchmarks [--scale 0.02] [--repeat 3]`
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import backup_restore, http_face, limits, liveness, machine, repositories
from benchmarks.agent_job import broker
from benchmarks.backup_restore import Corpus
from benchmarks.bars import HEADINGS, Bar, all_bars
from benchmarks.chart import bar_chart
from benchmarks.corpora import CORPORA
from benchmarks.peers import PEERS
from benchmarks.report import RESULTS, Report, table

DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
IMAGES = DOCUMENT.with_name("images")
_BEGIN, _END = "<!-- bench: begin -->\n", "<!-- bench: end -->\n"
CHART = "Seconds of a backup, from the command to the disk"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="size of the corpora; 1 is the full one")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory for what is found")
    given = parser.parse_args(argv)
    started_s = time.monotonic()
    # /var/tmp is on a disk where /tmp may be in memory, and a sync would cost nothing.
    with tempfile.TemporaryDirectory(prefix="edge-backup-bench-", dir="/var/tmp") as directory:
        work = Path(directory)
        facts = machine.facts(work, [peer.version for peer in PEERS], ("isal", "zlib-ng"))
        with machine.OtherLoad() as others, broker(work) as port:
            # First, while the disk has nothing to do and the machine's memory nothing to give back.
            life = liveness.measure(work, port, given.scale)
            http = http_face.measure(work, port, given.scale)
            results = backup_restore.compare(work, port, CORPORA, given.scale, given.repeat)
            bounds = limits.measure(work, port, given.scale, given.repeat)
            snapshots = repositories.measure(work, port, given.scale, given.repeat)
    facts |= {
        "other load": str(others),
        "the whole took": f"{(time.monotonic() - started_s) / 60:.0f} minutes",
    }
    bars = all_bars(results, bounds, life, snapshots, http)
    notes = repositories.notes(snapshots)
    report = report_of(results, bars, facts, given.scale, given.repeat, notes)
    report.figures.update(limits=asdict(bounds), liveness=asdict(life), http=asdict(http))
    report.figures.update(repositories=asdict(snapshots))
    report.publish(given.results)
    is_published = given.results == RESULTS and given.scale == 1
    charts = IMAGES if is_published else given.results
    (charts / f"{report.name}.svg").write_text(chart(results), "utf-8")
    if is_published:
        DOCUMENT.write_text(shown(DOCUMENT.read_text("utf-8"), report), "utf-8")
    sys.exit(0 if all(bar.holds is not False for bar in bars) or given.scale != 1 else 1)


def report_of(
    results: Mapping[str, Corpus],
    bars: Sequence[Bar],
    facts: Mapping[str, str],
    scale: float,
    repeat: int,
    more: Sequence[str],
) -> Report:
    """The table of everything, then `more`, then the bars, which are meant for full size."""
    full = scale == 1
    figures = {name: asdict(corpus) for name, corpus in results.items()}
    bar_table = table(HEADINGS, [bar.row() for bar in bars])
    return Report(
        name="bench" if full else f"bench-{scale:g}",
        title="Benchmark" + ("" if full else f", every corpus at {scale:g} of its size"),
        facts={**facts, "bars that hold": f"{sum(bar.holds is True for bar in bars)} of {len(bars)}"},
        headings=backup_restore.HEADINGS,
        rows=backup_restore.rows(results),
        notes=[*(note.format(repeat=repeat) for note in backup_restore.NOTES), *more, bar_table],
        figures={"corpora": figures, "bars": [asdict(bar) | {"holds": bar.holds} for bar in bars]},
    )


def shown(document: str, report: Report) -> str:
    """The document with the chart and the tables between its marks. Raises ValueError without marks."""
    before, _, rest = document.partition(_BEGIN)
    _, mark, after = rest.partition(_END)
    if not mark:
        raise ValueError(f"no marks {_BEGIN.strip()} and {_END.strip()}")
    image = f"![{CHART}](images/{report.name}.svg)\n\n"
    _, _, body = report.markdown().partition("\n\n")
    return f"{before}{_BEGIN}{image}{body}{_END}{after}"


def chart(results: Mapping[str, Corpus]) -> str:
    groups = {
        name: {who: corpus.middle(who).backup.wall_s for who in corpus.rounds}
        for name, corpus in results.items()
    }
    return bar_chart(CHART, groups, "edge-backup", "s")


if __name__ == "__main__":
    main()
