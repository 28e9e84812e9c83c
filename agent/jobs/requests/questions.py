"""The requests that only ask."""

from dataclasses import dataclass, field
from typing import ClassVar, Self

from agent.jobs.requests.raw import RawRequest
from agent.jobs.requests.selection import Selection, backup_selection


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """Asks what the agent does now."""

    operation: ClassVar[str] = "status"

    @classmethod
    def read(cls, _raw: RawRequest) -> Self:
        return cls()


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """Asks which jobs have ended, newest first."""

    operation: ClassVar[str] = "history"

    before: str | None = None
    """The id of a job, to ask for earlier ones."""

    @classmethod
    def read(cls, raw: RawRequest) -> Self:
        return cls(raw.value.options.text("history.before"))


@dataclass(frozen=True, slots=True)
class DescribeRequest:
    """Asks for all that is known of one job."""

    operation: ClassVar[str] = "describe"

    job_id: str
    """Its own id, or its correlation id."""

    @classmethod
    def read(cls, raw: RawRequest) -> Self:
        return cls(raw.value.correlation_id)


@dataclass(frozen=True, slots=True)
class InfoRequest:
    """Asks what a backup would save now."""

    operation: ClassVar[str] = "info"

    selection: Selection = field(default_factory=Selection)

    @classmethod
    def read(cls, raw: RawRequest) -> Self:
        """Raises `Refused`."""
        return cls(backup_selection(raw.value.options))
