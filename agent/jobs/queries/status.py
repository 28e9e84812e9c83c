"""The running job or the last one: the question `status`, and the twin's property `job`.

Belongs to the main thread.
"""

from collections.abc import Callable, Mapping
from typing import Any

from agent.jobs.device import Device
from agent.jobs.preview_record import PreviewNotes
from agent.jobs.progress import Monitor
from agent.jobs.queries.fitting import encoded_bytes, shortened
from agent.jobs.queries.history import History
from agent.jobs.requests.control import StatusRequest
from agent.jobs.schedule_state import ScheduleState


class Status:
    def __init__(
        self,
        monitor: Monitor,
        history: History,
        previews: PreviewNotes,
        device: Device,
        *,
        remains: Callable[[], Mapping[str, int]],
        schedules: Callable[[], Mapping[str, ScheduleState]],
    ) -> None:
        """`remains` counts what interrupted jobs left in repositories, by kind."""
        self._monitor, self._history, self._previews = monitor, history, previews
        self._device, self._remains, self._schedules = device, remains, schedules

    def status(self, _request: StatusRequest, room_bytes: int) -> Mapping[str, Any]:
        """Return `job`, the running job; while none runs, also `last`, the end of the last job.

        `preview` is there when there is something to say of one, `problem` while nobody has said who the
        device is, `remains` when interrupted jobs left something in repositories, and `schedules` when there
        are any, as many as fit. Raises `JournalError`.
        """
        job = self._monitor.value()
        room_bytes -= encoded_bytes({"job": job, "last": None, "preview": None})
        preview = self._previews.value(room_bytes if job else room_bytes // 2)
        rest: dict[str, Any] = {"preview": preview} if preview else {}
        if self._device.problem:
            rest["problem"] = self._device.problem
        if not job and (remains := self._remains()):
            rest["remains"] = remains
        if schedules := {name: state.value() for name, state in self._schedules().items()}:
            rest = shortened(rest | {"schedules": schedules}, ("schedules",), room_bytes // 2)
        last = None if job else self._history.last(room_bytes - encoded_bytes(rest))
        return {"job": job, "last": last, **rest}

    def preview(self, room_bytes: int) -> Mapping[str, Any] | None:
        """Return the preview that waits, or the end of the last one."""
        return self._previews.value(room_bytes)

    def job(self, room_bytes: int) -> Mapping[str, Any]:
        """Return the job as one object of at most `room_bytes`; its phase is `idle` while none runs."""
        return self._monitor.value() or {"phase": "idle", "last": self._history.last(room_bytes)}
