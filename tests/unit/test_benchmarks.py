"""The benchmarks themselves: their corpora, their arithmetic, and one tiny run of each."""

import json
import os
import shutil
import sys
import zlib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import backup_restore, corpora, pruning, reading, repositories, transfers
from benchmarks.__main__ import DOCUMENT, shown
from benchmarks.agent_job import broker
from benchmarks.bars import all_bars
from benchmarks.chart import bar_chart
from benchmarks.http_face import HttpFace
from benchmarks.limits import Limits
from benchmarks.liveness import Liveness
from benchmarks.machine import OtherLoad
from benchmarks.measure import Command, CommandFailed, Usage, interleaved, run, typical
from benchmarks.peers import RESTIC, ZIP, Floor
from benchmarks.pruning import OURS, Pruned
from benchmarks.reading import Read, Reading
from benchmarks.report import Report, seconds, table
from benchmarks.repositories import (
    APPENDED,
    FLAT_CORPUS,
    MANY_CORPUS,
    Pair,
    Repositories,
    Saved,
)
from benchmarks.workloads import WORKLOADS, Workload
from tests.support.require import require
from tests.support.trees import snapshot

MIB = 1 << 20


def _contents(root: Path) -> dict[str, bytes]:
    return {name: found.content for name, found in snapshot(root).items()}


@pytest.mark.parametrize("corpus", corpora.CORPORA)
def test_a_corpus_has_the_same_bytes_every_time(tmp_path: Path, corpus: str) -> None:
    for copy in ("one", "other"):
        corpora.CORPORA[corpus](tmp_path / copy, 0.001)
    assert _contents(tmp_path / "one") == _contents(tmp_path / "other")


def test_small_files_have_1_to_8_kib_and_a_hundred_share_a_directory(tmp_path: Path) -> None:
    corpora.small_files(tmp_path, 0.025)
    sizes = [path.stat().st_size for path in tmp_path.rglob("*.*")]
    assert len(sizes) == 250
    assert all(1 << 10 <= size < 8 << 10 for size in sizes)
    assert [len(list(directory.iterdir())) for directory in sorted(tmp_path.iterdir())] == [100, 100, 50]


def test_the_log_compresses_as_logs_do_and_nothing_near_comes_again(tmp_path: Path) -> None:
    """About 4.4 times with level 6, as the logs do that the budgets were taken with."""
    corpora.large_log(tmp_path, 0.004)
    content = (tmp_path / "application.log").read_bytes()
    assert len(content) == round(0.004 * corpora.GIB)
    assert 4.0 < len(content) / len(zlib.compress(content, 6)) < 4.8
    lines = content.splitlines()
    assert len(set(lines)) == len(lines)


def test_half_of_the_mixed_corpus_does_not_compress(tmp_path: Path) -> None:
    corpora.half_random(tmp_path, 0.001)
    ratios = {path.name: _ratio(path.read_bytes()) for path in tmp_path.iterdir()}
    assert len(ratios) == 20
    assert all((ratio < 1.01) == name.endswith(".bin") for name, ratio in ratios.items())
    assert sum(name.endswith(".bin") for name in ratios) == 10


def _ratio(content: bytes) -> float:
    return len(content) / len(zlib.compress(content))


def test_the_peak_is_that_of_the_command_and_not_of_the_process_that_measures() -> None:
    """Linux hands the starter's memory on to what it starts; this very process takes more than 20 MiB."""
    greedy = run(Command((sys.executable, "-I", "-S", "-c", f"bytearray({64 * MIB})")))
    assert 64 * MIB < greedy.peak_bytes < 96 * MIB
    assert run(Command(("true",))).peak_bytes < 20 * MIB


def test_user_and_system_time_of_a_commands_children_count() -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    usage = run(Command((sys.executable, "-I", "-S", "-c", burn)).then("true"))
    assert usage.cpu_s >= 0.2
    assert usage.wall_s >= 0.2


def test_a_command_that_fails_is_an_error_with_what_it_said() -> None:
    with pytest.raises(CommandFailed, match=r"exit status 3(.|\n)*no luck"):
        run(Command(("sh", "-c", "echo no luck; exit 3")))


