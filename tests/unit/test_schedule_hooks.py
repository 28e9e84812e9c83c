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


def test_the_later_command_knows_whether_the_backup_succeeded(tmp_path: Path) -> None:
    """It tells a watchdog that a backup was made; autorestic #74, backrest #288: it could not tell which."""
    (tmp_path / "data").mkdir()
    script = tmp_path / "after"
    script.write_text(f"#!/bin/sh\necho code=$EDGE_BACKUP_STATUS_CODE >> '{tmp_path}/told'\n")
    script.chmod(0o755)
    device = Device(tmp_path, {"afterBackupCmd": str(script), "allow.loopback": "true"})
    nowhere = {"https.url": "http://127.0.0.1:9/a.zip"}
    for number, options in enumerate(({"storage.provider": "local"}, nowhere), 1):
        value = {"correlationID": "X", "options": options}
        assert device.command("backup", value, header=f"h{number}")[0][1]["status"] == 204
        take_until(device, ends(device, number))
    assert told(tmp_path) == ["code=", "code=unreachable"]
    device.close()


def test_the_failure_of_another_schedule_sets_off_no_command_of_this_one(tmp_path: Path) -> None:
    """autorestic #435: all locations were told that one of them had failed."""
    device = device_with(
        tmp_path,
        active="false",
        **{"schedules.other.times": "02:00", **commands(tmp_path, "schedules.other.")},
    )
    job = Job("0" * 16, Kind.BACKUP, "X", datetime.now(UTC))
    device.journal.jobs.started(job, tmp_path, [], {"schedule": "other"})
    device.restart()
    take_until(device, lambda: len(told(tmp_path)) == 2)
    assert sorted(told(tmp_path)) == ["onFailureCmd", "schedules.other.onFailureCmd"]
    device.close()
