"""Events of the engine, and its subscribers.

An event is told inside the journal's unit of work. A subscriber that keeps messages writes them there, and
sends them by `unit.after_commit`: a rollback drops both.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from itertools import count

from agent.base.job import Job, Upload
from agent.jobs.frame import Frame
from agent.journal import Journal, Unit
from agent.journal.staged import Child


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    number: int = 0
    """Grows from event to event in one run of the agent; `Events.emit` sets it."""


@dataclass(frozen=True, slots=True)
class JobStarted(Event):
    job: Job


@dataclass(frozen=True, slots=True)
class JobProgressed(Event):
    """The progress of the running job has changed, or no job runs any more: see `JobProgress`."""


@dataclass(frozen=True, slots=True)
class JobEnded(Event):
    job: Job
    kept: bool = True
    """False while the journal cannot keep the end; the event is told again when it is kept."""


@dataclass(frozen=True, slots=True)
class UploadRequested(Event):
    """A pending upload needs a destination."""

    child: Child


@dataclass(frozen=True, slots=True)
class UploadChanged(Event):
    upload: Upload


@dataclass(frozen=True, slots=True)
class ScheduleChanged(Event):
    frame: Frame


@dataclass(frozen=True, slots=True)
class ArchiveRemoved(Event):
    """Retention has removed an archive."""

    place: str
    name: str


class Subscriber(ABC):
    """Is told of every event. Belongs to the main thread."""

    def can_tell(self, event: Event) -> None:  # noqa: B027 (most can pass on any event)
        """Raise `Refused` when the event could not be passed on; the command is refused then."""

    @abstractmethod
    def tell(self, event: Event, unit: Unit) -> None:
        """Take an event as part of the unit of work that is open."""


class Events:
    """Passes events on. Belongs to the main thread."""

    def __init__(self, journal: Journal, subscribers: tuple[Subscriber, ...]) -> None:
        self._journal, self._subscribers = journal, subscribers
        self._numbers = count(1)

    def can_tell(self, event: Event) -> None:
        """Raise `Refused` when one of the subscribers cannot pass the event on."""
        for subscriber in self._subscribers:
            subscriber.can_tell(event)

    def emit(self, event: Event) -> None:
        """Tell an event, as part of the unit of work that is open or as one of its own."""
        numbered = replace(event, number=next(self._numbers))
        with self._journal.unit() as unit:
            for subscriber in self._subscribers:
                subscriber.tell(numbered, unit)
