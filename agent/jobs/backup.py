"""Backups: a command becomes an order for `agent.save.pipeline`, and its result the end of the job.

Belongs to the main thread.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent import __version__
from agent.base.job import Job, Kind
from agent.base.roots import Root
from agent.base.sources import ArchiveSource
from agent.base.times import format_time
from agent.formats.archive_names import ENCRYPTED, PLAIN
from agent.jobs.admission import Admission, Admitted, metadata
from agent.jobs.backup_facts import emptied, extent_of, facts_of
from agent.jobs.chosen_roots import ChosenRoots, refuse_choosing
from agent.jobs.formats import archive_limits, encryption_for, save_format
from agent.jobs.foundation import Foundation
from agent.jobs.job_hooks import BackupHooks, Scope, hook
from agent.jobs.last_archives import LastArchives, skip_key
from agent.jobs.requests.backup import BackupRequest, scheduled_request
from agent.jobs.requests.options import Key, Selection
from agent.jobs.running_job import Runner
from agent.jobs.store_ticks import DueBackup
from agent.jobs.task import Outcome, Tools
from agent.jobs.upload_requests import PendingUploads
from agent.journal.staged import Staged
from agent.settings import Settings
from agent.settings.schedules import schedule_of, share_archives
from agent.transfer.context import Destination, RunHook

if TYPE_CHECKING:
    from agent.formats.manifest import Origin
    from agent.save.databases import DatabaseOrder
    from agent.save.pipeline import BackupOrder
    from agent.save.result import BackupResult
    from agent.save.shared import Slot
    from agent.save.walk import WalkRoot


class Backups:
    def __init__(self, base: Foundation, runner: Runner, pending: PendingUploads) -> None:
        self._settings, self._journal, self._staging = base.settings, base.journal, base.staging
        self._device, self._own, self._runner, self._pending = base.device, base.own, runner, pending
        self._admission, self._chosen_roots = Admission(base.settings), ChosenRoots(base.settings)
        self._last_archives = LastArchives(base.journal)

    def scheduled(self, due: DueBackup) -> Admitted:
        """Admit a backup of a schedule. Raises `Refused`."""
        from agent.save.shared import Slot

        self._pending.refuse_second_upload()
        request = scheduled_request(self._settings, due.schedule, due.store, due.correlation_id)
        slot = None
        is_repository = request.destination is not None and request.destination.repository is not None
        if share_archives(self._settings, due.schedule) and not is_repository:
            slot = Slot(self._staging.shared(due.schedule), format_time(due.tick))
        return self.backup(request, slot)

    def backup(self, request: BackupRequest, slot: "Slot | None" = None) -> Admitted:
        """Admit a backup; with a slot, its archive is for several stores. Raises `Refused`."""
        from agent.save.pipeline import backup, send

        settings = self._settings
        job, tools = self._runner.new_job(Kind.BACKUP, request.correlation_id)
        collect = hook(settings, "backupCmd", settings.backup_cmd, job)
        parts = self._parts(job, request.selection, collected=collect is not None)
        roots = [part.root for part in parts]
        key = skip_key(request, roots, settings)
        # Read here, as the journal is: a record of a few lines in the agent's own storage.
        archive, made = (slot.archive() if slot else None) or (None, None)
        order = self._order(request, job, tools, parts, collect=collect, key=key, slot=slot, made=archive)
        self._runner.refuse_unrecovered(root.directory for root in roots)
        scope = Scope(request.schedule, tuple(root.data_set for root in roots))
        hooks = BackupHooks(settings, job, roots[0].directory, scope)
        return self._runner.admitted(
            job,
            tools,
            directory=roots[0].directory,
            destination=order.destination,
            facts=request.facts(),
            work=partial(send, order, made) if made else hooks.around(partial(backup, order)),
            ended=partial(self._ended, job, request, order, key),
        )

    def _order(
        self,
        request: BackupRequest,
        job: Job,
        tools: Tools,
        parts: "tuple[WalkRoot, ...]",
        *,
        collect: RunHook | None,
        key: str | None,
        slot: "Slot | None",
        made: Path | None,
    ) -> "BackupOrder":
        """Return the order for an archive, or to send the one that is `made`. Raises `Refused`."""
        from agent.save.pipeline import BackupOrder

        settings, roots = self._settings, [part.root for part in parts]
        encryption = encryption_for(request.passcode, request.destination, settings.encryption)
        path = made or self._free_path(request, slot, encrypted=encryption is not None)
        return BackupOrder(
            roots=parts,
            own=self._own.paths(),
            staged=path,
            destination=self._destination(request, job, tools, roots, path, encrypted=encryption is not None),
            format=save_format(request.destination, settings, request.level),
            strict=settings.strict_backup,
            checksum=settings.checksum,
            skip_unchanged=key is not None,
            last=self._last_archives.last(key) if key else None,
            expected_bytes=self._expected_bytes(roots),
            reserve_bytes=settings.storage_reserve,
            databases=self._databases(job),
            collect=collect,
            encryption=encryption,
            origin=_origin(request, job, self._device.id, () if collect else parts),
            shared=slot,
        )

    def _parts(self, job: Job, selection: Selection, *, collected: bool) -> "tuple[WalkRoot, ...]":
        """Return the roots that are saved: those of the request, or the directory that `backupCmd` fills."""
        if not collected:
            return self._chosen_roots.for_backup(selection)
        refuse_choosing(selection, "backupCmd", Key.BACKUP_DATA_TYPES, Key.BACKUP_PATHS)
        return (self._chosen_roots.part(Root("", self._staging.work_directory(job.id)), selection),)

    def _free_path(self, request: BackupRequest, slot: "Slot | None", *, encrypted: bool) -> Path:
        """Return the path of the new archive, in staging or in the slot; every destination gets its name."""
        path = self._staging.free_path(
            self._device.tag,
            ENCRYPTED if encrypted else PLAIN,
            request.label.name,
            self._journal.jobs.knows_archive,
        )
        return slot.directory / path.name if slot else path

    def _databases(self, job: Job) -> "DatabaseOrder | None":
        from agent.save.databases import DatabaseOrder

        settings = self._settings
        if settings.sqlite == "bytes":
            return None
        return DatabaseOrder(
            self._staging.work_directory(f"{job.id}-databases"),
            settings.sqlite_lock_time.total_seconds(),
            settings.storage_reserve,
        )

    def _destination(
        self,
        request: BackupRequest,
        job: Job,
        tools: Tools,
        roots: Iterable[Root],
        path: Path,
        *,
        encrypted: bool,
    ) -> Destination | None:
        """Open the destination; None for a pending upload."""
        if request.output:
            return self._admission.output(request.output, roots, tools.connections)
        if request.destination is None:
            self._pending.check_fits(Staged(path, options=request.passed_on), job.correlation_id)
            return None
        if request.destination.repository:
            return self._admission.repository(request.destination, tools.connections, self._device.id)
        about_it = metadata(path.name, job.correlation_id, self._device.id)
        return self._admission.destination(
            request.destination, tools.connections, self._device.id, path.name, about_it, encrypted=encrypted
        )

    def _expected_bytes(self, roots: Sequence[Root]) -> int | None:
        """Return the bytes of the last backup of this directory; None for any other choice of roots."""
        directory = roots[0].directory
        if roots != [Root("", directory)]:
            return None
        return self._journal.jobs.last_size("content_bytes", directory)

    def _ended(
        self,
        job: Job,
        request: BackupRequest,
        order: "BackupOrder",
        key: str | None,
        outcome: "Outcome[BackupResult]",
    ) -> None:
        """Record and tell the end of a backup; `key` as `skip_key` returns it."""
        from agent.save.result import about

        result, facts, store = outcome.result, request.label.facts(), _one_of_several(request, self._settings)
        if result is None:
            told = f"store '{store}': {outcome.message}" if store else outcome.message
            self._runner.end(job.failed(datetime.now(UTC), outcome.code, told), facts)
            return

        source = ArchiveSource.of_roots([] if order.collect else [part.root for part in order.roots])
        staged = None if order.destination else Staged(order.staged, options=request.passed_on)
        stored = result.stored
        name = stored.name if stored else staged.path.name if staged else ""

        def also() -> None:
            if not result.unchanged:
                self._journal.archives.made(name, source, extent_of(result))
            if staged:
                made = replace(staged, size_bytes=result.size_bytes, sha256=result.sha256)
                self._pending.add(made, job.correlation_id)
            self._journal.skipped.keep(job.id, result.report.unexportable)
            if key and result.last:
                self._last_archives.remember(key, result.last)

        where = f"stored at '{store}'" if store else ""
        percent = self._settings.retention.emptied_percent
        notes = [
            where,
            emptied(self._journal, source, result, percent),
            about(result, archive_limits(self._settings)),
        ]
        message = "; ".join(filter(None, notes))
        place = stored.place if stored else str(staged and staged.path)
        facts = {**facts_of(result), **facts, "archive": name, "place": place}
        self._runner.end(job.finished(datetime.now(UTC), message), facts, also=also)


def _one_of_several(request: BackupRequest, settings: Settings) -> str:
    """Return the store of a backup whose schedule has several; else an empty text."""
    if not request.schedule or len(schedule_of(settings, request.schedule).store) < 2:
        return ""
    return request.destination.store if request.destination else ""


def _origin(request: BackupRequest, job: Job, device_id: str, parts: "tuple[WalkRoot, ...]") -> "Origin":
    from agent.formats.manifest import Origin

    agent = f"edge-backup/{__version__}"
    roots = tuple(part.root for part in parts)
    exclude = {part.root.data_set: part.patterns for part in parts}
    return Origin(device_id, agent, job.started, job.correlation_id, request.label, roots, exclude)
