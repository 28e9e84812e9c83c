"""The settings of jobs, as the values that backups and restores take."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from agent.base.job import Job
from agent.base.roots import Root
from agent.base.sources import Asked
from agent.base.times import format_time
from agent.formats.archive_names import OwnArchives, archives_of
from agent.jobs.requests.restore import WantedArchive
from agent.jobs.requests.storage import StorageOptions
from agent.jobs.staging import states_of
from agent.settings import Settings
from agent.transfer.cancel import CancelToken
from agent.transfer.context import RunHook

if TYPE_CHECKING:
    from agent.formats.base import Format, PruneFormat, ReadFormat, SaveFormat
    from agent.formats.survey import ArchiveLimits
    from agent.formats.zip.writer import ArchiveOptions
    from agent.restore.commit_confirmed import CommitConfirmed
    from agent.restore.find import Search
    from agent.restore.root import RestoreOptions
    from agent.restore.target import RestoreTarget

MAX_THREADS = 4


def archive_format(settings: Settings, level: str | None = None) -> "Format":
    """Return the format of archives. The format is chosen here and nowhere else."""
    from agent.formats.zip.format import Zip

    return Zip(archive_options(settings, level))


def save_format(
    destination: StorageOptions | None, settings: Settings, level: str | None = None
) -> "SaveFormat":
    """Return the format in which a backup to this destination is saved; `level` overrides the setting."""
    if destination is None or destination.repository is None:
        return archive_format(settings, level)
    from agent.formats.repository.format import Repository

    password = destination.repository.password.get_secret_value()
    given = settings.repository
    return Repository(password, states_of(settings.storage), given.trust_for, given.prune_window)


def read_format(source: StorageOptions, settings: Settings) -> "ReadFormat":
    """Return the format in which the archives of this destination are read."""
    if source.repository is None:
        return archive_format(settings)
    from agent.formats.repository.snapshots import Snapshots

    password = source.repository.password.get_secret_value()
    return Snapshots(
        password, states_of(settings.storage), settings.restore.max_files, settings.storage_reserve
    )


def search_for(
    wanted: WantedArchive, own: OwnArchives, source: Asked | None = None, *, emptied_percent: int = 0
) -> "Search":
    """Return the search for an archive; `own` are those of this device, and `source` None is any source."""
    from agent.restore.find import Search

    return Search(
        archives_of(wanted.device_id) if wanted.device_id else own,
        lambda: datetime.now(UTC),
        source,
        before=wanted.before,
        device_id=wanted.device_id,
        is_described=wanted.is_described,
        emptied_percent=emptied_percent,
    )


def prune_format(source: StorageOptions, settings: Settings, device_id: str) -> "PruneFormat":
    """Return the format in which old archives of this destination are removed."""
    if source.repository is None:
        return archive_format(settings)
    from agent.formats.repository.snapshots import PrunedSnapshots

    return PrunedSnapshots(
        source.repository.password.get_secret_value(),
        states_of(settings.storage),
        settings.restore.max_files,
        settings.storage_reserve,
        host=device_id,
        most_unused_percent=settings.repository.max_unused,
    )


def repository_remains(settings: Settings) -> Mapping[str, int]:
    """Return how many objects interrupted jobs left in repositories, by kind; nothing for none."""
    states = states_of(settings.storage)
    if not states.is_dir():
        return {}
    from agent.formats.repository.remains import remains_in

    return {kind: number for kind, number in remains_in(states)._asdict().items() if number}


def archive_options(settings: Settings, level: str | None = None) -> "ArchiveOptions":
    """Return `archive.*`; by default a thread for each core, and at most four."""
    from agent.formats.zip.writer import ArchiveOptions

    archive = settings.archive
    threads = archive.threads or min(os.cpu_count() or 1, MAX_THREADS)
    # Often the only directory that the agent may write to.
    return ArchiveOptions(
        level or archive.level, archive.dialect, threads, scratch=os.fspath(settings.storage.absolute())
    )


def archive_limits(settings: Settings) -> "ArchiveLimits":
    """Return the limits of an archive that is restored or verified."""
    from agent.formats.survey import ArchiveLimits

    limits = settings.restore
    return ArchiveLimits(max_files=limits.max_files, max_bytes=limits.max_size, max_ratio=limits.max_ratio)


def restore_options(settings: Settings, mode: str, own: tuple[Path, ...]) -> "RestoreOptions":
    from agent.restore.root import RestoreOptions

    limits = settings.restore
    return RestoreOptions(
        mode=mode,
        limits=archive_limits(settings),
        reserve_bytes=settings.storage_reserve,
        owner=limits.owner,
        special_bits=limits.special_bits,
        own=own,
    )


def hook(
    settings: Settings,
    name: str,
    command: str,
    job: Job,
    target: Path | None = None,
    *,
    facts: Mapping[str, str] = MappingProxyType({}),
) -> RunHook | None:
    """Return the command in the setting `name`, ready to be run for `job`; None when there is none.

    Its environment has the operation, the correlation id, the directory or the `target` of a restore, and
    further `facts`.
    """
    from agent.hooks import Hook, run_hook

    if not command:
        return None
    prepared = Hook(name, command, settings.hook_timeout.total_seconds())

    def run(directory: Path, token: CancelToken) -> None:
        environment = {
            "EDGE_BACKUP_OPERATION": job.kind,
            "EDGE_BACKUP_CORRELATION_ID": job.correlation_id,
            "EDGE_BACKUP_DIRECTORY": os.fspath(target or directory),
            **facts,
        }
        run_hook(prepared, directory, environment, token)

    return run


def health_hook(settings: Settings, job: Job) -> RunHook | None:
    """Return the command that checks what `job` has restored; None for no command."""
    return hook(settings, "restore.healthCmd", settings.restore.health_cmd, job)


def restore_target(
    settings: Settings,
    job: Job,
    roots: Mapping[int, Root],
    made: list[Path],
    mode: str,
    *,
    own: tuple[Path, ...] = (),
    confirmation: "CommitConfirmed | None" = None,
) -> "RestoreTarget":
    """Return the target of a restore of `job`, with the options and commands of the settings."""
    from agent.restore.memory import RestoreMemory
    from agent.restore.proof import Prover
    from agent.restore.target import RestoreTarget

    directory = next(iter(roots.values())).directory
    return RestoreTarget(
        roots,
        made,
        restore_options(settings, mode, own),
        before=hook(settings, "beforeRestoreCmd", settings.before_restore_cmd, job, directory),
        after=hook(settings, "afterRestoreCmd", settings.after_restore_cmd, job, directory),
        confirmation=confirmation,
        prover=Prover(
            RestoreMemory(settings.storage),
            job.correlation_id,
            format_time(job.started),
            stops=bool(settings.before_restore_cmd and settings.after_restore_cmd),
        ),
    )
