"""Periodic backups: `activate`, `deactivate`, and the ticks between. Belongs to the main thread.

`schedule` decides when a tick is due, `attempts` when its backup is tried again. This module keeps the
decision in the journal, tells the twin, and carries it out. Commands and settings set one frame; the later
change wins.
"""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import structlog

from agent.base.job import format_time, parse_time
from agent.base.refusals import Reason, Refused
from agent.jobs.admission import Admitted
from agent.jobs.attempts import Attempt, next_step, wake_at
from agent.jobs.events import ScheduleChanged
from agent.jobs.foundation import Foundation
from agent.jobs.requests.control import ActivateRequest, DeactivateRequest
from agent.jobs.schedule import (
    Decision,
    Frame,
    decide,
    device_offset,
)
from agent.jobs.schedule_record import ScheduleRecord, Standing
from agent.journal import JournalError
from agent.mailbox import Timer

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 60.0
"""Longest time between two looks at the clock, so that a jump of it is noticed."""
_FRAME, _SETTLED = "schedule.frame", "schedule.settled"


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
    def __init__(self, base: Foundation, record: ScheduleRecord, backup: Callable[[str], None]) -> None:
        """`backup` makes one periodic backup under a correlation id. Raises `Refused` when none can begin."""
        self._settings, self._journal, self._mailbox = base.settings, base.journal, base.mailbox
        self._device, self._events, self._record, self._backup = base.device, base.events, record, backup
        # Later: the job that has ended must not be in the way of one that is due now.
        record.ended = partial(base.mailbox.post, self._look)
        self._timer: Timer | None = None
        self._begun = self._stopped = False
        self._told: Attempt | None = None
        """The attempt whose delay is in the log."""
        self._span = self._initial()

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

    @property
    def next_due(self) -> datetime | None:
        """Return the time of the next periodic backup; None when none will come. Raises `JournalError`."""
        if not self._begun:
            return None
        kept = self._journal.notes.read(_SETTLED)
        return decide(self.frame, parse_time(kept) if kept else None, datetime.now(UTC)).next_due

    def begin(self) -> None:
        """Let ticks come from now on. Raises `JournalError`."""
        self._begun = True
        if self._journal.notes.read(_FRAME) != self._span.to_text():
            self._keep(self._span)
        self._look()

    def stop(self) -> None:
        """Begin nothing any more: the agent ends."""
        self._stopped = True

    def _keep(self, span: _Span) -> None:
        with self._journal.unit():
            self._journal.notes.keep(_FRAME, span.to_text())
            self._journal.notes.keep(_SETTLED, "")  # of a new frame nothing has been dealt with
            self._record.keep(Standing())

    # Commands

    def activate(self, request: ActivateRequest) -> Admitted:
        """Admit periodic backups from `from` until `to`. Raises `Refused`."""
        span = _Span(True, request.start, request.end, datetime.now(UTC), self._span.origin)
        try:
            self._frame(span)
        except ValueError as error:
            raise Refused(Reason.INVALID, f"invalid 'activate' parameters: {error}") from error
        return Admitted(None, partial(self._change, span), self._look)

    def deactivate(self, _request: DeactivateRequest) -> Admitted:
        """Admit the end of periodic backups."""
        span = _Span(False, None, None, datetime.now(UTC), self._span.origin)
        return Admitted(None, partial(self._change, span), self._look)

    def _change(self, span: _Span) -> None:
        with self._journal.unit() as unit:
            # First, for those who look at the frame when they hear of its change.
            unit.after_commit(partial(setattr, self, "_span", span))
            self._keep(span)
            self._events.emit(ScheduleChanged(self._frame(span)))

    def _frame(self, span: _Span) -> Frame:
        """Raises ValueError when the end is before the start."""
        period = self._settings.period
        device_id = self._device.id if self._begun else ""  # asking for it may write to the journal
        offset = device_offset(device_id, min(self._settings.schedule.jitter, period))
        return Frame(span.active, span.start, span.end, period, offset, span.activated)

    # Ticks

    def _look(self) -> None:
        """Run what is due, and come back when the next tick is, or in a while."""
        if self._timer:
            self._timer.cancel()
        if not self._span.active or not self._begun or self._stopped:
            return
        # First, so that whatever goes wrong is tried again.
        self._timer = self._mailbox.call_later(LOOK_AGAIN_S, self._look)
        now = datetime.now(UTC)
        try:
            wake = self._run_due(now)
        except JournalError:
            log.exception("periodic backup postponed: journal not writable")
            return
        if wake and (wait_s := (wake - now).total_seconds()) < LOOK_AGAIN_S:
            self._timer.cancel()
            self._timer = self._mailbox.call_later(wait_s, self._look)

    def _run_due(self, now: datetime) -> datetime | None:
        """Begin the backup that is due, if any; return when to look again. Raises `JournalError`."""
        kept = self._journal.notes.read(_SETTLED)
        settled = parse_time(kept) if kept else None
        decision = decide(self.frame, settled, now)
        with self._journal.unit():
            if decision.settled != settled:
                # Kept before the run begins: what crashes the agent is tried again later, as any failure.
                self._journal.notes.keep(_SETTLED, format_time(decision.settled) if decision.settled else "")
            if decision.clock_was_set or decision.clock_went_back:
                self._begin_anew(now)
            attempt = self._carry_out(decision, now)
        return wake_at(decision, attempt, now)

    def _begin_anew(self, now: datetime) -> None:
        """Let the frame count as set now: the time when it was set never was."""
        span = replace(self._span, activated=now)
        with self._journal.unit() as unit:
            self._journal.notes.keep(_FRAME, span.to_text())
            unit.after_commit(partial(setattr, self, "_span", span))

    def _carry_out(self, decision: Decision, now: datetime) -> Attempt | None:
        """Do what the decision says; return the attempt that goes on."""
        standing = self._record.read()
        step = next_step(self.frame, decision, standing.attempt, now)
        if decision.clock_went_back:
            log.warning("clock set back by more than a period: periodic backups rescheduled")
        if decision.clock_was_set:
            log.info("clock set for the first time: periodic backups rescheduled")
        if step.missed:
            log.warning("periodic backups missed", count=step.missed, in_a_row=standing.missed + step.missed)
        now_standing = replace(standing, attempt=step.attempt, missed=standing.missed + step.missed)
        if step.begin and step.attempt:
            now_standing = self._try(now_standing, step.attempt, now)
        if now_standing != standing:
            self._record.keep(now_standing)
        if (attempt := now_standing.attempt) and attempt.failed and attempt != self._told:
            self._tell_delay(attempt, decision, now)
        return now_standing.attempt

    def _try(self, standing: Standing, attempt: Attempt, now: datetime) -> Standing:
        """Begin the backup of an attempt; return how the schedule stands then."""
        correlation_id = str(uuid.uuid4())
        about = {"due": format_time(attempt.tick), "failures": attempt.failures}
        log.info("periodic backup begins", correlation_id=correlation_id, **about)
        try:
            self._backup(correlation_id)
        except Refused as error:
            log.warning("periodic backup refused", reason=error.message)
            return replace(standing, attempt=attempt.failed_at(now), refused=error.reason.value)
        return replace(standing, attempt=attempt.begun(correlation_id), refused="")

    def _tell_delay(self, attempt: Attempt, decision: Decision, now: datetime) -> None:
        self._told = attempt
        wake = wake_at(decision, attempt, now)
        log.warning(
            "periodic backup delayed",
            due=format_time(attempt.tick),
            failures=attempt.failures,
            next_try=wake and format_time(wake),
        )