def test_a_command_that_is_not_there_is_an_error() -> None:
    with pytest.raises(CommandFailed, match="no-such-tool"):
        run(Command(("no-such-tool",)))


def test_the_sync_after_a_command_is_part_of_it_whatever_the_names_are(tmp_path: Path) -> None:
    file = tmp_path / "a b'c"
    run(Command(("cp", "/etc/hostname", str(file))).synced(file))
    run(Command(("cp", str(file), str(tmp_path / "copy"))).tree_synced(tmp_path))
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()


def test_secrets_of_a_command_are_not_shown() -> None:
    assert "s3cret" not in repr(Command(("curl",), {"TOKEN": "s3cret"}).then("sync"))


def test_cases_run_in_rounds_and_each_round_begins_with_another() -> None:
    order: list[str] = []
    cases = {name: lambda name=name: order.append(name) for name in "abc"}
    results = interleaved(cases, 3)
    assert "".join(order) == "abcbcacab"
    assert {name: len(values) for name, values in results.items()} == {"a": 3, "b": 3, "c": 3}


def test_times_are_medians_and_memory_is_the_highest() -> None:
    rounds = [Usage(3.0, 1.0, 10), Usage(1.0, 9.0, 30), Usage(2.0, 2.0, 20)]
    assert typical(rounds) == Usage(2.0, 2.0, 30)


def test_load_of_others_is_between_nothing_and_all_cores() -> None:
    with OtherLoad() as others:
        run(Command(("true",)))
    assert 0 <= others.cores <= (os.cpu_count() or 1) * 1.5


@pytest.mark.parametrize(("value_s", "text"), [(0.0514, "0.051"), (1.234, "1.23"), (34.44, "34.4")])
def test_seconds_have_three_digits(value_s: float, text: str) -> None:
    assert seconds(value_s) == text


def test_a_table_aligns_words_to_the_left_and_figures_to_the_right() -> None:
    assert table(["what", "s"], [["1 GiB log", "10.1"], ["2 files", "2.5"]]).splitlines() == [
        "| what      |    s |",
        "| --------- | ---: |",
        "| 1 GiB log | 10.1 |",
        "| 2 files   |  2.5 |",
    ]


def test_a_report_is_printed_and_kept_for_people_and_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = Usage(1.5, 1.0, 4096)
    Report("x", "Title", {"cores": "2"}, ["who"], [["zip"]], ["A note."], {"zip": [usage]}).publish(tmp_path)
    assert (
        tmp_path / "x.md"
    ).read_text() == "# Title\n\n- cores: 2\n\n| who |\n| --- |\n| zip |\n\nA note.\n"
    assert capsys.readouterr().out.startswith("# Title\n")
    kept = json.loads((tmp_path / "x.json").read_text())
    assert kept["figures"] == {"zip": [{"wall_s": 1.5, "cpu_s": 1.0, "peak_bytes": 4096}]}


@pytest.mark.slow
def test_small_archives_keep_the_order_that_the_large_ones_have(tmp_path: Path) -> None:
    """Guards `make bench`: everything is measured, and what is promised of sizes holds at 6 MiB."""
    for tool in ("zip", "unzip"):
        require(shutil.which(tool) is not None, f"{tool} (Debian package {tool})")
    one = {"log": corpora.large_log}
    with broker(tmp_path) as port:
        found = backup_restore.compare(tmp_path, port, one, 6 * MIB / corpora.GIB, 1, [ZIP])["log"]
    (zipped,) = found.rounds[ZIP.name]
    for level, size in (("fast", 1.2), ("balanced", 1.04), ("small", 0.98)):
        (ours,) = found.rounds[backup_restore.ours(level)]
        assert ours.archive_bytes / zipped.archive_bytes < size, level
        assert ours.backup.peak_bytes < 64 * MIB


def _found(zip_s: float, ours_s: float) -> backup_restore.Corpus:
    def one(wall_s: float) -> list[backup_restore.Round]:
        usage = Usage(wall_s, wall_s, MIB)
        return [backup_restore.Round(usage, 100, usage, usage)]

    ours = {backup_restore.ours(level): one(ours_s) for level in backup_restore.LEVELS}
    return backup_restore.Corpus({ZIP.name: one(zip_s), **ours}, Floor(0.1, 0.2))


