"""The commit-confirmed restore that waits for `confirm`, and the time that is left for that.

There is at most one, the job that runs. The time left is noted in the journal now and then, and therefore
continues over restarts and boots. Belongs to the main thread.
"""

import json
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog

from agent.base.clock import BootClock, note_interval_s
from agent.base.durations import format_duration
from agent.base.errors import NotConfirmed
from agent.base.job import CONFIRMED, UNCONFIRMED, VERDICT, Job, Kind, State
from agent.base.refusals import Reason, Refused
from agent.base.text import clipped
from agent.jobs.admission import Admitted
from agent.jobs.foundation import Foundation
from agent.jobs.job_hooks import hook
from agent.jobs.requests.control import CancelRequest, ConfirmRequest
from agent.jobs.task import Tools
from agent.journal import JournalError
from agent.mailbox import Timer
from agent.restore.commit_confirmed import CommitConfirmed, ConfirmationNote
from agent.transfer.context import RunHook

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Waiting:
    job: Job
    tools: Tools
    confirmation: CommitConfirmed
    note: ConfirmationNote
    over: bool = False
    """True when the restore is being reverted: a `confirm` is too late."""


class Confirmations:
    def __init__(self, base: Foundation) -> None:
        self._settings, self._journal = base.settings, base.journal
        self._mailbox, self._progress = base.mailbox, base.progress
        self._clock = BootClock()
        self._current: _Waiting | None = None
        self._timer: Timer | None = None

    @property
    def waiting(self) -> bool:
        return self._current is not None

    def confirmation(self, job: Job, tools: Tools, within_s: float | None) -> CommitConfirmed | None:
        """Return the decision of a commit-confirmed restore; None for any other restore."""
        health = self._health(job)
        if health is None and within_s is None:
            return None
        return self._made(job, tools, ConfirmationNote(within_s), health)

    def left(self, job: Job, tools: Tools) -> CommitConfirmed:
        """Return the decision of a restore that an earlier run of the agent left unconfirmed."""
        known = self._journal.checkpoints.of(job.id)
        note = ConfirmationNote.from_text(known[UNCONFIRMED])
        confirmation = self._made(job, tools, note, self._health(job))
        if CONFIRMED in known:
            confirmation.decision.confirm()
        return confirmation

    def _health(self, job: Job) -> RunHook | None:
        return hook(self._settings, "restore.healthCmd", self._settings.restore.health_cmd, job)

    def _made(
        self, job: Job, tools: Tools, note: ConfirmationNote, health: RunHook | None
    ) -> CommitConfirmed:
        confirmation = CommitConfirmed(
            note, lambda note: self._mailbox.post(partial(self._began, entry, note)), health
        )
        entry = _Waiting(job, tools, confirmation, note)
        return confirmation

    def _began(self, entry: _Waiting, note: ConfirmationNote) -> None:
        entry.note, self._current = note, entry
        log.info("restore waits for confirmation", job=entry.job.id, correlation_id=entry.job.correlation_id)
        self._look(entry)

    def ended(self) -> None:
        """Stop waiting: the job has ended, or the agent stops."""
        self._current = None
        if self._timer:
            self._timer.cancel()

    def _look(self, entry: _Waiting) -> None:
        """Revert the restore when its time is up; otherwise note the time left, and look again."""
        within_s = entry.note.within_s
        if self._current is not entry or within_s is None:
            return
        entry.note = entry.note.counted(self._clock)
        assert entry.note.countdown
        left_s = entry.note.countdown.left_s
        self._progress.ends_in(left_s)
        if left_s <= 0:
            entry.over = True
            within = format_duration(timedelta(seconds=within_s))
            entry.confirmation.decision.refuse(
                NotConfirmed(f"not confirmed within {within}: the old data is back")
            )
            return
        self._note(entry)
        wait_s = min(left_s, note_interval_s(within_s))
        self._timer = self._mailbox.call_later(wait_s, partial(self._look, entry))

    def _note(self, entry: _Waiting) -> None:
        try:
            self._journal.checkpoints.replace(entry.job.id, UNCONFIRMED, entry.note.to_text())
        except JournalError:
            log.exception("elapsed time not saved: journal not writable", job=entry.job.id)

    # Confirming

    def confirm(self, request: ConfirmRequest) -> Admitted:
        """Admit the confirmation of the restore that waits. Raises `Refused` (NOT_FOUND)."""
        wanted, entry = request.correlation_id, self._current
        if entry is None or wanted not in ("", entry.job.correlation_id, entry.job.id):
            raise Refused(Reason.NOT_FOUND, self._why_not(wanted))
        if entry.over or entry.tools.token.event.is_set():
            raise Refused(Reason.NOT_FOUND, "too late: the restore is being reverted")

        def begin() -> None:
            if self._timer:
                self._timer.cancel()
            entry.confirmation.decision.confirm()

        return Admitted(entry.job.id, partial(self._record, entry), begin)

    def _record(self, entry: _Waiting) -> None:
        """Keep the confirmation over restarts; only a health command can revert the restore now."""
        self._journal.checkpoints.keep(entry.job.id, CONFIRMED, "yes")

    def cancelling(self, request: CancelRequest) -> None:
        """Keep a cancel as part of the open unit: a crash does not undo it."""
        entry = self._current
        if entry is None or entry.job.correlation_id != request.correlation_id:
            return
        if entry.confirmation.decision.is_confirmed:
            return
        self._journal.checkpoints.keep(entry.job.id, VERDICT, json.dumps([request.code, request.message]))

    def _why_not(self, wanted: str) -> str:
        shown = f" with id '{clipped(wanted, 80)}'" if wanted else ""
        messages = (
            record.message
            for record in self._journal.jobs.ended_with_id(wanted)
            if (record.kind, record.state) == (Kind.RESTORE, State.FAILED)
        )
        message = next(messages, None)
        late = "" if message is None else f"; that restore was reverted: {clipped(message, 200)}"
        return f"no restore{shown} waits for a confirmation{late}"
