"""The file for Prometheus: its grammar, its content, and how it is written."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from types import MappingProxyType
from typing import Self

import pytest
from structlog.testing import capture_logs

from agent.base.job import Job, Kind
from agent.faces.metrics import Metrics, _labels
from agent.jobs.queries.health import Health
from agent.jobs.queries.history import History
from agent.jobs.schedule_record import ScheduleRecord, ScheduleState, StoreState
from agent.journal import Journal
from agent.journal.jobs import JobRecord
from agent.mailbox import Mailbox
from tests.support.fakes import Device
from tests.support.special_files import SPECIAL, special
from tests.support.stalling import stalling

START = datetime(2026, 1, 2, 3, 4, 5, 250_000, tzinfo=UTC)
# "Text format details" of the Prometheus documentation, as far as gauges need it.
_VALUE = r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-][0-9]+)?"
_LABEL = r'[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*"'
_SAMPLE = re.compile(rf"([a-zA-Z_:][\w:]*)(\{{{_LABEL}(?:,{_LABEL})*\}})? ({_VALUE})")


def record(state: str = "FINISHED") -> JobRecord:
    ended = "2026-01-02T03:04:05.250000Z"
    return JobRecord("0" * 16, "backup", "c", ended, ended, state, "", "", Path("/data"), {})


NIGHTLY = {
    "nightly": ScheduleState(
        START,
        {
            "usb": StoreState(2, "target-absent", True, record("FAILED")),
            "cloud": StoreState(0, "", False, None),
        },
    ),
    "kanto": ScheduleState(None, {"": StoreState(0, "", False, record())}),
}


def metrics(
    journal: Journal,
    path: Path | None = None,
    mailbox: Mailbox | None = None,
    schedules: Mapping[str, ScheduleState] = MappingProxyType({}),
) -> Metrics:
    history, mailbox = History(journal), mailbox or Mailbox()
    health = Health(
        journal,
        history,
        timedelta(hours=1),
        mailbox.call_later,
        limit=lambda _success, _now: None,
        records=[[ScheduleRecord(journal)]],
        changed=lambda: None,
    )
    return Metrics(path, mailbox, health, history, lambda: schedules)


def samples(text: str) -> dict[str, float]:
    """By name and labels; every line is read strictly, each name has its HELP and its TYPE before."""
    assert text.endswith("\n")
    found: dict[str, float] = {}
    lines = iter(text.splitlines())
    current = ""
    for line in lines:
        if line.startswith("# HELP "):
            current = line.split(" ")[2]
            assert next(lines) == f"# TYPE {current} gauge"
            continue
        match = _SAMPLE.fullmatch(line)
        assert match, line
        assert match[1] == current, line
        key = match[1] + (match[2] or "")
        assert key not in found
        found[key] = float(match[3])
    return found


@contextmanager
def patched_clock(now: datetime) -> Iterator[None]:
    """A wall clock of the engine that was set to `now`; the monotonic one goes on."""

    class Set(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            assert tz is UTC
            return cls.fromtimestamp(now.timestamp(), tz)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.jobs.backup.datetime", Set)
        yield


CHANGES = {"added_bytes": 512, "files_new": 1, "files_changed": 0, "files_unmodified": 9}
"""Facts of a snapshot in a repository."""


def jobs(journal: Journal) -> None:
    for number, (kind, code) in enumerate([(Kind.BACKUP, ""), (Kind.RESTORE, "no-space")]):
        job = Job(f"{number:016x}", kind, "c", START)
        journal.jobs.started(job, Path("/data"), [])
        end = START + timedelta(seconds=1.5 + number)
        ended = job.failed(end, code, "") if code else job.finished(end)
        facts = {"archive_bytes": 1 << 40, "content_bytes": 3, **CHANGES} if not code else {}
        journal.jobs.ended(ended, facts | {"seconds": 1.5 + number})


def test_before_the_first_job_it_says_never(journal: Journal) -> None:
    found = samples(metrics(journal).text())
    assert found["edge_backup_last_success_timestamp_seconds"] == 0
    assert found["edge_backup_rpo_violated"] == 1


def test_it_says_how_the_last_jobs_ended(journal: Journal) -> None:
    jobs(journal)
    found = samples(metrics(journal).text())
    name = next(name for name in found if name.startswith("edge_backup_info"))
    del found[name], found["edge_backup_rpo_violated"]
    assert found == {
        "edge_backup_last_success_timestamp_seconds": START.timestamp() + 1.5,
        "edge_backup_last_verified_timestamp_seconds": 0,
        "edge_backup_missed_backups": 0,
        'edge_backup_last_job_success{kind="backup"}': 1,
        'edge_backup_last_job_success{kind="restore"}': 0,
        'edge_backup_last_job_end_timestamp_seconds{kind="backup"}': START.timestamp() + 1.5,
        'edge_backup_last_job_end_timestamp_seconds{kind="restore"}': START.timestamp() + 2.5,
        'edge_backup_last_job_duration_seconds{kind="backup"}': 1.5,
        'edge_backup_last_job_duration_seconds{kind="restore"}': 2.5,
        "edge_backup_last_archive_bytes": 1 << 40,
        "edge_backup_last_content_bytes": 3,
        "edge_backup_last_added_bytes": 512,
        "edge_backup_last_files_new": 1,
        "edge_backup_last_files_changed": 0,
        "edge_backup_last_files_unmodified": 9,
    }


def test_each_is_in_the_operator_s_table(journal: Journal) -> None:
    operating = Path(__file__).parents[2] / "docs" / "operating.md"
    rows = [line for line in operating.read_text("utf-8").splitlines() if line.startswith("| `edge_backup_")]
    listed = [name for row in rows for name in re.findall(r"`(edge_backup_\w+)", row)]
    jobs(journal)
    assert {key.partition("{")[0] for key in samples(metrics(journal, schedules=NIGHTLY).text())} == set(
        listed
    )


def test_of_each_schedule_and_store_it_says_what_is_due_and_what_is_late(journal: Journal) -> None:
    told = samples(metrics(journal, schedules=NIGHTLY).text())
    usb, cloud = ('{schedule="nightly",store="%s"}' % store for store in ("usb", "cloud"))  # noqa: UP031
    named = {
        key.removeprefix("edge_backup_schedule_"): value for key, value in told.items() if "schedule" in key
    }
    assert named == {
        'next_timestamp_seconds{schedule="nightly"}': START.timestamp(),
        'next_timestamp_seconds{schedule="kanto"}': 0,
        f"last_end_timestamp_seconds{usb}": START.timestamp(),
        'last_end_timestamp_seconds{schedule="kanto"}': START.timestamp(),
        f"last_success{usb}": 0,
        'last_success{schedule="kanto"}': 1,
        f"late{usb}": 1,
        f"late{cloud}": 0,
        'late{schedule="kanto"}': 0,
        f"missed_backups{usb}": 2,
        f"missed_backups{cloud}": 0,
        'missed_backups{schedule="kanto"}': 0,
    }


def test_labels_are_escaped() -> None:
    assert _labels({"a": 'x"\\\n', "b": ""}) == r'{a="x\"\\\n",b=""}'


def test_the_file_is_replaced_in_one_step_and_readable_for_everybody(
    journal: Journal, tmp_path: Path
) -> None:
    file = tmp_path / "edge-backup.prom"
    file.write_text("old")
    before = file.open()
    teller = metrics(journal, file)
    mask = os.umask(0o077)
    try:
        teller.write()
    finally:
        os.umask(mask)
    with before:
        assert before.read() == "old"
    assert file.read_text() == teller.text()
    assert file.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir() if "prom" in path.name] == [file.name]


def test_what_has_not_changed_is_not_written_again(journal: Journal, tmp_path: Path) -> None:
    file = tmp_path / "edge-backup.prom"
    teller = metrics(journal, file)
    teller.write()
    inode = file.stat().st_ino
    teller.write()
    assert file.stat().st_ino == inode
    jobs(journal)
    teller.write()
    assert file.read_text() == teller.text()


def test_a_directory_that_is_not_there_is_told_once_and_harms_nothing(
    journal: Journal, tmp_path: Path
) -> None:
    file = tmp_path / "later" / "edge-backup.prom"
    teller = metrics(journal, file)
    with capture_logs() as lines:
        teller.write()
        teller.write()
    assert [line["event"] for line in lines] == ["metrics not written"]
    file.parent.mkdir()
    teller.write()
    assert file.exists()


def test_without_the_setting_nothing_is_written_or_waited_for(journal: Journal) -> None:
    mailbox = Mailbox()
    metrics(journal, mailbox=mailbox).changed()
    assert mailbox.timers == []


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_not_replaced_by_the_metrics(
    tmp_path: Path, journal: Journal, kind: str
) -> None:
    with special(tmp_path / "a.prom", kind) as before:
        metrics(journal, tmp_path / "a.prom").write()
        assert os.lstat(tmp_path / "a.prom") == before
    assert not (tmp_path / ".a.prom.part").exists()


def test_a_directory_that_becomes_a_link_while_the_agent_runs_leads_nowhere(
    tmp_path: Path, journal: Journal
) -> None:
    """A user who may write above it could have root make files anywhere."""
    for name in ("there", "elsewhere"):
        (tmp_path / name).mkdir()
    file = metrics(journal, tmp_path / "there/edge.prom")
    (tmp_path / "there").rmdir()
    (tmp_path / "there").symlink_to("elsewhere")
    file.write()
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_directory_that_is_reached_by_a_link_takes_the_file(tmp_path: Path, journal: Journal) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "way").symlink_to("there")
    metrics(journal, tmp_path / "way/edge.prom").write()
    assert os.listdir(tmp_path / "there") == ["edge.prom"]


def test_a_clock_that_jumps_while_a_job_runs_does_not_change_how_long_it_took(device: Device) -> None:
    """It took -31,535,994 seconds."""
    (device.data / "file").write_text("content")
    with stalling() as destination:
        options = {"https.url": destination.url}
        device.command("backup", {"correlationID": "X", "options": options})
        assert destination.reached.wait(20)
        with patched_clock(datetime.now(UTC) - timedelta(days=365)):
            destination.release.set()
            device.finish()
    (record,) = device.journal.jobs.ended_of(Kind.BACKUP)
    assert record.ended < record.started, "the clock was set back"
    found = samples(metrics(device.journal).text())
    assert 0 < found['edge_backup_last_job_duration_seconds{kind="backup"}'] < 60
    assert device.service.engine.history.newest()[0]["seconds"] > 0


def test_a_job_that_was_cut_off_has_no_duration(journal: Journal) -> None:
    """Nobody saw its end, and the clock may have been set since."""
    job = Job("0" * 16, Kind.BACKUP, "c", START)
    journal.jobs.started(job, Path("/data"), [])
    journal.jobs.ended(job.failed(START - timedelta(days=365), "interrupted", ""))
    found = samples(metrics(journal).text())
    assert found['edge_backup_last_job_success{kind="backup"}'] == 0
    assert not any("duration" in name for name in found)