def _snapshots(wall_s: float, later_bytes: int) -> Pair:
    """A first snapshot of 1,000 bytes, and one of unchanged files that took half the time."""
    return Pair(Saved(Usage(wall_s, wall_s, MIB), 1000), Saved(Usage(wall_s / 2, 1.0, MIB), later_bytes))


def test_bars_are_judged_and_what_was_not_measured_is_told() -> None:
    results = {
        name: _found(31.0, 2.0) for name in (corpora.SMALL_CORPUS, corpora.LOG_CORPUS, corpora.MIXED_CORPUS)
    }
    limits = Limits(
        peaks={"local": {"log": 65 * MIB}},
        staged={"local": 0},
        missing={"aws": "rclone is missing"},
        file_s={10: 1.0, 200: 1.2},
        level_s={1: 1.0, 4: 2.5},
        onto_s={30: 1.0, 300: 1.1},
        hole_peaks={"1 GiB": 50, "8 GiB": 60},
        slow={"auto": 1.0, "small": 1.0},
        quick={"auto": 1.2, "fast": 1.0},
    )
    life = Liveness(0.4, 40 * MIB, 0.1, [0.005, 0.06, 0.004], whole=True)
    http = HttpFace(40 * MIB, 41 * MIB, 43 * MIB, 0.1, 1900, 1.01)
    names = (corpora.SMALL_CORPUS, corpora.LOG_CORPUS, corpora.MIXED_CORPUS, MANY_CORPUS, FLAT_CORPUS)
    changes = (*(each.name for each in WORKLOADS), APPENDED)
    usage, half = Usage(2.0, 1.0, MIB), Usage(1.0, 1.0, MIB)
    snapshots = Repositories(
        runs={name: {OURS: [_snapshots(2.0, 900)], "restic": [_snapshots(8.0, 3000)]} for name in names},
        changed={name: {OURS: _snapshots(1.0, 60)} for name in changes},
        keys={OURS: Usage(0.1, 0.1, 0), "restic": Usage(1.0, 1.0, 0)},
        peaks={"local": {"1 GiB": 70 * MIB, "16 GiB": 90 * MIB}, "aws": {"1 GiB": MIB, "16 GiB": MIB}},
        read=Reading(
            {corpora.LOG_CORPUS: {OURS: [Read(usage, usage)], "restic": [Read(usage, half)]}},
            {"list": 65 * MIB},
        ),
        pruned=Pruned(200 * MIB, {OURS: 50 * MIB, "restic": 40 * MIB}),
    )
    holds = {bar.what: bar.holds for bar in all_bars(results, limits, life, snapshots, http)}
    assert holds["1 GiB log: first snapshot to restic, time"] is True
    assert holds["1 GiB log: verify to restic check --read-data, time"] is True
    assert holds["1 GiB log: restore of a snapshot to restic, time"] is False
    assert holds["repository: peak memory, list"] is False
    assert holds["HTTP over TCP and TLS, more memory when idle"] is True
    assert holds["HTTP, more memory after the page was loaded"] is False
    assert holds["HTTP, questions over kept connections"] is True
    assert holds["10,000 small files: unchanged to restic, time"] is True
    assert holds["1 GiB half random: unchanged to restic, time"] is False
    assert holds["1 GiB half random: unchanged, size"] is True
    assert holds["later snapshot, log grown by 3 %, share"] is False
    assert holds["later snapshot, rotated logs, share"] is True
    assert holds["repository: peak memory, local, 16 GiB"] is False
    assert holds["repository of 30 days after a prune to restic's, size"] is False
    assert holds["repository: peak memory, local, 16 GiB to 1 GiB"] is False
    assert holds["1 GiB log: fast to zip -6, speed"] is True
    assert holds["1 GiB log: small to zip -6, size"] is False
    assert holds["1 GiB log: fast to tar, zstd -T2 -3, speed"] is None
    assert holds["peak memory, local, log"] is False
    assert holds["peak memory, aws"] is None
    assert holds["time per file, 200,000 to 10,000 tiny files"] is True
    assert holds["time per level of a restore, 4,000 to 1,000 levels"] is False
    assert holds["time per file of a restore onto existing, 300,000 to 30,000"] is True
    assert holds["200 answers during a backup, median"] is True
    assert holds["200 answers during a backup, worst"] is False


