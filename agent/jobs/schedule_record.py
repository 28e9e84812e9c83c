"""The record of a schedule in the journal: the attempt that goes on, and what was missed.

It hears of the ends of jobs as a subscriber, so that an end and what follows from it are kept together, also
when the next run of the agent reports the end. `ScheduleState` is for others. Belongs to the main thread.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from agent.base.job import Job, State
from agent.base.refusals import Reason
from agent.base.times import NEVER_IN_ORDER, format_time, parse_time
from agent.jobs.attempts import Attempt
from agent.jobs.events import Event, JobEnded, Subscriber
from agent.journal import Journal, Unit
from agent.journal.jobs import JobRecord
from agent.mailbox import Action
from agent.settings.schedules import KANTO


@dataclass(frozen=True, slots=True)
class Standing:
    attempt: Attempt | None = None
    missed: int = 0
    """Ticks in a row that were missed; a periodic backup that succeeds sets it to 0."""
    refused: str = ""
    """The reason why the newest try did not become a job; empty when it did."""

    @property
    def problem(self) -> str:
        """Return why the newest try did not become a job; to wait in line for the first one is no problem."""
        return "" if self.attempt and self.attempt.in_line else self.refused


@dataclass(slots=True)
class ScheduleRecord(Subscriber):
    journal: Journal
    name: str = ""
    """The name of the schedule; empty for that of periodic backups."""
    store: str = ""
    """Its store, when the schedule has several."""
    changed: Action = lambda: None
    """Called after the record has changed."""
    ended: Action = field(default=lambda: None)
    """To be set: called after a job of the schedule has ended, or after any job that it waits for."""

    def note(self, fact: str) -> str:
        """Return the name of a note about the schedule in the journal."""
        name = self.name or (KANTO if self.store else "")
        return ".".join(filter(None, ("schedule", name, self.store, fact)))

    @property
    def about(self) -> dict[str, str]:
        """Return the names of schedule and store, for the log."""
        return {key: text for key, text in (("schedule", self.name), ("store", self.store)) if text}

    def read(self) -> Standing:
        text = self.journal.notes.read(self.note("record"))
        return _from_text(text) if text else Standing()

    def keep(self, standing: Standing) -> None:
        """Keep it, as part of the unit of work that is open or in one of its own. Raises `JournalError`."""
        with self.journal.unit() as unit:
            self.journal.notes.keep(self.note("record"), _to_text(standing))
            unit.after_commit(self.changed)

    def cancelling(self, correlation_id: str) -> None:
        """Note that a person cancels the job with this id: it is not tried again."""
        standing = self.read()
        if (attempt := standing.attempt) and attempt.correlation_id == correlation_id:
            self.keep(replace(standing, attempt=replace(attempt, cancelled=True)))

    def give_up(self) -> None:
        """Forget the attempt, which nobody wants any more."""
        if (standing := self.read()).attempt:
            self.keep(replace(standing, attempt=None, refused=""))

    # A subscriber of events

    def tell(self, event: Event, unit: Unit) -> None:
        if not isinstance(event, JobEnded) or not event.kept:
            return
        standing = self.read()
        if (attempt := standing.attempt) and attempt.correlation_id == event.job.correlation_id:
            self.keep(_after(standing, attempt, event.job))
            unit.after_commit(self.ended)
        elif standing.refused == Reason.BUSY:
            unit.after_commit(self.ended)


def _after(standing: Standing, attempt: Attempt, job: Job) -> Standing:
    """Return how the schedule stands after the job of its attempt has ended."""
    if job.state is State.FINISHED:
        return Standing()
    again = None if attempt.cancelled else attempt.failed_at(datetime.now(UTC))
    return replace(standing, attempt=again, refused="")


def _to_text(standing: Standing) -> str:
    attempt = standing.attempt
    return json.dumps(
        {
            "missed": standing.missed,
            "refused": standing.refused,
            "attempt": attempt
            and {
                "tick": format_time(attempt.tick),
                "correlationId": attempt.correlation_id,
                "failures": attempt.failures,
                "failed": attempt.failed and format_time(attempt.failed),
                "cancelled": attempt.cancelled,
                "since": attempt.since and format_time(attempt.since),
            },
        }
    )


def _from_text(text: str) -> Standing:
    value: dict[str, Any] = json.loads(text)
    found = value["attempt"]
    attempt = found and Attempt(
        parse_time(found["tick"]),
        found["correlationId"],
        found["failures"],
        found["failed"] and parse_time(found["failed"]),
        found["cancelled"],
        (since := found.get("since")) and parse_time(since),
    )
    return Standing(attempt, value["missed"], value["refused"])


@dataclass(frozen=True, slots=True)
class StoreState:
    """The state of a schedule's backups at one of its stores."""

    missed: int
    last_error: str
    """The reason why the newest one did not begin, else the code with which it failed; empty for neither."""
    is_late: bool
    """True while a backup that was due is tried again."""
    last: JobRecord | None
    """The newest one that has ended, as far as the history reaches."""

    def value(self) -> dict[str, Any]:
        """Return it as a member of an answer."""
        last = self.last and {
            "endTime": self.last.ended, "state": self.last.state, "statusCode": self.last.status_code
        }  # fmt: skip
        return {"missed": self.missed, "lastError": self.last_error, "late": self.is_late, "last": last}


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """The state of one schedule; of several stores the worst one counts."""

    next_due: datetime | None
    stores: Mapping[str, StoreState]
    """By name; one with an empty name when the schedule does not have several."""

    def value(self) -> dict[str, Any]:
        """Return it as a member of an answer."""
        states = list(self.stores.values())
        whole = StoreState(
            max(state.missed for state in states),
            next((state.last_error for state in states if state.last_error), ""),
            any(state.is_late for state in states),
            max((state.last for state in states if state.last), key=lambda last: last.ended, default=None),
        )
        value = {"next": self.next_due and format_time(self.next_due), **whole.value()}
        if len(states) > 1:
            value["stores"] = {name: state.value() for name, state in self.stores.items()}
        return value

    def twin_value(self) -> dict[str, Any]:
        """Return it as a member of the twin's property `schedule`: short, with times that can be searched."""
        value = self.value()
        last = value.pop("last")
        late = [name for name, state in self.stores.items() if name and state.is_late]
        value.pop("stores", None)
        value["next"] = value["next"] or NEVER_IN_ORDER
        value["last"] = last["endTime"] if last else NEVER_IN_ORDER
        return value | ({"lateStores": late} if late else {})


def store_state(journal: Journal, schedule: str, record: ScheduleRecord) -> StoreState:
    """Return the state of a schedule at the store of `record`. Raises `JournalError`."""
    standing = record.read()
    last = journal.jobs.last_scheduled(schedule, record.store)
    return StoreState(
        standing.missed,
        standing.problem or (last.status_code if last else ""),
        standing.attempt is not None and standing.attempt.failures > 0,
        last,
    )
