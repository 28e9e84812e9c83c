"""The values of the API's answers, for the OpenAPI document; loaded only for that."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class _Value(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, use_attribute_docstrings=True, extra="allow")


AnyObject = dict[str, Any]
Settings = dict[str, str | int | bool]


class Preview(_Value):
    """A preview that waits for its decision, or the end of the last one."""

    id: str
    correlation_id: str
    state: str
    """`waiting`, `failed` or `discarded`."""
    start_time: str
    code: str = ""
    message: str = ""
    added: int = 0
    changed: int = 0
    removed: int = 0
    kept: int = 0
    bytes: int = 0
    lost: list[str] = []
    """The first of what the device has now and would have no more."""
    unexportable: list[str] = []
    """The first of what the backup skipped when it was made."""
    seconds_left: int | None = None


class RunningJob(_Value):
    """The job that runs. Members about bytes are those of its phase, null while unknown."""

    id: str
    correlation_id: str
    kind: str
    phase: str
    start_time: str
    phase_start_time: str
    percent: int | None
    bytes: int
    total_bytes: int | None
    bytes_per_second: int
    remaining_seconds: int | None


class Job(_Value):
    """A job. One that runs has the members of `RunningJob`, too; one that has ended those of its history."""

    id: str
    correlation_id: str
    kind: str
    """`backup`, `restore` or `verify`."""
    state: str
    """`STARTED`, `PREVIEW`, `FINISHED` or `FAILED`."""
    start_time: str | None = None
    end_time: str | None = None
    status_code: str = ""
    """Why it failed, see docs/wire.md; empty when it did not."""
    message: str = ""
    archive: str | None = None
    archive_bytes: int | None = None
    added_bytes: int | None = None
    """Of a snapshot in a repository: the bytes that were sent."""
    files_new: int | None = None
    files_changed: int | None = None
    files_unmodified: int | None = None
    phase: str | None = None
    percent: int | None = None
    preview: Preview | None = None


class JobPage(_Value):
    jobs: list[Job]
    next: str | None = None
    """Given back as `before`, it continues; absent on the last page."""


class Remains(_Value):
    """Objects that interrupted jobs left in repositories; no snapshot needs them."""

    packs: int = 0
    indexes: int = 0
    locks: int = 0


class LastScheduled(_Value):
    """The newest backup of a schedule that has ended."""

    end_time: str
    state: str
    status_code: str


class StoreSchedule(_Value):
    """How the backups of a schedule stand at one of its stores."""

    missed: int
    """How many in a row were missed."""
    last_error: str
    """Why the newest one did not begin, or the code with which it failed; empty when it is well."""
    late: bool
    """True while a backup that was due is tried again."""
    last: LastScheduled | None


class ClockSchedule(StoreSchedule):
    """A schedule, with several stores as the one that stands worst."""

    next: str | None
    """When the next backup is due."""
    stores: dict[str, StoreSchedule] = {}
    """Each of its stores, when it has several."""


class Upload(_Value):
    id: str
    correlation_id: str
    archive: str
    bytes: int
    state: str
    """`WAITING` or `UPLOADING`."""


class Status(_Value):
    job: RunningJob | None
    last: Job | None
    """The end of the last job, while none runs."""
    preview: Preview | None = None
    problem: str | None = None
    remains: Remains | None = None
    retention: dict[str, str] = {}
    """By destination why the last prune did not remove its old archives."""
    schedules: dict[str, ClockSchedule] = {}
    uploads: list[Upload] = []
    """Archives that wait for their upload."""


class Health(_Value):
    last_success: str
    last_verified: str
    last_error: str
    age_seconds: int | None
    missed: int
    rpo_violated: bool


class Schedule(ClockSchedule):
    """The periodic backups."""

    active: bool
    start: str | None = Field(alias="from")
    end: str | None = Field(alias="to")
    period: str
    schedules: dict[str, ClockSchedule]
    """Those by the clock, by name."""


class Target(_Value):
    name: str
    path: str
    removable: bool
    present: bool
    free_bytes: int | None = None
    problem: str | None = None


class Store(_Value):
    """A store; nobody asks it whether it is there. A local one names its target."""

    name: str
    provider: str
    name_option: str | None
    """The option that names an archive there; null where that is not possible."""
    format: str = "zip"
    """`repository` for a store that keeps snapshots."""
    container: str | None = None
    target: str | None = None
    directory: str | None = None
    """The directory in the target, as the settings say it; without one, archives are at its top."""


class Destinations(_Value):
    targets: list[Target]
    stores: list[Store]


class Uploads(_Value):
    uploads: list[Upload]


class Archive(_Value):
    name: str
    label: str
    """`backup`, or the name that its backup was given."""
    made: str
    is_dated: bool
    """False when nobody knows when it was made."""
    encrypted: bool
    """True for all that needs a key: a snapshot is always encrypted, and the device has the password."""
    source: str | None
    """The saved directory or data sets, for people; null, as all that follows, where nobody knows."""
    directory: str | None
    """The directory that was saved; null for data sets, too."""
    data_sets: list[str] | None
    """The data sets that were saved; empty for a directory."""
    files: int | None
    bytes: int | None
    """The size of the archive; null for a snapshot."""
    verified: bool | None
    """The result of the last verification on this device."""
    retention_date: str | None
    """From then on the archive may be removed; null for no date, too."""


class ArchivePage(_Value):
    archives: list[Archive]
    next: str | None = None
    """Given back as `after`, it continues; absent on the last page."""


class ArchiveContent(_Value):
    name: str
    manifest: AnyObject | None
    """Null for an archive that does not name its device."""
    restore: dict[str, str]
    """The options that name this archive in a request."""


class Entry(_Value):
    name: str
    kind: str
    """`file`, `directory` or `link`."""
    size_bytes: int
    compressed_bytes: int | None = None
    mode: str | None = None
    modified: str | None = None
    uid: int | None = None
    gid: int | None = None
    hard_link_to: str | None = None


class FilePage(_Value):
    path: str
    entries: list[Entry]
    next: int | None = None
    """Given back as `after`, it continues; absent on the last page."""


class Handle(_Value):
    handle: str
    seconds: int
    """How long it is good for."""
