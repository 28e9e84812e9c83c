"""Events: every subscriber is told, in order, and a rollback takes every word back."""

from contextlib import suppress
from datetime import UTC, datetime

import pytest

from agent.base.job import Job, Kind
from agent.base.refusals import Reason, Refused
from agent.jobs.events import Event, Events, JobEnded, JobProgressed, JobStarted, Subscriber
from agent.journal import Journal, Unit

JOB = Job("a" * 16, Kind.BACKUP, "c", datetime.now(UTC))


class Notebook(Subscriber):
    """A subscriber that hears of what is kept only."""

    def __init__(self) -> None:
        self.heard: list[Event] = []

    def can_tell(self, event: Event) -> None:
        if isinstance(event, JobStarted) and event.job.correlation_id == "too long":
            raise Refused(Reason.INVALID, "correlationId is too long")

    def tell(self, event: Event, unit: Unit) -> None:
        unit.after_commit(lambda: self.heard.append(event))


def test_every_subscriber_is_told_in_order_with_growing_numbers(journal: Journal) -> None:
    first, second = Notebook(), Notebook()
    events = Events(journal, (first, second))
    events.emit(JobStarted(JOB))
    with journal.unit():
        events.emit(JobProgressed())
        events.emit(JobEnded(JOB))
        assert len(first.heard) == 1, "the others wait for the unit of work"
    assert [type(event) for event in first.heard] == [JobStarted, JobProgressed, JobEnded]
    numbers = [event.number for event in first.heard]
    assert numbers == sorted(set(numbers))
    assert second.heard == first.heard


def test_what_was_told_in_a_unit_that_failed_is_not_heard(journal: Journal) -> None:
    notebook = Notebook()
    events = Events(journal, (notebook,))
    with suppress(RuntimeError), journal.unit():
        events.emit(JobStarted(JOB))
        raise RuntimeError
    assert notebook.heard == []


def test_progress_does_not_touch_the_disk(journal: Journal) -> None:
    """Flash wears, and a full disk is no reason not to show how far a job has come."""
    log = journal.path.with_name(f"{journal.path.name}-wal")
    before = log.stat()
    Events(journal, (Notebook(),)).emit(JobProgressed())
    assert log.stat().st_mtime_ns == before.st_mtime_ns


def test_one_subscriber_that_cannot_pass_it_on_is_enough_to_refuse(journal: Journal) -> None:
    events = Events(journal, (Notebook(), Notebook()))
    events.can_tell(JobStarted(JOB))
    with pytest.raises(Refused, match="too long"):
        events.can_tell(JobStarted(Job("a" * 16, Kind.BACKUP, "too long", JOB.started)))


def test_without_subscribers_everything_can_be_told(journal: Journal) -> None:
    """The library's engine has none."""
    events = Events(journal, ())
    events.can_tell(JobStarted(Job("a" * 16, Kind.BACKUP, "too long", JOB.started)))
    events.emit(JobStarted(JOB))
