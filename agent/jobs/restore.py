"""Restores: a command becomes an order for `agent.restore.flow`.

Belongs to the main thread.
"""

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.base.device_ids import DeviceIds
from agent.base.errors import ConfirmationPending
from agent.base.job import Job, Kind
from agent.base.refusals import Reason, Refused
from agent.base.roots import Root
from agent.base.sources import ArchiveSource
from agent.jobs.admission import Admission, Admitted
from agent.jobs.chosen_roots import ChosenRoots, refuse_choosing
from agent.jobs.confirmation import Confirmations
from agent.jobs.events import JobStarted
from agent.jobs.formats import read_format, unlock_for
from agent.jobs.foundation import Foundation
from agent.jobs.job_hooks import hook
from agent.jobs.preview import Previews
from agent.jobs.preview_record import PreviewNotes
from agent.jobs.requests.control import FinalizeRequest
from agent.jobs.requests.options import Key
from agent.jobs.requests.restore import RestoreRequest
from agent.jobs.restore_recovery import Recovery
from agent.jobs.restore_target import restore_target
from agent.jobs.running_job import Runner
from agent.jobs.task import Outcome, Tools
from agent.journal import UnfinishedJob
from agent.restore.memory import read_working

if TYPE_CHECKING:
    from agent.restore.choice import Choice
    from agent.restore.commit_confirmed import CommitConfirmed
    from agent.restore.flow import RestoreOrder
    from agent.restore.target import Amount, RestoreTarget


