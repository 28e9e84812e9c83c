"""Where a restore goes: directories of the device, and what is done around its commit."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from agent.base.roots import Root
from agent.restore import Restore, RestoreOptions, work_id
from agent.restore.commit_confirmed import Trial
from agent.transfer.context import Context, RunHook


@dataclass(frozen=True, slots=True)
class Into:
    """Where a restore goes, and how."""

    roots: Mapping[int, Root]
    """By their numbers, in order."""
    made: list[Path]
    """Directories that do not exist yet, outermost first: made first, and removed again on failure."""
    options: RestoreOptions
    """Of all of them; `names` are those of each root."""
    before: RunHook | None = None
    after: RunHook | None = None
    """Around the commit: they stop and start whoever owns the data."""
    trial: Trial | None = None
    """After the commit the old data is kept, until this decides."""

    @property
    def directory(self) -> Path:
        """Where commands are run."""
        return next(iter(self.roots.values())).directory


@dataclass(frozen=True, slots=True)
class Amount:
    """What an archive brings."""

    files: int
    content_bytes: int
    archive: str = ""
    """What it is called, and where it came from; empty when an earlier run of the agent fetched it."""
    place: str = ""

    def facts(self) -> dict[str, object]:
        """For the history: what is known."""
        return {name: value for name, value in asdict(self).items() if value != ""}


def restore_work(into: Into, context: Context, number: int = 0, *, made: bool = False) -> Restore:
    """The restore into one of the roots, not begun yet; `made` when its directory was made for it."""
    root = into.roots[number]
    return Restore(
        root.directory,
        work_id(context.job_id, number),
        replace(into.options, names=root.names, made=made),
        context.token,
        context.progress,
        expected=context.expect,
    )
