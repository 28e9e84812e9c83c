"""The progress of the job that runs, for the question `status` and for subscribers.

It is never written to the disk. Belongs to the main thread; workers post their progress.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from agent.base.job import Job
from agent.base.times import format_time

RATE_WINDOW_S = 10.0
"""The rate is measured over this time: a longer one would hide a stall."""


@dataclass(slots=True)
class _Watched:
    job: Job
    phase: str
    phase_began: datetime
    bytes_done: int = 0
    total_bytes: int | None = None
    """None while nobody knows how many bytes this phase will count."""
    ends_s: float | None = None
    """The time on the clock of `JobProgress` at which the phase ends by itself."""
    marks: list[tuple[float, int]] = field(default_factory=list)
    """Times and byte counts within the rate's window, oldest first."""


class JobProgress:
    """Follows the job that runs."""

    def __init__(self, changed: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`changed` is called after every change."""
        self._changed, self._clock = changed, clock
        self._watched: _Watched | None = None

    def began(self, job: Job) -> None:
        self._watched = _Watched(job, "starting", job.started)
        self._changed()

    def entered(self, phase: str) -> None:
        """Begin a phase of the job, and count its bytes from zero."""
        if watched := self._watched:
            marks = [(self._clock(), 0)]
            self._watched = _Watched(watched.job, phase, datetime.now(UTC), marks=marks)
            self._changed()

    def expected(self, total_bytes: int) -> None:
        """Set the number of bytes of the phase, which may be an estimate."""
        if watched := self._watched:
            watched.total_bytes = total_bytes
            self._changed()

    def moved(self, bytes_done: int) -> None:
        if watched := self._watched:
            now = self._clock()
            watched.bytes_done = bytes_done
            watched.marks.append((now, bytes_done))
            while len(watched.marks) > 2 and watched.marks[1][0] < now - RATE_WINDOW_S:
                del watched.marks[0]
            self._changed()

    def ends_in(self, left_s: float) -> None:
        """Set the seconds after which the phase ends by itself."""
        if watched := self._watched:
            watched.ends_s = self._clock() + left_s
            self._changed()

    def ended(self) -> None:
        self._watched = None
        self._changed()

    @property
    def job(self) -> Job | None:
        """Return the job that runs; None while none does."""
        return self._watched.job if self._watched else None

    def value(self) -> Mapping[str, Any] | None:
        """Return the job that runs, as a JSON object; None while none runs.

        `percent`, `totalBytes` and `remainingSeconds` are those of the phase, None while unknown.
        """
        if (watched := self._watched) is None:
            return None
        rate = _rate(watched.marks)
        return {
            "id": watched.job.id,
            "correlationId": watched.job.correlation_id,
            "kind": watched.job.kind.value,
            "phase": watched.phase,
            "startTime": format_time(watched.job.started),
            "phaseStartTime": format_time(watched.phase_began),
            "percent": _percent(watched),
            "bytes": watched.bytes_done,
            "totalBytes": watched.total_bytes,
            "bytesPerSecond": rate,
            "remainingSeconds": self._remaining_s(watched, rate),
        }

    def _remaining_s(self, watched: _Watched, rate: int) -> int | None:
        if watched.ends_s is None:
            return _remaining_s(watched, rate)
        return max(0, round(watched.ends_s - self._clock()))


def _percent(watched: _Watched) -> int | None:
    """Return whole percent, at most 99: the total may be an estimate."""
    if not watched.total_bytes:
        return None
    return min(99, 100 * watched.bytes_done // watched.total_bytes)


def _remaining_s(watched: _Watched, bytes_per_s: int) -> int | None:
    if watched.total_bytes is None or not bytes_per_s or watched.bytes_done > watched.total_bytes:
        return None
    return -((watched.bytes_done - watched.total_bytes) // bytes_per_s)


def _rate(marks: list[tuple[float, int]]) -> int:
    if len(marks) < 2 or marks[-1][0] <= marks[0][0]:
        return 0
    return max(0, round((marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0])))
