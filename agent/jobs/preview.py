"""The preview of a restore: unpacked beside its target, it waits to be finalized or discarded.

There is at most one. While it waits, backups run, and no other restore begins. It is discarded after
`restore.previewTimeout`: it takes the room that the restore will need. Belongs to the main thread.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from agent.base.clock import BootClock, Countdown, note_interval_s
from agent.base.durations import format_duration
from agent.base.errors import IoError
from agent.base.job import Job, State
from agent.base.refusals import Reason, Refused
from agent.base.text import clipped
from agent.jobs.admission import Admitted
from agent.jobs.foundation import Foundation
from agent.jobs.preview_record import PreviewNote, PreviewNotes, PreviewState
from agent.jobs.requests.control import DiscardRequest
from agent.jobs.restore_target import restore_target
from agent.jobs.running_job import Runner
from agent.jobs.task import Outcome, Task, Tools
from agent.journal import JournalError
from agent.mailbox import Timer
from agent.transfer.context import Context, Destination

if TYPE_CHECKING:
    from agent.restore.flow import PreviewResult
    from agent.restore.target import RestoreTarget

log = structlog.get_logger(__name__)

EXPIRED = "expired"
"""The status code of a preview that waited too long."""


class Previews:
    def __init__(self, base: Foundation, runner: Runner, notes: PreviewNotes) -> None:
        self._settings, self._journal, self._workers = base.settings, base.journal, base.workers
        self._mailbox, self._own = base.mailbox, base.own
        self._runner, self._notes = runner, notes
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

    def discard(self, request: DiscardRequest) -> Admitted:
        """Admit the end of the preview that waits. Raises `Refused` (NOT_FOUND)."""
        note = self.asked_for(request.correlation_id)
        return Admitted(note.id, partial(self._notes.set, None), partial(self._discard, note))

    def asked_for(self, wanted: str) -> PreviewNote:
        """Return the preview that waits, which must have this id if any. Raises `Refused` (NOT_FOUND)."""
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

        job = note.job
        log.info("preview discarded", correlation_id=job.correlation_id, job=job.id)

        def ended(_outcome: Outcome[None]) -> None:
            self._discarding = False
            try:
                self._journal.jobs.forget_preview(job.id)
            except JournalError:
                log.exception("preview not discarded: journal not writable", job=job.id)

        self._discarding = True
        target = restore_target(self._settings, job, *note.roots_and_made(), note.mode, own=self._own.paths())
        self._workers.start(
            Task(
                owner=job.id,
                correlation_id=job.correlation_id,
                tools=self._workers.tools(),
                work=partial(discard, target),
                ended=ended,
            )
        )
