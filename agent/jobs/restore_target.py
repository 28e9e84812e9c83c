"""The target of a restore, with the options and commands of the settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from agent.base.job import Job
from agent.base.roots import Root
from agent.base.times import format_time
from agent.jobs.formats import archive_limits
from agent.jobs.job_hooks import hook
from agent.settings import Settings

if TYPE_CHECKING:
    from agent.restore.commit_confirmed import CommitConfirmed
    from agent.restore.root import RestoreOptions
    from agent.restore.target import RestoreTarget


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
