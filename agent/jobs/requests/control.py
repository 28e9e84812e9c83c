"""The requests that steer jobs, uploads and the schedule, and those that only ask."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Self

from agent.base.errors import Cancelled
from agent.base.refusals import Reason, Refused
from agent.base.times import parse_moment
from agent.jobs.requests.options import Key, Selection, backup_selection
from agent.jobs.requests.raw import RawRequest, Request
from agent.jobs.requests.storage import StorageOptions, read_storage, required
from agent.settings import Settings


@dataclass(frozen=True, slots=True)
class StartRequest(Request):
    """An upload of a staged archive."""

    operation: ClassVar[str] = "start"

    child_id: str
    """The id in the upload request."""
    destination: StorageOptions
    info: dict[str, str]
    """Goes into `lastUpload`."""

    @classmethod
    def read(cls, raw: RawRequest, settings: Settings) -> Self:
        options = raw.options
        destination = required(read_storage(options, settings, Key.BACKUP_STORE), settings)
        return cls(raw.correlation_id, destination, options.prefixed("info."))


@dataclass(frozen=True, slots=True)
class TriggerRequest(Request):
    """A new upload request for every archive that waits."""

    operation: ClassVar[str] = "trigger"

    correlation_id: str
    passed_on: dict[str, str]
    """Options for the upload requests."""
    force: bool = False
    """Kanto's option: True to upload beside another upload, whatever `singleUpload` says."""

    @classmethod
    def read(cls, raw: RawRequest, _settings: Settings) -> Self:
        options = raw.options
        force = (options.text("force") or "").lower() == "true"
        return cls(raw.correlation_id, options.prefixed("options."), force)


@dataclass(frozen=True, slots=True)
class CancelRequest(Request):
    """A cancel of the job or the uploads with an id."""

    operation: ClassVar[str] = "cancel"

    correlation_id: str
    code: str
    """The status code to end with."""
    message: str

    @classmethod
    def read(cls, raw: RawRequest, _settings: Settings) -> Self:
        message = raw.message or "cancelled by a command"
        return cls(raw.correlation_id, raw.status_code or Cancelled.code, message)


@dataclass(frozen=True, slots=True)
class ActivateRequest(Request):
    """Periodic backups from `start` until `end`."""

    operation: ClassVar[str] = "activate"

    start: datetime | None
    """None for now."""
    end: datetime | None
    """None for never."""

    @classmethod
    def read(cls, raw: RawRequest, _settings: Settings) -> Self:
        try:
            return cls(parse_moment(raw.start), parse_moment(raw.end))
        except ValueError as error:
            raise Refused(Reason.INVALID, f"invalid 'activate' parameters: {error}") from error


class DeactivateRequest(Request):
    """The end of periodic backups."""

    operation: ClassVar[str] = "deactivate"


@dataclass(frozen=True, slots=True)
class FinalizeRequest(Request):
    """The restore whose preview waits."""

    operation: ClassVar[str] = "finalize"

    correlation_id: str = ""
    """Empty for the preview that waits, whatever its id."""
    confirm_within_s: float | None = None
    """None for the time that the preview was given."""

    @classmethod
    def read(cls, raw: RawRequest, _settings: Settings) -> Self:
        return cls(raw.correlation_id, raw.options.seconds(Key.CONFIRM_WITHIN))


@dataclass(frozen=True, slots=True)
class _RequestById(Request):
    correlation_id: str = ""

    @classmethod
    def read(cls, raw: RawRequest, _settings: Settings) -> Self:
        return cls(raw.correlation_id)


class DiscardRequest(_RequestById):
    """The removal of the preview with this id; with none, of the preview that waits."""

    operation: ClassVar[str] = "discard"


class ConfirmRequest(_RequestById):
    """A confirmation: the result of the restore with this id, or of the one that waits, stays."""

    operation: ClassVar[str] = "confirm"


class DescribeRequest(_RequestById):
    """Asks for all facts of the job with this id or correlation id."""

    operation: ClassVar[str] = "describe"


@dataclass(frozen=True, slots=True)
class PruneRequest(Request):
    """The removal of archives by the rules of `retention`."""

    operation: ClassVar[str] = "prune"

    dry_run: bool = False
    """True to remove nothing, and to answer with what would be removed."""

    @classmethod
    def read(cls, raw: RawRequest, _settings: Settings) -> Self:
        if not isinstance(raw.dry_run, bool):
            raise Refused(Reason.INVALID, "'dryRun' must be true or false")
        return cls(raw.dry_run)


class StatusRequest(Request):
    """Asks what the agent does now."""

    operation: ClassVar[str] = "status"


@dataclass(frozen=True, slots=True)
class HistoryRequest(Request):
    """Asks which jobs have ended, newest first."""

    operation: ClassVar[str] = "history"

    before: str | None = None
    """The id of a job, to ask for earlier jobs."""

    @classmethod
    def read(cls, raw: RawRequest, _settings: Settings) -> Self:
        return cls(raw.options.text("history.before"))


@dataclass(frozen=True, slots=True)
class InfoRequest(Request):
    """Asks what a backup would save now."""

    operation: ClassVar[str] = "info"

    selection: Selection = field(default_factory=Selection)

    @classmethod
    def read(cls, raw: RawRequest, _settings: Settings) -> Self:
        return cls(backup_selection(raw.options))
