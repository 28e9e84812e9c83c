"""Where a restore goes: directories of the device, and what is done around its commit."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.base.roots import Root
from agent.formats.survey import Survey
from agent.restore.commit_confirmed import CommitConfirmed
from agent.restore.root import RestoreOptions
from agent.transfer.context import RunHook


@dataclass(frozen=True, slots=True)
class RestoreTarget:
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
    trial: CommitConfirmed | None = None
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
    note: str = ""
    """What people should know about the choice of the archive."""

    @classmethod
    def of(cls, surveys: Sequence[Survey]) -> "Amount":
        """Return what several trees bring together."""
        files = sum(survey.files for survey in surveys)
        return cls(files, sum(survey.size_bytes for survey in surveys))

    def facts(self) -> dict[str, object]:
        """For the history: what is known."""
        return {name: value for name, value in asdict(self).items() if value != "" and name != "note"}
