"""The preview of a restore: unpacked beside its target, it waits to be finalized or discarded.

There is at most one. While it waits, backups run, and no other restore begins. It is discarded after
`restore.previewTimeout`: it takes the room that the restore will need. Belongs to the main thread.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from agent.base.clock import BootClock, Countdown, note_interval_s
from agent.base.durations import format_duration
from agent.base.errors import IoError
from agent.base.job import Job, Kind, State
from agent.base.refusals import Reason, Refused
from agent.base.text import clipped
from agent.base.times import parse_time
from agent.jobs.admission import Admitted
from agent.jobs.confirmation import Confirmations
from agent.jobs.events import JobStarted
from agent.jobs.foundation import Foundation
from agent.jobs.job_options import restore_target
from agent.jobs.preview_record import PreviewNote, PreviewNotes, PreviewState
from agent.jobs.requests.control import DiscardRequest, FinalizeRequest
from agent.jobs.runner import Runner
from agent.jobs.worker import Outcome, Task, Tools
from agent.journal import JournalError
from agent.mailbox import Timer
from agent.transfer.context import Context, Destination

if TYPE_CHECKING:
    from agent.restore.commit_confirmed import CommitConfirmed
    from agent.restore.flow import PreviewResult
    from agent.restore.target import Amount, RestoreTarget

log = structlog.get_logger(__name__)

EXPIRED = "expired"
"""The status code of a preview that waited too long."""


class Previews:
    def __init__(
        self, base: Foundation, runner: Runner, notes: PreviewNotes, confirmations: Confirmations
    ) -> None:
        """`restored` has to be set: it records and tells the end of a restore."""
        self.restored: Callable[[Job, Mapping[str, str], Outcome[Amount]], None]
        self._settings, self._journal, self._workers = base.settings, base.journal, base.workers
        self._mailbox, self._own, self._events = base.mailbox, base.own, base.events
        self._runner, self._notes, self._confirmations = runner, notes, confirmations
        self._clock = BootClock()
        self._timer: Timer | None = None
        self._discarding = False

    @property
    def idle(self) -> bool:
        """Return False while a preview is being discarded."""
        return not self._discarding

    def begin(self) -> None:
        """Watch the preview that an earlier run of the agent left."""
        if self._notes.waiting:
            self._look()

    def refuse_while_waiting(self) -> None:
        """Raise `Refused` (BUSY) while a preview waits or is being discarded."""
        if note := self._notes.waiting:
            message = f"preview '{clipped(note.correlation_id, 80)}' is waiting: finalize or discard it first"
            raise Refused(Reason.BUSY, message)
        if self._discarding:
            raise Refused(Reason.BUSY, "a preview is being discarded: try again in a moment")

    # Making a preview

    def admitted(
        self,
        job: Job,
        tools: Tools,
        target: "RestoreTarget",
        within_s: float | None,
        *,
        destination: Destination,
        work: "Callable[[Context], PreviewResult]",
    ) -> Admitted:
        """Return the preview that `work` makes of `job`, ready to be recorded and begun."""
        job = replace(job, state=State.PREVIEW)
        note = PreviewNote.of(job, target, within_s)
        return self._runner.admitted(
            job,
            tools,
            directory=target.directory,
            record=partial(self._notes.begin, job, note),
            destination=destination,
            work=work,
            ended=partial(self._made, job, note),
        )

    def _made(self, job: Job, note: PreviewNote, outcome: "Outcome[PreviewResult]") -> None:
        self._runner.release(job)
        preview = outcome.result
        if preview is None:
            note = note.over(PreviewState.FAILED, outcome.code, outcome.message)
        else:
            limit_s = self._settings.restore.preview_timeout.total_seconds()
            note = replace(note, stand=PreviewState.WAITING, facts=asdict(preview))
            note = replace(note, countdown=Countdown.of(limit_s, self._clock))
        log.info(f"preview {note.stand}", code=note.code, reason=note.message, job=job.id)
        try:
            with self._journal.unit():
                self._notes.set(note)
                if preview is None:
                    self._journal.jobs.forget_preview(job.id)
        except JournalError:
            log.exception("preview failed: journal not writable", job=job.id)
            message = "the device cannot write its journal"
            self._notes.set_anyway(note.over(PreviewState.FAILED, IoError.code, message))
            if preview:
                self._discard(note)
        else:
            self.begin()

    # Ending a preview

    def finalize(self, request: FinalizeRequest) -> Admitted:
        """Admit the restore of the preview that waits. Raises `Refused` (NOT_FOUND, BUSY)."""
        from agent.restore.flow import finalize
        from agent.restore.target import Amount

        note = self._asked_for(request.correlation_id)
        self._runner.refuse_second_job()
        self._runner.refuse_unrecovered(Path(directory) for directory, *_ in note.roots)
        tools = self._workers.tools()
        job = self._job(note).finalized(datetime.now(UTC))
        within_s = request.confirm_within_s or note.confirm_within_s
        confirmation = self._confirmations.confirmation(job, tools, within_s)
        target = self._target(note, job, confirmation)
        amount = Amount(**{fact.name: note.facts.get(fact.name, "") for fact in fields(Amount)})

        def record() -> None:
            self._notes.finalized(note, job)
            self._events.emit(JobStarted(job))

        return self._runner.admitted(
            job,
            tools,
            directory=target.directory,
            record=record,
            work=partial(finalize, target, amount),
            ended=partial(self.restored, job, {}),
        )

    def discard(self, request: DiscardRequest) -> Admitted:
        """Admit the end of the preview that waits. Raises `Refused` (NOT_FOUND)."""
        note = self._asked_for(request.correlation_id)
        return Admitted(note.id, partial(self._notes.set, None), partial(self._discard, note))

    def _asked_for(self, wanted: str) -> PreviewNote:
        note = self._notes.waiting
        if note is None or wanted not in ("", note.correlation_id, note.id):
            which = f" with id '{clipped(wanted, 80)}'" if wanted else ""
            raise Refused(Reason.NOT_FOUND, f"no preview{which} is waiting")
        return note

    def _look(self) -> None:
        """Discard the preview when it has waited too long; otherwise note the time, and look again."""
        if self._timer:
            self._timer.cancel()
        if (note := self._notes.waiting) is None:
            return
        limit = self._settings.restore.preview_timeout
        note = self._notes.counted(note)
        left_s = note.left_s
        if left_s <= 0:
            message = f"not finalized within {format_duration(limit)} (restore.previewTimeout)"
            self._notes.set_anyway(note.over(PreviewState.DISCARDED, EXPIRED, message))
            self._discard(note)
            return
        if self._settings.restore.keep_preview:
            self._notes.set_anyway(note)
        wait_s = min(left_s, note_interval_s(limit.total_seconds()))
        self._timer = self._mailbox.call_later(wait_s, self._look)

    def _discard(self, note: PreviewNote) -> None:
        """Remove the preview in a thread; the next start removes what the thread could not."""
        from agent.restore.flow import discard

        job = self._job(note)
        log.info("preview discarded", correlation_id=job.correlation_id, job=job.id)

        def ended(_outcome: Outcome[None]) -> None:
            self._discarding = False
            try:
                self._journal.jobs.forget_preview(job.id)
            except JournalError:
                log.exception("preview not discarded: journal not writable", job=job.id)

        self._discarding = True
        self._workers.start(
            Task(
                owner=job.id,
                correlation_id=job.correlation_id,
                tools=self._workers.tools(),
                destination=None,
                work=partial(discard, self._target(note, job)),
                ended=ended,
            )
        )

    def _job(self, note: PreviewNote) -> Job:
        return Job(note.id, Kind.RESTORE, note.correlation_id, parse_time(note.started), State.PREVIEW)

    def _target(
        self, note: PreviewNote, job: Job, confirmation: "CommitConfirmed | None" = None
    ) -> "RestoreTarget":
        return restore_target(
            self._settings,
            job,
            *note.roots_and_made(),
            note.mode,
            own=self._own.paths(),
            confirmation=confirmation,
        )
