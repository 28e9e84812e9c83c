"""Commands of the owner around the backups of one schedule."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from agent.base.job import STOPPED, Job, Kind
from agent.jobs.job_hooks import Scope
from tests.support.fakes import Device


def told(work: Path) -> list[str]:
    path = work / "told"
    return path.read_text().split() if path.exists() else []


def commands(work: Path, of: str) -> dict[str, str]:
    """Settings with commands that tell when they run."""
    settings = {}
    for name in ("beforeBackupCmd", "afterBackupCmd", "onFailureCmd"):
        script = work / f"{of}{name}"
        script.write_text(f"#!/bin/sh\necho {of}{name} >> '{work}/told'\n")
        script.chmod(0o755)
        settings[f"{of}{name}"] = str(script)
    return settings


def device_with(work: Path, **settings: str) -> Device:
    (work / "data").mkdir()
    (work / "data" / "file").write_text("content")
    data_set = {key: path for key, path in commands(work, "dataSets.app.").items() if "Failure" not in key}
    given = {
        "dataSets.app.paths": str(work / "data" / "file"),
        "schedules.kanto.dataSets": "app",
        **commands(work, ""),
        **commands(work, "schedules.kanto."),
        **data_set,
    }
    return Device(work, {"active": "true", "period": "24h", **given, **settings})


def ends(device: Device, number: int) -> Callable[[], bool]:
    return lambda: len(list(device.journal.jobs.ended_of(Kind.BACKUP))) == number


def take_until(device: Device, holds: Callable[[], bool]) -> None:
    while not holds():
        device.take()


def test_the_commands_of_a_schedule_run_between_those_of_the_device_and_of_its_data_sets(
    tmp_path: Path,
) -> None:
    device = device_with(tmp_path)
    take_until(device, ends(device, 1))
    names = ["", "schedules.kanto.", "dataSets.app."]
    before, after = [f"{of}beforeBackupCmd" for of in names], [f"{of}afterBackupCmd" for of in names[::-1]]
    assert told(tmp_path) == before + after
    (tmp_path / "told").unlink()
    device.command("backup", {"correlationID": "X", "options": {"storage.provider": "local"}})
    take_until(device, ends(device, 2))
    assert told(tmp_path) == ["beforeBackupCmd", "afterBackupCmd"], "not of the schedule"
    device.close()


def test_after_a_crash_the_later_commands_of_the_schedule_run_and_those_after_a_failure(
    tmp_path: Path,
) -> None:
    device = device_with(tmp_path, active="false", period="10h")
    job = Job("0" * 16, Kind.BACKUP, "X", datetime.now(UTC))
    device.journal.jobs.started(job, tmp_path, [], {"schedule": "kanto"})
    device.journal.checkpoints.keep(job.id, STOPPED, Scope("kanto", ("app",)).to_text())
    device.restart()
    device.service.engine.begin()
    wanted = [f"{of}afterBackupCmd" for of in ("dataSets.app.", "schedules.kanto.", "")]
    wanted += [f"{of}onFailureCmd" for of in ("", "schedules.kanto.")]
    take_until(device, lambda: sorted(told(tmp_path)) == sorted(wanted))
    assert [name for name in told(tmp_path) if "after" in name] == wanted[:3]
    device.close()


def test_what_an_earlier_version_kept_of_a_backup_is_read() -> None:
    assert Scope.from_text('["app", "web"]') == Scope("", ("app", "web"))
    scope = Scope("nightly", ("app",))
    assert Scope.from_text(scope.to_text()) == scope
