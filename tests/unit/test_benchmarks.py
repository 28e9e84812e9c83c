"""The benchmarks themselves: their corpora, their arithmetic, and one tiny run of each."""

import json
import os
import shutil
import sys
import zlib
from pathlib import Path

import pytest

from benchmarks import backup_restore, corpora, transfers
from benchmarks.agent_job import broker
from benchmarks.machine import OtherLoad
from benchmarks.measure import Command, CommandFailed, Usage, interleaved, run, typical
from benchmarks.report import Report, seconds, table
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


def test_a_tiny_backup_and_restore_gives_ratios_for_every_level(tmp_path: Path) -> None:
    for tool in ("zip", "unzip"):
        require(shutil.which(tool) is not None, f"{tool} (Debian package {tool})")
    rounds = backup_restore.compare(tmp_path, {"log": corpora.large_log}, 0.0005, 1)
    report = backup_restore.report(rounds, {}, 0.0005, 1)
    ours = [f"edge-backup {level}" for level in ("fast", "balanced", "small")]
    assert [row[1] for row in report.rows] == [backup_restore.PEER, *ours]
    assert (report.rows[0][3], report.rows[0][7]) == ("1.0×", "1.0×")
    json.dumps(report.figures)


def test_a_tiny_transfer_is_measured_beside_the_public_tool(tmp_path: Path) -> None:
    with broker(tmp_path) as port:
        results, missing = transfers.compare(tmp_path, port, ["local"], MIB, 1)
    assert not missing
    (row,) = transfers.report(results, {}, MIB, 1).rows
    assert row[:3] == ["local", "cp, sync", "1MiB"]
    assert all(float(cell) > 0 for cell in row[3:])
