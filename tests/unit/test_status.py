"""Answers about jobs fit into a message, whatever ids, codes and messages there are."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.base.clock import BootClock
from agent.base.job import Job, Kind
from agent.jobs.preview_record import PreviewNote, PreviewNotes, PreviewState
from agent.jobs.requests.raw import MAX_CODE_BYTES, MAX_ID_BYTES
from agent.journal import Journal
from agent.journal.staged import Staged
from agent.mqtt.envelope import MAX_MESSAGE_BYTES
from tests.support.fakes import Device

LONGEST = ['"' * MAX_ID_BYTES, "\u00e4" * (MAX_ID_BYTES // 2), "\U0001f4be" * (MAX_ID_BYTES // 4)]
CODE = '"' * MAX_CODE_BYTES


def fill(journal: Journal, correlation_id: str, message: str) -> None:
    job = Job("0" * 16, Kind.BACKUP, correlation_id, datetime.now(UTC))
    journal.jobs.started(job, Path("/data"), [])
    journal.jobs.ended(job.failed(datetime.now(UTC), CODE, message))


@pytest.mark.parametrize("correlation_id", LONGEST)
@pytest.mark.parametrize("running", [True, False])
def test_the_status_feature_fits(device: Device, correlation_id: str, running: bool) -> None:
    fill(device.journal, correlation_id, '\u00e4"' * 2000)
    if running:
        job = Job("1" * 16, Kind.RESTORE, correlation_id, datetime.now(UTC))
        progress = device.service.engine.progress
        progress.began(job)
        progress.entered("unpacking")
        progress.expected(1 << 62)
        progress.moved(1 << 61)
    device.wire.sent.clear()
    device.service.status.tell()
    ((_, message),) = device.wire.sent
    told = message["value"]["properties"]
    assert len(device.wire.raw[-1][1]) <= MAX_MESSAGE_BYTES
    assert told["health"]["lastError"] == CODE
    shown = told["job"] if running else told["job"]["last"]
    assert shown["correlationId"] == correlation_id
    if running:
        device.service.engine.progress.ended()


@pytest.mark.parametrize("correlation_id", LONGEST)
@pytest.mark.parametrize("running", [True, False])
def test_the_answer_to_status_fits(device: Device, correlation_id: str, running: bool) -> None:
    """Also beside what is told of a preview that failed."""
    fill(device.journal, correlation_id, '\u00e4"' * 2000)
    note = PreviewNote("2" * 16, correlation_id, "2026-01-02T03:04:05.000678Z", [], [], "merge")
    notes = PreviewNotes(device.journal, BootClock())
    notes.set(note.over(PreviewState.FAILED, CODE, '\u00e4"' * 2000))
    for number in range(9):
        device.journal.staged.stage(Staged(Path(f"/storage/{number}.zip")), correlation_id)
    progress = device.service.engine.progress
    if running:
        progress.began(Job("1" * 16, Kind.RESTORE, correlation_id, datetime.now(UTC)))
    ((_, answer),) = device.command("status", {}, request_id="r")
    if running:
        progress.ended()
        assert answer["value"]["job"]["correlationId"] == correlation_id
    else:
        assert answer["value"]["last"]["statusCode"] == CODE
    assert answer["value"]["preview"]["code"] == CODE
    assert len(answer["value"]["uploads"]) + answer["value"]["uploadsMore"] == 9
    assert len(device.wire.raw[-1][1]) <= MAX_MESSAGE_BYTES