def test_a_full_run_is_shown_in_the_document_between_its_marks() -> None:
    report = Report("bench", "Benchmark", {"cores": "2"}, ["who"], [["zip"]], ["A note."], {})
    document = "before\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nafter\n"
    told = shown(document, report)
    assert told.startswith("before\n<!-- bench: begin -->\n![")
    assert told.endswith("\n\nA note.\n<!-- bench: end -->\nafter\n")
    assert "old" not in told
    assert shown(told, report) == told
    assert shown(DOCUMENT.read_text("utf-8"), report).count("A note.") == 1


def test_a_chart_is_svg_with_a_bar_for_each_value() -> None:
    svg = ElementTree.fromstring(bar_chart("T < 1", {"a & b": {"edge-backup": 2.0, "zip": 4.0}}, "edge", "s"))
    bars = svg.findall("{*}rect")
    assert [float(bar.get("width", "0")) for bar in bars] == [290.0, 580.0]
    assert len({bar.get("fill") for bar in bars}) == 2
    assert "a & b" in [text.text for text in svg.findall("{*}text")]


def test_a_tiny_transfer_is_measured_beside_the_public_tool(tmp_path: Path) -> None:
    with broker(tmp_path) as port:
        results, missing = transfers.compare(tmp_path, port, ["local"], MIB, 1)
    assert not missing
    (row,) = transfers.report(results, {}, MIB, 1).rows
    assert row[:3] == ["local", "cp, sync", "1MiB"]
    assert all(float(cell) > 0 for cell in row[3:])


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda each: each.name)
def test_a_workload_has_the_same_bytes_every_time_and_changes_them(
    tmp_path: Path, workload: Workload
) -> None:
    found = []
    for copy in ("one", "other"):
        workload.make(tmp_path / copy, 0.01)
        before = _contents(tmp_path / copy)
        workload.change(tmp_path / copy, 0.01)
        found.append((before, _contents(tmp_path / copy)))
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]


@pytest.mark.slow
def test_a_later_snapshot_sends_the_share_that_its_workload_is_known_for(tmp_path: Path) -> None:
    """Guards `make bench`: at a quarter of the size, where trees and databases weigh more."""
    require(shutil.which("restic") is not None, "restic (Debian package restic)")
    with broker(tmp_path) as port:
        found = repositories.changed(tmp_path, port, WORKLOADS[0], 0.25)
    assert repositories.share(found[OURS]) < 1.5 * WORKLOADS[0].expected
    # restic cuts by a polynomial of chance, and sends 0.12 to 0.42 MB here.
    assert found[OURS].later.size_bytes < 2 * found[RESTIC.name].later.size_bytes


@pytest.mark.slow
def test_a_snapshot_is_read_by_the_agent_and_by_restic(tmp_path: Path) -> None:
    """Guards `make bench`: both verify and restore it, and what they restored is compared."""
    require(shutil.which("restic") is not None, "restic (Debian package restic)")
    with broker(tmp_path) as port:
        found = reading.beside_restic(tmp_path, port, corpora.small_files, 0.01, 1, "small files")
    for who in (OURS, RESTIC.name):
        (read,) = found[who]
        assert read.verify.wall_s > 0
        assert read.restore.wall_s > 0


@pytest.mark.slow
def test_a_prune_leaves_no_more_than_that_of_restic(tmp_path: Path) -> None:
    """Guards `make bench`: at a hundredth of the size."""
    require(shutil.which("restic") is not None, "restic (Debian package restic)")
    found = pruning.measure(tmp_path, 0.01, days=20)
    assert found.to_restic
    assert found.to_restic < 1.1
    assert found.after_bytes[OURS] < 0.7 * found.before_bytes
    assert "MB by restic pruned it" in pruning.note(found)
