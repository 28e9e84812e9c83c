"""Restores: what a command asks for becomes an order for `agent.backup.restoring`.

Belongs to the main thread.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

from agent.admission import Admission, Admitted, device_tag
from agent.backup.archive.survey import Survey
from agent.backup.job import Job, Kind
from agent.backup.restore import missing
from agent.backup.restore.choice import Choice
from agent.backup.restoring import RestoreOrder, preview, restore
from agent.backup.roots import Root
from agent.backup.stages import Into
from agent.messaging.ditto import EXECUTION_FAILED, PARAMETER_INVALID, CommandError
from agent.orders import hook, restore_options
from agent.parameters import RESTORE_DATA_TYPES, RESTORE_PATHS, RESTORE_STORE, Parameters
from agent.previews import Previews
from agent.runner import Runner
from agent.sealing import unseal_for
from agent.selecting import Selecting, refuse_choosing
from agent.settings import Settings
from agent.staging import Staging
from agent.stores import store_fact, with_store
from agent.worker import Outcome


class Restores:
    def __init__(self, settings: Settings, runner: Runner, *, staging: Staging, previews: Previews) -> None:
        self._settings, self._runner, self._staging = settings, runner, staging
        self._previews = previews
        self._admission, self._selecting = Admission(settings), Selecting(settings)

    def restore(self, parameters: Parameters, device_id: str) -> Admitted:
        """Admit a restore, or a preview of one. Raises `CommandError` 400 or 409."""
        settings = self._settings
        parameters = with_store(parameters, settings, RESTORE_STORE)
        job, tools = self._runner.new_job(Kind.RESTORE, parameters)
        unseal = unseal_for(parameters, settings.seal)
        deliver = hook(settings, "restoreCmd", settings.restore_cmd, job)
        if deliver and parameters.preview:
            message = "no 'restore.preview' here: the device's restoreCmd decides what becomes of the files"
            raise CommandError(400, PARAMETER_INVALID, message)
        choice = self._delivered(job, parameters) if deliver else self._selecting.for_restore(parameters)
        if len(choice.roots) > 1:
            message = "these data sets are in several directories: restore those of one directory at a time"
            raise CommandError(400, EXECUTION_FAILED, message)
        (root,) = choice.roots
        directory = root.directory
        place = self._admission.place(parameters, tools.connections, None)
        into = self._into(job, root, parameters)
        self._runner.refuse_when_busy()
        self._previews.refuse_while_waiting()
        foreign = settings.restore.foreign if parameters.foreign is None else parameters.foreign
        order = RestoreOrder(
            into,
            self._staging.download(job.id),
            place,
            device_tag(device_id),
            choice,
            unseal,
            deliver,
            device=None if foreign else device_id,
        )
        if parameters.preview:
            return self._previews.admitted(job, tools, into, place=place, work=partial(preview, order))
        return self._runner.admitted(
            job,
            tools,
            directory=directory,
            made=into.made,
            place=place,
            work=partial(restore, order),
            ended=partial(self._ended, job, store_fact(parameters, RESTORE_STORE)),
        )

    def _delivered(self, job: Job, parameters: Parameters) -> Choice:
        refuse_choosing(parameters, "restoreCmd", RESTORE_DATA_TYPES, RESTORE_PATHS)
        return Choice((Root("", self._staging.work_directory(job.id)),))

    def _into(self, job: Job, root: Root, parameters: Parameters) -> Into:
        settings, directory = self._settings, root.directory
        return Into(
            directory,
            missing(directory),
            restore_options(settings, parameters.restore_mode, root.names),
            before=hook(settings, "beforeRestoreCmd", settings.before_restore_cmd, job, directory),
            after=hook(settings, "afterRestoreCmd", settings.after_restore_cmd, job, directory),
        )

    def _ended(self, job: Job, facts: Mapping[str, str], outcome: Outcome[Survey]) -> None:
        survey = outcome.result
        if survey is None:
            self._runner.end(job.failed(datetime.now(UTC), outcome.code, outcome.message))
            return
        self._runner.end(
            job.finished(datetime.now(UTC)),
            lambda: None,
            files=survey.files,
            content_bytes=survey.size_bytes,
            **facts,
        )
