"""The state of a schedule, for people and backends: its next backup, the last one, and what is late."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.base.times import NEVER_IN_ORDER, format_time
from agent.jobs.schedule_record import ScheduleRecord
from agent.journal import Journal
from agent.journal.jobs import JobRecord


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
