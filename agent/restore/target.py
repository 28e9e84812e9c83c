"""The target of a restore: directories of the device, and the commands around its commit."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.base.roots import Root
from agent.formats.entry_checks import Survey
from agent.restore.commit_confirmed import CommitConfirmed
from agent.restore.proof import Prover
from agent.restore.root import RestoreOptions
from agent.transfer.context import RunHook


@dataclass(frozen=True, slots=True)
class RestoreTarget:
    """The directories of a restore, and its options."""

    roots: Mapping[int, Root]
    """The roots by number, in order."""
    made: list[Path]
    """Directories that do not exist yet, outermost first. They are removed again when the restore fails."""
    options: RestoreOptions
    before: RunHook | None = None
    after: RunHook | None = None
    """Commands around the commit, which stop and start the programs that use the data."""
    confirmation: CommitConfirmed | None = None
    """Decides after the commit whether the old data comes back; None for a restore that is final."""
    prover: Prover | None = None
    """Makes the proofs in working directories; None where no start of the agent would look for them."""

    @property
    def directory(self) -> Path:
        """Return the directory in which commands are run."""
        return next(iter(self.roots.values())).directory


@dataclass(frozen=True, slots=True)
class Amount:
    """The amount that an archive brings."""

    files: int
    content_bytes: int
    archive: str = ""
    """Name and location of the archive; empty when an earlier run of the agent fetched it."""
    place: str = ""
    note: str = ""
    """Notes for people about the choice of the archive, and about owners."""

    @classmethod
    def of(cls, surveys: Sequence[Survey]) -> "Amount":
        """Return the sum of several trees."""
        files = sum(survey.files for survey in surveys)
        return cls(files, sum(survey.size_bytes for survey in surveys))

    def facts(self) -> dict[str, object]:
        """Return the known facts, for the history."""
        return {name: value for name, value in asdict(self).items() if value != "" and name != "note"}
