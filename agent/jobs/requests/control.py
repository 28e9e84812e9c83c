"""The requests that steer jobs, uploads and the schedule."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Self

from agent.base.errors import Cancelled
from agent.base.refusals import Reason, Refused
from agent.base.times import parse_moment
from agent.jobs.requests.options import BACKUP_STORE, CONFIRM_WITHIN
from agent.jobs.requests.raw import RawRequest
from agent.jobs.requests.storage import StorageOptions, read_storage, required


@dataclass(frozen=True, slots=True)
class StartRequest:
    """An upload of a staged archive."""

    operation: ClassVar[str] = "start"

    child_id: str
    """The id under which it was offered."""
    destination: StorageOptions
    info: dict[str, str]
    """Goes into `lastUpload`."""

    @classmethod
    def read(cls, raw: RawRequest) -> Self:
        """Raises `Refused`."""
        options = raw.value.options
        destination = required(read_storage(options, raw.settings, BACKUP_STORE))
        return cls(raw.value.correlation_id, destination, options.prefixed("info."))


@dataclass(frozen=True, slots=True)
class TriggerRequest:
    """A new upload request for every archive that waits."""

    operation: ClassVar[str] = "trigger"

    correlation_id: str
    passed_on: dict[str, str]
    """Options for the upload requests."""
    force: bool = False
    """Kanto's option: also beside an upload, whatever `singleUpload` says."""

    @classmethod
    def read(cls, raw: RawRequest) -> Self:
        options = raw.value.options
        force = (options.text("force") or "").lower() == "true"
        return cls(raw.value.correlation_id, options.prefixed("options."), force)


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """A cancel of the job or the uploads with an id."""

    operation: ClassVar[str] = "cancel"

    correlation_id: str
    code: str
    """The status code to end with."""
    message: str

    @classmethod
    def read(cls, raw: RawRequest) -> Self:
        value = raw.value
        message = value.message or "cancelled by a command"
        return cls(value.correlation_id, value.status_code or Cancelled.code, message)


@dataclass(frozen=True, slots=True)
class ActivateRequest:
    """Periodic backups from `start` until `end`."""

    operation: ClassVar[str] = "activate"

    start: datetime | None
    """None for now."""
    end: datetime | None
    """None for never."""

    @classmethod
    def read(cls, raw: RawRequest) -> Self:
        """Raises `Refused`."""
        try:
            return cls(parse_moment(raw.value.start), parse_moment(raw.value.end))
        except ValueError as error:
            raise Refused(Reason.INVALID, f"invalid 'activate' parameters: {error}") from error


@dataclass(frozen=True, slots=True)
class DeactivateRequest:
    """The end of periodic backups."""

    operation: ClassVar[str] = "deactivate"

    @classmethod
    def read(cls, _raw: RawRequest) -> Self:
        return cls()


@dataclass(frozen=True, slots=True)
class FinalizeRequest:
    """The restore whose preview waits."""

    operation: ClassVar[str] = "finalize"

    correlation_id: str = ""
    """Empty for the preview that there is."""
    confirm_within_s: float | None = None
    """None leaves it to the preview."""

    @classmethod
    def read(cls, raw: RawRequest) -> Self:
        """Raises `Refused`."""
        return cls(raw.value.correlation_id, raw.value.options.seconds(CONFIRM_WITHIN))


@dataclass(frozen=True, slots=True)
class DiscardRequest:
    """The removal of the preview that waits."""

    operation: ClassVar[str] = "discard"

    correlation_id: str = ""
    """Empty for the preview that there is."""

    @classmethod
    def read(cls, raw: RawRequest) -> Self:
        return cls(raw.value.correlation_id)


@dataclass(frozen=True, slots=True)
class ConfirmRequest:
    """A confirmation: the result of a commit-confirmed restore stays."""

    operation: ClassVar[str] = "confirm"

    correlation_id: str = ""
    """Empty for the restore that there is."""

    @classmethod
    def read(cls, raw: RawRequest) -> Self:
        return cls(raw.value.correlation_id)


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """The removal of archives that have had their time."""

    operation: ClassVar[str] = "prune"

    dry_run: bool = False
    """True when nothing is removed and the answer says what would be."""

    @classmethod
    def read(cls, raw: RawRequest) -> Self:
        """Raises `Refused`."""
        if not isinstance(raw.value.dry_run, bool):
            raise Refused(Reason.INVALID, "'dryRun' must be true or false")
        return cls(raw.value.dry_run)
