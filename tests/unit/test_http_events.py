"""The log keeps the newest of the engine's events for the streams that tell them."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.base.job import Job, Kind
from agent.faces.http.api.event_log import EVENTS, MOST_KEPT, MOST_KEPT_BYTES, EventLog
from agent.jobs.events import ArchiveRemoved, Event, Events, JobEnded, JobProgressed, JobStarted
from agent.journal import Journal
from agent.mqtt.hono import Identity
from tests.support.fakes import Device

JOB = Job("a" * 16, Kind.BACKUP, "c", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def log() -> EventLog:
    return EventLog()


@pytest.fixture
def events(journal: Journal, log: EventLog) -> Events:
    return Events(journal, (log,))


def numbers(log: EventLog, after: int = 0) -> list[int]:
    batch = log.after(after, 0)
    assert batch
    return [told.number for told in batch.events]


def test_events_are_told_from_a_number_on_and_old_ones_are_missed(events: Events, log: EventLog) -> None:
    for _ in range(MOST_KEPT + 10):
        events.emit(JobStarted(JOB))
    assert numbers(log, MOST_KEPT) == [*range(MOST_KEPT + 1, MOST_KEPT + 11)]
    for number, complete in ((9, False), (10, True), (MOST_KEPT + 10, True)):
        batch = log.after(number, 0)
        assert batch
        assert batch.complete is complete
    assert len(numbers(log)) == MOST_KEPT


def test_long_events_are_kept_up_to_a_number_of_bytes(events: Events, log: EventLog) -> None:
    for _ in range(100):
        events.emit(ArchiveRemoved("target", "x" * (MOST_KEPT_BYTES // 50)))
    assert 40 <= len(numbers(log)) < 50


def test_of_the_progress_of_a_job_the_newest_is_kept(events: Events, log: EventLog) -> None:
    """An hour of it would leave no room for anything else."""
    log.running_job = lambda: {"id": JOB.id}
    events.emit(JobStarted(JOB))
    for _ in range(5):
        events.emit(JobProgressed())
    assert numbers(log) == [1, 6]
    assert numbers(log, 3) == [6]
    log.running_job = lambda: None
    events.emit(JobEnded(JOB))
    events.emit(JobProgressed())
    assert numbers(log) == [1, 6, 7, 8]


def test_what_the_journal_does_not_keep_is_not_told(events: Events, log: EventLog, journal: Journal) -> None:
    def fail() -> None:
        with journal.unit():
            events.emit(JobStarted(JOB))
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert (log.newest, numbers(log)) == (0, [])


def test_a_stream_that_waits_ends_with_the_agent(log: EventLog) -> None:
    log.close()
    assert log.after(0, 60) is None


def test_every_event_has_a_value() -> None:
    """One without would end the agent's work in the middle."""
    known = {each.__name__ for each in (*EVENTS, JobProgressed)}
    assert known == {each.__name__ for each in Event.__subclasses__()}


def test_the_events_of_an_engine_are_told_by_name(tmp_path: Path) -> None:
    device = Device(tmp_path, {"retention.keepLast": "1"})
    device.service.session.adopt(Identity("edge:device"))
    (device.data / "file").write_text("content")
    local = {"storage.provider": "local"}
    for name in ("one", "two"):
        device.command("backup", {"correlationId": name, "options": local}, request_id=name)
        device.finish()
    device.command("backup", {"correlationId": "staged"}, request_id="three")
    device.finish()
    device.command("start", {"correlationId": "staged#1", "options": local}, request_id="four")
    device.finish()
    device.command("activate", {"from": "2999-01-01T00:00:00Z"}, request_id="five")
    device.locally("prune")
    device.finish()
    batch = device.service.events.after(0, 0)
    assert batch
    assert {told.name for told in batch.events} == {
        "jobStarted", "jobProgressed", "jobEnded", "uploadRequested", "uploadChanged", "scheduleChanged",
        "archiveRemoved",
    }  # fmt: skip
    device.close()
