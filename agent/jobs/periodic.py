"""Periodic backups: `activate`, `deactivate`, and the ticks between. Belongs to the main thread.

When a tick is due is decided in `schedule`; here the decision is kept in the journal, told to the twin and
carried out. Commands and settings set the same frame; the later change wins.
"""

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import structlog

from agent.base.job import format_time, parse_time
from agent.base.refusals import Reason, Refused
from agent.jobs.admission import Admitted
from agent.jobs.events import Events, ScheduleChanged
from agent.jobs.requests.control import ActivateRequest, DeactivateRequest
from agent.jobs.schedule import (
    Decision,
    Frame,
    decide,
    device_offset,
)
from agent.journal import Journal
from agent.mailbox import Mailbox, Timer
from agent.settings import Settings

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 60.0
"""Longest time between two looks at the clock, so that a jump of it is noticed."""
_FRAME, _SETTLED = "schedule.frame", "schedule.settled"


@dataclass(frozen=True, slots=True)
class _Span:
    """What a command or the settings say; `origin` tells one edit of the settings from another."""

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
    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        mailbox: Mailbox,
        *,
        events: Events,
        backup: Callable[[], None],
    ) -> None:
        """`backup` makes one periodic backup, or raises `Refused` when it cannot begin now."""
        self._settings, self._journal, self._mailbox = settings, journal, mailbox
        self._events, self._backup = events, backup
        self._timer: Timer | None = None
        self._device_id = ""
        self._span = self._initial()

    def _initial(self) -> _Span:
        """The frame of the last change: of a command, unless the settings were edited since."""
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
        """The time in which periodic backups are made."""
        return self._frame(self._span)

    def begin(self, device_id: str) -> None:
        """The device knows who it is: ticks come from now on. Raises sqlite3.Error."""
        self._device_id = device_id
        if self._journal.notes.read(_FRAME) != self._span.to_text():
            self._keep(self._span)
        self._look()

    def _keep(self, span: _Span) -> None:
        with self._journal.unit():
            self._journal.notes.keep(_FRAME, span.to_text())
            self._journal.notes.keep(_SETTLED, "")  # of a new frame nothing has been dealt with

    # Commands

    def activate(self, request: ActivateRequest, _device_id: str) -> Admitted:
        """Admit periodic backups from `from` until `to`. Raises `Refused`."""
        span = _Span(True, request.start, request.end, datetime.now(UTC), self._span.origin)
        try:
            self._frame(span)
        except ValueError as error:
            raise Refused(Reason.INVALID, f"invalid 'activate' parameters: {error}") from error
        return Admitted(None, partial(self._change, span), self._look)

    def deactivate(self, _request: DeactivateRequest, _device_id: str) -> Admitted:
        """Admit the end of periodic backups."""
        span = _Span(False, None, None, datetime.now(UTC), self._span.origin)
        return Admitted(None, partial(self._change, span), self._look)

    def _change(self, span: _Span) -> None:
        with self._journal.unit() as unit:
            self._keep(span)
            self._events.emit(ScheduleChanged(self._frame(span)))
            unit.after_commit(partial(setattr, self, "_span", span))

    def _frame(self, span: _Span) -> Frame:
        """Raises ValueError when the end is before the start."""
        period = self._settings.period
        offset = device_offset(self._device_id, min(self._settings.schedule.jitter, period))
        return Frame(span.active, span.start, span.end, period, offset, span.activated)

    # Ticks

    def _look(self) -> None:
        """Run what is due, and come back when the next tick is, or in a while."""
        if self._timer:
            self._timer.cancel()
        if not self._span.active:
            return
        now, wait_s = datetime.now(UTC), LOOK_AGAIN_S
        try:
            next_due = self._run_due(now)
        except sqlite3.Error:
            log.exception("periodic backup put off: the journal cannot be written")
        else:
            wait_s = (next_due - now).total_seconds() if next_due else LOOK_AGAIN_S
        self._timer = self._mailbox.call_later(min(wait_s, LOOK_AGAIN_S), self._look)

    def _run_due(self, now: datetime) -> datetime | None:
        """Begin the backup that is due, if any; when the next one is. Raises sqlite3.Error."""
        kept = self._journal.notes.read(_SETTLED)
        settled = parse_time(kept) if kept else None
        decision = decide(self._frame(self._span), settled, now)
        with self._journal.unit():
            if decision.settled != settled:
                # Kept before the run begins: a run that crashes the agent is not run again for ever.
                self._journal.notes.keep(_SETTLED, format_time(decision.settled) if decision.settled else "")
            self._carry_out(decision)
        return decision.next_due

    def _carry_out(self, decision: Decision) -> None:
        if decision.clock_went_back:
            log.warning("the clock went back: periodic backups are planned anew")
        if decision.missed:
            log.warning("periodic backups missed", count=decision.missed)
        if decision.tick is None:
            return
        try:
            self._backup()
        except Refused as error:
            log.warning("periodic backup skipped", reason=error.message)
