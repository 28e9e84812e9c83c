"""After a crash: the data is right at once, and what became of the job is told once."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.base.job import Job, Kind
from agent.jobs.events import JobStarted
from agent.restore import flow
from tests.support.archives import Crafted, crafted
from tests.support.fakes import Device
from tests.support.trees import snapshot
from tests.support.waiting import wait_until

START = datetime(2026, 11, 21, 22, 28, 8, 388229, UTC)
LOCAL = {"storage.provider": "local"}


def crash_during(device: Device, kind: Kind, directory: Path, made: list[Path] | None = None) -> None:
    """As if the agent had been killed after it took this command."""
    job = Job("job-1", kind, "X", START)
    with device.journal.unit() as unit:
        device.journal.jobs.started(job, directory, made or [])
        device.twin.tell(JobStarted(job), unit)
    device.acknowledge()
    device.restart()
    device.acknowledge()


@pytest.mark.parametrize("kind", [Kind.BACKUP, Kind.RESTORE])
def test_an_interrupted_job_is_told_once_as_failed(device: Device, kind: Kind) -> None:
    """Exactly two values of `lastOperation` per operation, also when a crash lies between them."""
    crash_during(device, kind, device.data)
    first, last = device.values()
    assert first["state"] == f"{kind.upper()}_STARTED"
    assert (last["state"], last["statusCode"]) == (f"{kind.upper()}_FAILED", "interrupted")
    assert last["startTime"] == first["startTime"]
    device.restart()
    assert len(device.values()) == 2


def test_an_interrupted_verification_is_in_the_history_and_has_no_last_operation(device: Device) -> None:
    """Kanto's model knows no such operation."""
    crash_during(device, Kind.VERIFY, device.data)
    assert device.values() == []
    (described,) = device.command("describe", {"correlationId": "X"})
    ended = described[1]["value"]
    assert (ended["kind"], ended["state"], ended["statusCode"]) == ("verify", "FAILED", "interrupted")


def test_directories_that_an_interrupted_backup_made_for_its_archive_are_removed(device: Device) -> None:
    archives = device.settings.storage / "archives"
    for name, since_s in {"made/inner": 1, "kept/inner": 1, "kept/older": -1, "lost+found": -1}.items():
        (archives / name).mkdir(mode=0o700, parents=True)
        (archives / name).parent.chmod(0o700)
        moment_s = START.timestamp() + since_s
        os.utime(archives / name, (moment_s, moment_s))
    (archives / "made/inner/.it.zip.part-0123456789abcdef").touch()
    crash_during(device, Kind.BACKUP, device.data)
    left = sorted(str(path.relative_to(archives)) for path in archives.rglob("*"))
    assert left == ["kept", "kept/older", "lost+found"]


def test_what_a_failing_disk_did_not_let_a_backup_remove_goes_at_the_next_start(device: Device) -> None:
    job = Job("job-1", Kind.BACKUP, "X", START)
    with device.journal.unit():
        device.journal.jobs.started(job, device.data, [])
        device.journal.jobs.ended(job.failed(START, "io-error", "it is read-only"))
    part = device.settings.storage / "archives/.it.zip.part-0123456789abcdef"
    part.touch()
    device.restart()
    assert not part.exists()


def test_the_next_command_runs_after_a_crash(device: Device) -> None:
    crash_during(device, Kind.BACKUP, device.data)
    said = device.command("backup", {"correlationID": "Y", "options": LOCAL})
    assert said[0][1]["status"] == 204
    device.finish()
    assert device.values()[-1]["state"] == "BACKUP_FINISHED"


def test_directories_that_an_interrupted_restore_made_are_removed(device: Device) -> None:
    outer = device.data / "new"
    (outer / "inner").mkdir(parents=True)
    crash_during(device, Kind.RESTORE, outer / "inner", [outer, outer / "inner"])
    assert not outer.exists()


def test_directories_with_somebody_s_files_in_them_stay(device: Device) -> None:
    """Only what is empty was made for nothing."""
    outer = device.data / "new"
    (outer / "inner").mkdir(parents=True)
    (outer / "somebody").write_text("else")
    crash_during(device, Kind.RESTORE, outer / "inner", [outer, outer / "inner"])
    assert (outer / "somebody").read_text() == "else"
    assert not (outer / "inner").exists()


def test_incomplete_files_are_removed_and_a_staged_archive_stays(device: Device) -> None:
    device.command("backup", {"correlationID": "X"})
    device.finish()
    backups = device.settings.storage / "backups"
    (archive,) = backups.iterdir()
    (backups / "backup-x.zip.part").touch()
    (device.settings.storage / "downloads" / "job-2.part").touch()
    crash_during(device, Kind.BACKUP, device.data)
    assert list(backups.iterdir()) == [archive]
    assert list((device.settings.storage / "downloads").iterdir()) == []
    said = device.command("start", {"correlationID": "X#1", "options": LOCAL})
    assert said[0][1]["status"] == 204


def test_states_that_were_not_sent_before_the_crash_are_sent_in_their_order(device: Device) -> None:
    """Offline for the whole job, then killed: the twin hears STARTED and FINISHED."""
    device.wire.online = False
    device.command("backup", {"correlationID": "X", "options": LOCAL})
    device.finish()
    assert device.values() == []
    device.wire.online = True
    device.restart()
    assert [value["state"] for value in device.values()] == ["BACKUP_STARTED", "BACKUP_FINISHED"]


def test_a_cancelled_restore_ends_before_all_that_it_unpacked_is_removed(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel is over within a second, however many files there are; the recovery removes the rest."""
    monkeypatch.setattr(flow, "PATIENCE_S", -1.0)
    archives = device.settings.storage / "archives"
    (archives / "it.zip").write_bytes(crafted(*(Crafted(b"f%d" % n, b"x") for n in range(2000))))
    (device.data / "old").write_text("stays")
    before = snapshot(device.data)
    options = {"storage.provider": "local", "local.name": "it.zip"}
    device.command("restore", {"correlationID": "R", "options": options})
    wait_until(lambda: list(device.data.glob(".edge-backup-*/new/f*")), what="unpacked files")
    with capture_logs() as logged:
        device.command("cancel", {"correlationID": "R"}, request_id="c", header="c")
        device.finish()
    assert "working directory is being removed" in [line["event"] for line in logged]
    assert device.values()[-1]["statusCode"] == "cancelled"
    for _ in range(200):
        if not list(device.data.glob(".edge-backup-*")):
            break
        device.take()
    assert snapshot(device.data) == before
