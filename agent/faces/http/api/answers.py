"""The types of the API's answers, for the OpenAPI document."""

from typing import Any, NotRequired, TypedDict


class Preview(TypedDict):
    """A preview that waits for its decision, or the end of the last one."""

    id: str
    correlationId: str
    state: str
    startTime: str
    code: NotRequired[str]
    message: NotRequired[str]
    added: NotRequired[int]
    changed: NotRequired[int]
    removed: NotRequired[int]
    kept: NotRequired[int]
    bytes: NotRequired[int]
    lost: NotRequired[list[str]]
    unexportable: NotRequired[list[str]]
    secondsLeft: NotRequired[int]


class RunningJob(TypedDict):
    """How far the job that runs has come: members about bytes are those of the phase."""

    id: str
    correlationId: str
    kind: str
    phase: str
    startTime: str
    phaseStartTime: str
    percent: int | None
    bytes: int
    totalBytes: int | None
    bytesPerSecond: int
    remainingSeconds: int | None


class Job(TypedDict):
    """A job: one that runs also has the members of `RunningJob`, one that has ended those of its history."""

    id: str
    correlationId: str
    kind: str
    state: str
    startTime: NotRequired[str]
    endTime: NotRequired[str]
    statusCode: NotRequired[str]
    message: NotRequired[str]
    directory: NotRequired[str]
    archive: NotRequired[str]
    archiveBytes: NotRequired[int]
    addedBytes: NotRequired[int]
    """Of a snapshot in a repository: the bytes that were sent."""
    filesNew: NotRequired[int]
    filesChanged: NotRequired[int]
    filesUnmodified: NotRequired[int]
    phase: NotRequired[str]
    percent: NotRequired[int | None]
    preview: NotRequired[Preview]


class JobPage(TypedDict):
    jobs: list[Job]
    next: NotRequired[str]
    """Give it back as `before`."""


class LastJob(TypedDict):
    id: str
    correlationId: str
    kind: str
    state: str
    startTime: str
    endTime: str
    statusCode: str
    message: str
    addedBytes: NotRequired[int]
    filesNew: NotRequired[int]
    filesChanged: NotRequired[int]
    filesUnmodified: NotRequired[int]


class Status(TypedDict):
    job: RunningJob | None
    last: LastJob | None
    """The end of the last job, while none runs."""
    preview: NotRequired[Preview]
    problem: NotRequired[str]


class Health(TypedDict):
    lastSuccess: str
    lastVerified: str
    lastError: str
    ageSeconds: int | None
    missed: int
    rpoViolated: bool


Schedule = TypedDict(
    "Schedule",
    {
        "active": bool,
        "from": str | None,
        "to": str | None,
        "period": str,
        "next": str | None,
        "missed": int,
        "refused": str,
    },
)
"""The periodic backups. `missed` were missed in a row, and `refused` is why the newest one did not begin."""


class TargetState(TypedDict):
    name: str
    path: str
    removable: bool
    present: bool
    freeBytes: NotRequired[int]
    problem: NotRequired[str]


class StoreState(TypedDict):
    """A store; nobody asks it whether it is there. A local one names its target."""

    name: str
    provider: str
    nameOption: str | None
    container: NotRequired[str]
    target: NotRequired[str]


class Destinations(TypedDict):
    targets: list[TargetState]
    stores: list[StoreState]


class Upload(TypedDict):
    id: str
    correlationId: str
    archive: str
    bytes: int
    state: str


class Uploads(TypedDict):
    uploads: list[Upload]


class Archive(TypedDict):
    name: str
    label: str
    """`backup`, or the name that its backup was given."""
    made: str
    isDated: bool
    """False when nobody knows when it was made."""
    encrypted: bool
    source: str | None
    files: int | None


class ArchivePage(TypedDict):
    archives: list[Archive]
    next: NotRequired[str]
    """Give it back as `after`."""


class ManifestAnswer(TypedDict):
    name: str
    manifest: dict[str, Any] | None
    """None for an archive that does not name its device."""
    restore: dict[str, str]
    """The options that name this archive in a request."""


class FileEntry(TypedDict):
    name: str
    kind: str
    """`file`, `directory` or `link`."""
    sizeBytes: int
    compressedBytes: NotRequired[int]
    mode: NotRequired[str]
    modified: NotRequired[str]
    uid: NotRequired[int]
    gid: NotRequired[int]
    hardLinkTo: NotRequired[str]


class FilePage(TypedDict):
    path: str
    entries: list[FileEntry]
    next: NotRequired[int]
    """Give it back as `after`."""


class Handle(TypedDict):
    handle: str
    seconds: int
