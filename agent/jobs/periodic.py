"""Periodic backups as Kanto has them: `activate`, `deactivate`, and the frame of their ticks.

`frame` decides when a tick is due, `ticks` carries that out. Commands and settings set one frame, and the
later change wins. Belongs to the main thread.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import structlog

from agent.base.refusals import Reason, Refused
from agent.base.times import format_time, parse_time
from agent.jobs.admission import Admitted
from agent.jobs.events import ScheduleChanged
from agent.jobs.foundation import Foundation
from agent.jobs.frame import Frame, device_offset
from agent.jobs.requests.control import ActivateRequest, DeactivateRequest
from agent.jobs.schedule_record import ScheduleRecord
from agent.jobs.store_ticks import MakeBackup, StoreTicks
from agent.settings.schedules import KANTO, schedule_of

log = structlog.get_logger(__name__)

_FRAME = "schedule.frame"


@dataclass(frozen=True, slots=True)
class _Span:
    """A time frame from a command or the settings; `origin` tells one edit of the settings from another."""

    active: bool
    start: datetime | None
    end: datetime | None
    activated: datetime
    origin: str

    def to_text(self) -> str:
        times = [when and format_time(when) for when in (self.start, self.end, self.activated)]
        return json.dumps([self.active, *times, self.origin])

    @classmethod
    def from_text(cls, text: str) -> "_Span":
        active, start, end, activated, origin = json.loads(text)
        return cls(
            active, start and parse_time(start), end and parse_time(end), parse_time(activated), origin
        )


class Periodic:
    def __init__(self, base: Foundation, records: Sequence[ScheduleRecord], backup: MakeBackup) -> None:
        """`records` are those of `records_of`."""
        self._settings, self._journal = base.settings, base.journal
        self._device, self._events = base.device, base.events
        self._begun = False
        self._span = self._initial()
        self.ticks = StoreTicks(
            base,
            KANTO,
            schedule_of(base.settings),
            records,
            plan=self._plan,
            backup=backup,
            begins_anew=self._begin_anew,
        )

    def _initial(self) -> _Span:
        """Return the frame of the last change: of a command, unless the settings were edited since."""
        settings = self._settings
        start, end = settings.active_from, settings.active_till
        # As in Kanto, a beginning or an end is enough.
        active = bool(settings.active or start or end)
        origin = json.dumps([active, str(start), str(end)])
        kept = self._journal.notes.read(_FRAME)
        if kept and (span := _Span.from_text(kept)).origin == origin:
            return span
        return _Span(active, start, end, datetime.now(UTC), origin)

    @property
    def frame(self) -> Frame:
        """Return the time in which periodic backups are made."""
        return self._frame(self._span)

    def begin(self) -> None:
        """Let ticks come from now on. Raises `JournalError`."""
        self._begun = True
        if self._journal.notes.read(_FRAME) != self._span.to_text():
            self._keep(self._span)
        self.ticks.begin()

    def _plan(self) -> Frame | None:
        return self.frame if self._span.active else None

    def _keep(self, span: _Span) -> None:
        with self._journal.unit():
            self._journal.notes.keep(_FRAME, span.to_text())
            self.ticks.keep_new()

    # Commands

    def activate(self, request: ActivateRequest) -> Admitted:
        """Admit periodic backups from `from` until `to`. Raises `Refused`."""
        span = _Span(True, request.start, request.end, datetime.now(UTC), self._span.origin)
        try:
            self._frame(span)
        except ValueError as error:
            raise Refused(Reason.INVALID, f"invalid 'activate' parameters: {error}") from error
        return Admitted(None, partial(self._change, span), self.ticks.look)

    def deactivate(self, _request: DeactivateRequest) -> Admitted:
        """Admit the end of periodic backups."""
        span = _Span(False, None, None, datetime.now(UTC), self._span.origin)
        return Admitted(None, partial(self._change, span), self.ticks.look)

    def _change(self, span: _Span) -> None:
        with self._journal.unit() as unit:
            # First, for those who look at the frame when they hear of its change.
            unit.after_commit(partial(setattr, self, "_span", span))
            self._keep(span)
            self._events.emit(ScheduleChanged(self._frame(span)))

    def _frame(self, span: _Span) -> Frame:
        """Raises ValueError when the end is before the start."""
        period, schedule = self._settings.period, schedule_of(self._settings)
        device_id = self._device.id if self._begun else ""  # asking for it may write to the journal
        offset = device_offset(device_id, min(schedule.jitter, period))
        window = schedule.window or None
        return Frame(span.active, span.start, span.end, period, offset, span.activated, window)

    def _begin_anew(self, now: datetime) -> None:
        """Let the frame count as set now: the time when it was set never was."""
        span = replace(self._span, activated=now)
        with self._journal.unit() as unit:
            self._journal.notes.keep(_FRAME, span.to_text())
            unit.after_commit(partial(setattr, self, "_span", span))