class Restores:
    def __init__(
        self,
        base: Foundation,
        runner: Runner,
        *,
        confirmations: Confirmations,
        previews: Previews,
        notes: PreviewNotes,
        recovery: Recovery,
    ) -> None:
        self._settings, self._staging, self._events = base.settings, base.staging, base.events
        self._device, self._own = base.device, base.own
        self._workers, self._runner, self._recovery = base.workers, runner, recovery
        self._confirmations, self._previews, self._notes = confirmations, previews, notes
        self._admission, self._chosen_roots = Admission(base.settings), ChosenRoots(base.settings)

    def restore(self, request: RestoreRequest) -> Admitted:
        """Admit a restore, or a preview of one. Raises `Refused`."""
        from agent.restore.flow import preview, restore

        job, tools = self._runner.new_job(Kind.RESTORE, request.correlation_id)
        order = self._order(request, job, tools)
        self._runner.refuse_unrecovered(root.directory for root in order.choice.roots)
        self._previews.refuse_while_waiting()
        if request.preview:
            return self._previews.admitted(
                job,
                tools,
                order.target,
                request.confirm_within_s,
                destination=order.destination,
                work=partial(preview, order),
            )
        return self._runner.admitted(
            job,
            tools,
            directory=order.target.directory,
            made=order.target.made,
            destination=order.destination,
            work=partial(restore, order),
            ended=partial(self.ended, job, request.source.facts()),
        )

    def _order(self, request: RestoreRequest, job: Job, tools: Tools) -> "RestoreOrder":
        from agent.restore.directories import missing
        from agent.restore.flow import RestoreOrder

        settings = self._settings
        unlock = unlock_for(request.key, settings.encryption)
        deliver = hook(settings, "restoreCmd", settings.restore_cmd, job)
        choice = self._choice(job, request, delivered=deliver is not None)
        device_id = request.wanted.device_id or self._device.id
        destination = self._admission.source(request.source, tools.connections, device_id)
        within_s = request.confirm_within_s
        confirmation = None if deliver else self._confirmations.confirmation(job, tools, within_s)
        source = self._source(request, choice, delivered=deliver is not None)
        made = list(dict.fromkeys(path for root in choice.roots for path in missing(root.directory)))
        return RestoreOrder(
            self._target(job, dict(enumerate(choice.roots)), made, request.mode, confirmation),
            self._staging.download(job.id),
            destination,
            request.wanted.search(
                self._device.archives, source, emptied_percent=settings.retention.emptied_percent
            ),
            choice,
            read_format(request.source, settings),
            unlock,
            deliver,
            device=self._accepted(request),
        )

    def _target(
        self,
        job: Job,
        roots: Mapping[int, Root],
        made: list[Path],
        mode: str,
        confirmation: "CommitConfirmed | None",
    ) -> "RestoreTarget":
        own = self._own.paths()
        return restore_target(self._settings, job, roots, made, mode, own=own, confirmation=confirmation)

    def _choice(self, job: Job, request: RestoreRequest, *, delivered: bool) -> "Choice":
        """Return what the request chooses; with `restoreCmd`, everything into a directory of its own."""
        from agent.restore.choice import Choice

        if not delivered:
            return self._chosen_roots.for_restore(request.selection, self._own.paths())
        _refuse_stages(request)
        refuse_choosing(request.selection, "restoreCmd", Key.RESTORE_DATA_TYPES, Key.RESTORE_PATHS)
        return Choice((Root("", self._staging.work_directory(job.id)),))

    def _accepted(self, request: RestoreRequest) -> DeviceIds | None:
        """Return the ids of the device whose archive is restored; None for any device."""
        if request.wanted.device_id:
            return DeviceIds(request.wanted.device_id)
        foreign = self._settings.restore.foreign if request.foreign is None else request.foreign
        return None if foreign else self._device.ids

    def _source(self, request: RestoreRequest, choice: "Choice", *, delivered: bool) -> ArchiveSource | None:
        """Return the source of the archives to choose from when the command names none; None for any source.

        Archives of a backupCmd have no source.
        """
        if choice.data_sets:
            return ArchiveSource.of_roots(choice.data_sets)
        if request.wanted.directory:
            return replace(ArchiveSource.of_roots(choice.roots), directory=request.wanted.directory)
        if self._settings.backup_cmd:
            return ArchiveSource()
        if not delivered:
            return ArchiveSource.of_roots(choice.roots)
        directory = request.selection.directory or self._settings.dir
        return ArchiveSource.of_roots([Root("", Path(os.path.realpath(directory)))]) if directory else None

    def finalize(self, request: FinalizeRequest) -> Admitted:
        """Admit the restore of the preview that waits. Raises `Refused` (NOT_FOUND, BUSY)."""
        from agent.restore.flow import finalize
        from agent.restore.target import Amount

        note = self._previews.asked_for(request.correlation_id)
        self._runner.refuse_second_job()
        self._runner.refuse_unrecovered(Path(directory) for directory, *_ in note.roots)
        job, tools = note.job.finalized(datetime.now(UTC)), self._workers.tools()
        within_s = request.confirm_within_s or note.confirm_within_s
        confirmation = self._confirmations.confirmation(job, tools, within_s)
        target = self._target(job, *note.roots_and_made(), note.mode, confirmation)
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
            ended=partial(self.ended, job, {}),
        )

    def go_on(self, unfinished: UnfinishedJob) -> None:
        """Take up an unconfirmed restore of an earlier run, which was recorded and told already."""
        from agent.restore.flow import go_on

        job, tools = unfinished.job, self._workers.tools()
        confirmation = self._confirmations.left(job, tools)
        roots = {left.number: Root("", left.directory) for left in read_working(unfinished.working)}
        target = restore_target(
            self._settings, job, roots, unfinished.made, "merge", confirmation=confirmation
        )
        self._runner.admitted(
            job,
            tools,
            directory=unfinished.directory,
            work=partial(go_on, target),
            ended=partial(self.ended, job, {}),
        ).begin()

    def ended(self, job: Job, facts: Mapping[str, str], outcome: "Outcome[Amount]") -> None:
        """Record and tell the end of a restore."""
        self._confirmations.ended()
        amount = outcome.result
        if outcome.error is ConfirmationPending:
            self._runner.release(job)
            return
        if amount is None:
            self._runner.end(job.failed(datetime.now(UTC), outcome.code, outcome.message))
        else:
            self._runner.end(job.finished(datetime.now(UTC), amount.note), {**amount.facts(), **facts})
        self._recovery.look_after(job.id)


def _refuse_stages(request: RestoreRequest) -> None:
    """Raise `Refused` for an option without an effect where `restoreCmd` restores."""
    for key, wish in ((Key.PREVIEW, request.preview), (Key.CONFIRM_WITHIN, request.confirm_within_s)):
        if wish:
            message = f"no '{key}' here: the device's restoreCmd decides what becomes of the files"
            raise Refused(Reason.INVALID, message)
