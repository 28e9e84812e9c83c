"""Scenarios of a full disk with restores, previews and verifications."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

from agent.base.job import WORKING
from agent.base.times import format_time
from tests.support.fakes import LAST_UPLOAD
from tests.support.full_disk import ARCHIVE, Rig, left_job, staged_archive
from tests.support.journals import sql
from tests.support.real_disks import real_disk
from tests.support.trees import File, write_zip

PREVIEW = {"options": ARCHIVE | {"restore.preview": "true"}}


def a_verify(rig: Rig) -> Iterator[None]:
    assert rig.status("verify", {"options": ARCHIVE}) == 204
    rig.work_ends()
    yield
    rig.device.finish()
    yield
    rig.take_until(lambda: rig.device.journal.notes.read("last_verified") is not None)


def a_preview(rig: Rig) -> Iterator[None]:
    """Its beginning, its end, that it is finalized or discarded."""
    yield
    assert rig.status("restore", PREVIEW) == 507
    yield
    assert rig.status("restore", PREVIEW) == 204
    rig.device.finish()
    assert rig.status("discard") == 204
    rig.device.finish()


def the_end_of_a_preview(rig: Rig) -> Iterator[None]:
    assert rig.status("restore", PREVIEW) == 204
    rig.work_ends()
    yield
    rig.device.finish()
    yield
    assert rig.status("restore", PREVIEW) == 204
    rig.device.finish()
    assert rig.status("finalize") == 204
    rig.device.finish()
    assert rig.states() == ["RESTORE_STARTED", "RESTORE_FINISHED"]


def finalize_and_discard(rig: Rig) -> Iterator[None]:
    assert rig.status("restore", PREVIEW) == 204
    rig.device.finish()
    yield
    assert rig.status("finalize") == 507
    assert rig.status("discard") == 507
    assert rig.status("status") == 200
    yield
    assert rig.status("discard") == 204
    rig.device.finish()
    assert rig.states() == []


def the_end_of_a_discard(rig: Rig) -> Iterator[None]:
    assert rig.status("restore", PREVIEW) == 204
    rig.device.finish()
    assert rig.status("discard") == 204
    rig.work_ends()
    yield
    rig.device.finish()
    yield
    assert rig.status("restore", PREVIEW) == 204
    rig.device.finish()


def a_commit_confirmed_restore(rig: Rig) -> Iterator[None]:
    """How much time is left, a cancel, and the confirmation."""
    value = {"correlationId": "T", "options": ARCHIVE | {"restore.confirmWithin": "10m"}}
    assert rig.status("restore", value) == 204
    rig.take_until(rig.on_trial)
    yield
    assert rig.status("confirm") == 507
    assert rig.status("cancel", {"correlationId": "T"}) == 507
    rig.take_some()  # among them the note of how much time is left
    assert rig.on_trial()
    yield
    assert rig.status("confirm") == 204
    rig.device.finish()
    assert rig.states() == ["RESTORE_STARTED", "RESTORE_FINISHED"]


def a_restore_that_the_journal_lost(rig: Rig) -> Iterator[None]:
    """Its working directory knows; a start that cannot keep it leaves it to the next one."""
    value = {"correlationId": "T", "options": ARCHIVE | {"restore.confirmWithin": "10m"}}
    assert rig.status("restore", value) == 204
    rig.take_until(rig.on_trial)
    rig.device.service.engine.interrupt("killed")
    rig.take_until(rig.device.service.engine.idle)
    for table in ("jobs", "checkpoints"):
        sql(rig.device.journal.path, f"DELETE FROM {table}")
    rig.note("lost_restores_looked_for", None)
    yield
    rig.device.restart()
    assert rig.device.journal.jobs.unfinished() == []
    yield
    rig.device.restart()
    rig.take_until(lambda: rig.states()[-1] == "RESTORE_FAILED")
    assert (rig.device.data / "file").read_text() == "content"


def a_start_after_a_crash(rig: Rig) -> Iterator[None]:
    """An earlier run left a backup, an upload, a preview, a restore, and an archive that nobody knows."""
    staged_archive(rig)
    rows = [("b", "backup", "STARTED"), ("p", "restore", "PREVIEW"), ("r", "restore", "STARTED")]
    for job_id, kind, state in rows:
        left_job(rig, job_id, kind, state)
    note = '{"id": "p", "correlation_id": "p", "started": "", "roots": [["/nowhere", null]], "made": [],'
    note += ' "mode": "merge", "confirm_within_s": null, "stand": "running", "code": "", "message": "",'
    rig.note("preview", note + ' "facts": {}, "countdown": null}')
    began = format_time(datetime.now(UTC))
    sql(rig.device.journal.path, "INSERT INTO uploads VALUES ('Z', ?, '{}', 9)", [began])
    backups = rig.disk.path / "backups"
    write_zip(backups / "unknown.zip", {"file": File(b"content")})
    yield
    rig.device.restart()
    rig.device.service.engine.begin()
    rig.take_until(rig.device.service.engine.idle)
    yield
    rig.take_until(lambda: "BACKUP_FAILED" in rig.states() and "FAILED" in rig.states(LAST_UPLOAD))
    rig.take_until(lambda: len(sql(rig.device.journal.path, "SELECT 1 FROM staged")) == 2)


def a_late_recovery(rig: Rig) -> Iterator[None]:
    """The agent recovers a restore that was cut off once its disk is plugged in, and then reports its end."""
    plugged_in = rig.work / "stick"
    working = json.dumps([[0, str(plugged_in / "data"), str(plugged_in)]])
    left_job(rig, "r", "restore", "STARTED")
    rig.device.journal.checkpoints.keep("r", WORKING, working)
    rig.device.restart()
    with real_disk("tmpfs", plugged_in):
        while WORKING in rig.device.journal.checkpoints.of("r"):
            rig.device.take()
            rig.work_ends()
        yield
        rig.take_some()
        yield
        rig.take_until(lambda: rig.states() == ["RESTORE_FAILED"])
