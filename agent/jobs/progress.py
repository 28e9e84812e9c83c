"""How far the job that runs has come: for the question `status`, and for the twin's status feature.

Nothing of this is written to the disk. Belongs to the main thread; workers post what they have to say.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from agent.base.job import Job, format_time

RATE_WINDOW_S = 10.0
"""The rate is that of the last so many seconds, so that a stall shows."""


@dataclass(slots=True)
class _Watched:
    job: Job
    phase: str
    phase_began: datetime
    bytes_done: int = 0
    total_bytes: int | None = None
    """None while nobody knows how many bytes this phase will count."""
    ends_s: float | None = None
    """When the phase ends by itself, on the clock of the monitor."""
    marks: list[tuple[float, int]] = field(default_factory=list)
    """Times and byte counts within the rate's window, oldest first."""


class Monitor:
    """`changed` is to be set: it is called after everything that somebody may want to be told of."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._clock = clock
        self._watched: _Watched | None = None

    def began(self, job: Job) -> None:
        self._watched = _Watched(job, "starting", job.started)
        self.changed()

    def entered(self, phase: str) -> None:
        """The job has come to this phase; its bytes are counted anew."""
        if watched := self._watched:
            marks = [(self._clock(), 0)]
            self._watched = _Watched(watched.job, phase, datetime.now(UTC), marks=marks)
            self.changed()

    def expected(self, total_bytes: int) -> None:
        """The phase will count so many bytes, or probably so."""
        if watched := self._watched:
            watched.total_bytes = total_bytes
            self.changed()

    def moved(self, bytes_done: int) -> None:
        if watched := self._watched:
            now = self._clock()
            watched.bytes_done = bytes_done
            watched.marks.append((now, bytes_done))
            while len(watched.marks) > 2 and watched.marks[1][0] < now - RATE_WINDOW_S:
                del watched.marks[0]
            self.changed()

    def ends_in(self, left_s: float) -> None:
        """The phase ends by itself in so many seconds."""
        if watched := self._watched:
            watched.ends_s = self._clock() + left_s
            self.changed()

    def ended(self) -> None:
        self._watched = None
        self.changed()

    def value(self) -> Mapping[str, Any] | None:
        """The job that runs, as the twin and the command line see it; None when none does.

        `percent`, `totalBytes` and `remainingSeconds` are of the phase, and None where nobody knows.
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
    """Whole percent; 100 is only for the end, which a total that was a guess may come before."""
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
