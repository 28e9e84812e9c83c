"""The running job or the last one: the question `status`, and the twin's property `job`.

Belongs to the main thread.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from agent.jobs.device import Device
from agent.jobs.preview_record import PreviewNotes
from agent.jobs.progress import JobProgress
from agent.jobs.queries.fitting import encoded_bytes, shortened
from agent.jobs.queries.history import History
from agent.jobs.requests.control import StatusRequest
from agent.jobs.schedule_record import ScheduleState
from agent.journal.staged import Child

_BESIDE_BYTES = (
    len('"uploads":[],"uploadsMore":99,"schedules":{},"schedulesMore":99,') + len('"problem":') + 200
)
"""The room that a preview leaves while a job runs."""
_PREVIEW_BYTES = 600
"""The room for a preview beside other answers."""


def upload_value(child: Child, *, in_line: bool) -> Mapping[str, Any]:
    return {
        "id": child.child_id,
        "correlationId": child.parent_id,
        "archive": child.staged.path.name,
        "bytes": child.staged.size_bytes,
        "state": "UPLOADING" if in_line else "WAITING",
    }


class Status:
    def __init__(
        self,
        progress: JobProgress,
        history: History,
        previews: PreviewNotes,
        device: Device,
        *,
        remains: Callable[[], Mapping[str, int]],
        retention: Callable[[], Mapping[str, str]],
        schedules: Callable[[], Mapping[str, ScheduleState]],
        uploads: Callable[[], Iterable[tuple[Child, bool]]],
    ) -> None:
        """`remains` counts what interrupted jobs left in repositories, by kind; `retention` has problems.

        `uploads` are those that are pending, with True for those in line.
        """
        self._progress, self._history, self._previews = progress, history, previews
        self._device, self._schedules = device, schedules
        self._remains, self._retention, self._uploads = remains, retention, uploads

    def status(self, _request: StatusRequest, room_bytes: int) -> Mapping[str, Any]:
        """Return `job`, the running job; while none runs, also `last`, the end of the last job.

        `preview` is there when there is something to say of one, `problem` while nobody has said who the
        device is, `remains` when interrupted jobs left something in repositories, `retention` when the last
        prune had a problem at a destination, and `schedules` and `uploads` when there are any, as many as
        fit. Raises `JournalError`.
        """
        job = self._progress.value()
        room_bytes -= encoded_bytes({"job": job, "last": None, "preview": None})
        half_bytes = room_bytes - _BESIDE_BYTES if job else room_bytes // 2
        preview = self._previews.value(half_bytes)
        rest: dict[str, Any] = {"preview": preview} if preview else {}
        if self._device.problem:
            rest["problem"] = self._device.problem
        if not job and (remains := self._remains()):
            rest["remains"] = remains
        if retention := self._retention():
            rest["retention"] = retention
        if schedules := {name: state.value() for name, state in self._schedules().items()}:
            rest["schedules"] = schedules
        if uploads := self.uploads():
            rest["uploads"] = uploads
        rest = shortened(rest, ("uploads", "schedules", "retention"), half_bytes)
        last = None if job else self._history.last(room_bytes - encoded_bytes(rest))
        return {"job": job, "last": last, **rest}

    def uploads(self) -> list[Mapping[str, Any]]:
        """Return the pending uploads, oldest first. Raises `JournalError`."""
        return [upload_value(child, in_line=in_line) for child, in_line in self._uploads()]

    def waiting(self) -> dict[str, Any]:
        """Return what waits for a decision: `preview` and `uploads`, each when there is one."""
        preview = self._previews.waiting and self._previews.value(_PREVIEW_BYTES)
        members = {"preview": preview, "uploads": self.uploads()}
        return {name: value for name, value in members.items() if value}

    def schedule(self, room_bytes: int) -> Mapping[str, Any]:
        """Return the twin's property `schedule` with as many as fit, as a member; nothing without any."""
        found = {name: state.twin_value() for name, state in self._schedules().items()}
        return shortened({"schedule": found}, ("schedule",), room_bytes) if found else {}

    def preview(self, room_bytes: int) -> Mapping[str, Any] | None:
        """Return the preview that waits, or the end of the last one."""
        return self._previews.value(room_bytes)

    def job(self, room_bytes: int) -> Mapping[str, Any]:
        """Return the job as one object of at most `room_bytes`; its phase is `idle` while none runs."""
        return self._progress.value() or {"phase": "idle", "last": self._history.last(room_bytes)}
