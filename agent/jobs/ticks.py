"""The ticks of one schedule: each backup begins when it is due, and is tried again.

The plan decides when a tick is due, `attempts` when its backup is tried again. This module keeps the decision
in the journal and carries it out. Belongs to the main thread.
"""

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from agent.base.refusals import Reason, Refused
from agent.base.times import format_time, parse_time
from agent.jobs.attempts import Attempt, next_step, wake_at
from agent.jobs.foundation import Foundation
from agent.jobs.frame import Decision
from agent.jobs.schedule_record import ScheduleRecord, Standing
from agent.journal import JournalError
from agent.mailbox import Timer

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 60.0
"""Longest time between two looks at the clock, so that a jump of it is noticed."""


class Plan(Protocol):
    """Decides when a tick is due."""

    @property
    def rule(self) -> str:
        """Return the rule of its ticks as a text: another text is another rule."""

    def decide(self, settled: datetime | None, now: datetime) -> Decision:
        """Return what is due at `now`, when everything up to `settled` has been dealt with."""

    @property
    def window(self) -> timedelta | None:
        """Return how long a backup is tried again; None until the next tick is due."""

    def has_ended(self, now: datetime) -> bool:
        """Return True when no backup is made or tried any more."""


class Ticks:
    """The ticks of one schedule at one of its stores; `record` is their record. See `StoreTicks`."""

    def __init__(
        self,
        base: Foundation,
        plan: Callable[[], Plan | None],
        record: ScheduleRecord,
        *,
        backup: Callable[[str, datetime], None],
        in_line: Callable[[], bool],
        begins_anew: Callable[[datetime], None] = lambda _now: None,
    ) -> None:
        """`plan` returns None while the schedule is switched off.

        `backup` makes the backup of a tick under a correlation id, or raises `Refused` when it cannot begin
        now. `in_line` returns True while another store of the schedule has its backup.
        `begins_anew` is told, in the unit of work, that the clock has shown times that never were.
        """
        self._journal, self._mailbox, self._plan = base.journal, base.mailbox, plan
        self._record, self._backup, self._begins_anew = record, backup, begins_anew
        self._in_line, self._about = in_line, record.about
        self._timer: Timer | None = None
        self._begun = self._stopped = False
        self._told: Attempt | None = None
        """The attempt whose delay is in the log."""

    @property
    def settled(self) -> datetime | None:
        """Return the last tick that was dealt with. Raises `JournalError`."""
        return self._kept("settled")

    @property
    def begun(self) -> datetime | None:
        """Return the time from which on ticks count; None before the first look. Raises `JournalError`."""
        return self._kept("begun")

    def _kept(self, fact: str) -> datetime | None:
        kept = self._journal.notes.read(self._record.note(fact))
        return parse_time(kept) if kept else None

    @property
    def next_due(self) -> datetime | None:
        """Return the time of the next backup; None when none will come. Raises `JournalError`."""
        plan = self._plan()
        return plan.decide(self.settled, datetime.now(UTC)).next_due if plan and self._begun else None

    def begin(self) -> None:
        """Let ticks come from now on. Raises `JournalError`."""
        self._begun = True
        self.look(at_once=True)  # nothing runs now that a backup has waited for

    def stop(self) -> None:
        """Begin nothing any more: the agent ends."""
        self._stopped = True

    def keep_new(self) -> None:
        """Note, in the open unit of work, that the plan is new: none of its ticks has been dealt with."""
        self._journal.notes.keep(self._record.note("settled"), "")
        self._record.keep(Standing())

    def look(self, *, at_once: bool = False) -> None:
        """Run what is due, and come back when the next tick is, or in a while.

        With `at_once`, a backup that waited for another job is tried now.
        """
        if self._timer:
            self._timer.cancel()
        plan = self._plan()
        if plan is None or not self._begun or self._stopped:
            return
        # First, so that whatever goes wrong is tried again.
        self._timer = self._mailbox.call_later(LOOK_AGAIN_S, self.look)
        now = datetime.now(UTC)
        try:
            wake = self._run_due(plan, now, at_once=at_once)
        except JournalError:
            log.exception("periodic backup postponed: journal not writable", **self._about)
            return
        if wake and (wait_s := (wake - now).total_seconds()) < LOOK_AGAIN_S:
            self._timer.cancel()
            self._timer = self._mailbox.call_later(wait_s, self.look)

    def _run_due(self, plan: Plan, now: datetime, *, at_once: bool) -> datetime | None:
        """Begin the backup that is due, if any; return when to look again. Raises `JournalError`."""
        settled, rule = self.settled, self._journal.notes.read(self._record.note("rule"))
        decision = plan.decide(settled, now)
        if rule not in (None, plan.rule):
            # An edited schedule: nobody waited for the ticks that the new rule has in the past.
            decision = replace(decision, missed=0)
        with self._journal.unit():
            if rule != plan.rule:
                self._journal.notes.keep(self._record.note("rule"), plan.rule)
            if decision.settled != settled:
                # Kept before the run begins: what crashes the agent is tried again later, as any failure.
                kept = format_time(decision.settled) if decision.settled else ""
                self._journal.notes.keep(self._record.note("settled"), kept)
                if settled is None or decision.clock_went_back:
                    self._journal.notes.keep(self._record.note("begun"), kept)
            if decision.clock_was_set or decision.clock_went_back:
                self._begins_anew(now)
            attempt = self._carry_out(plan, decision, now, at_once=at_once)
        return wake_at(decision, attempt, now)

    def _carry_out(self, plan: Plan, decision: Decision, now: datetime, *, at_once: bool) -> Attempt | None:
        """Do what the decision says; return the attempt that goes on."""
        standing = self._record.read()
        before = standing.attempt
        step = next_step(
            decision,
            before,
            now,
            is_over=before is not None and (plan.has_ended(now) or before.has_passed(plan.window, now)),
            at_once=at_once and standing.refused == Reason.BUSY,
        )
        missed = standing.missed + step.missed
        self._tell_clock(decision)
        if step.missed:
            log.warning("periodic backups missed", count=step.missed, in_a_row=missed, **self._about)
        now_standing = replace(standing, attempt=step.attempt, missed=missed)
        if step.begin and step.attempt:
            now_standing = self._try(now_standing, step.attempt, now)
        if now_standing != standing:
            self._record.keep(now_standing)
        attempt = now_standing.attempt
        if attempt and attempt.failed and not attempt.in_line and attempt != self._told:
            self._tell_delay(attempt, decision, now)
        return attempt

    def _try(self, standing: Standing, attempt: Attempt, now: datetime) -> Standing:
        """Begin the backup of an attempt; return how the schedule stands then."""
        if self._in_line():
            if standing.refused != Reason.BUSY:
                log.info("periodic backup waits for that of another store", **self._about)
            return replace(standing, attempt=attempt.waiting(now), refused=Reason.BUSY.value)
        correlation_id = str(uuid.uuid4())
        about = {"due": format_time(attempt.tick), "failures": attempt.failures, **self._about}
        log.info("periodic backup begins", correlation_id=correlation_id, **about)
        try:
            self._backup(correlation_id, attempt.tick)
        except Refused as error:
            log.warning("periodic backup refused", reason=error.message, **self._about)
            return replace(standing, attempt=attempt.failed_at(now), refused=error.reason.value)
        return replace(standing, attempt=attempt.begun(correlation_id, now), refused="")

    def _tell_clock(self, decision: Decision) -> None:
        if decision.clock_went_back:
            log.warning("clock set back by more than a period: periodic backups rescheduled", **self._about)
        if decision.clock_was_set:
            log.info("clock set for the first time: periodic backups rescheduled", **self._about)

    def _tell_delay(self, attempt: Attempt, decision: Decision, now: datetime) -> None:
        self._told = attempt
        wake = wake_at(decision, attempt, now)
        log.warning(
            "periodic backup delayed",
            due=format_time(attempt.tick),
            failures=attempt.failures,
            next_try=wake and format_time(wake),
            **self._about,
        )
