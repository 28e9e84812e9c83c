"""One restore from beginning to end: unpack, commit, discard; or left between the first two, and taken up."""

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agent.base.errors import IoError, NoSpace, NotTakenBack, disk_errors
from agent.base.identity import below, open_resolved
from agent.base.roots import Root
from agent.base.text import readable
from agent.formats.base import SavedTree
from agent.formats.names import PRIVATE_PREFIX
from agent.formats.survey import ArchiveLimits, Survey, take_survey
from agent.restore.commit import commit, take_back
from agent.restore.compare import Comparison
from agent.restore.difference import Difference, Differences
from agent.restore.disk import sync_file_system
from agent.restore.free_space import SpaceCheck
from agent.restore.mounts import is_layered, mounts_below
from agent.restore.unpack import Unpacker
from agent.restore.workspace import DONE, NEW, PLAN, TRIAL, Workspace
from agent.transfer.cancel import CancelToken
from agent.transfer.streams import Progress, no_progress
from providers.free_space import Room


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """How to restore; `mode` is "merge" or "replace", anything else raises ValueError."""

    limits: ArchiveLimits
    mode: str = "merge"
    """"merge": entries of the target that the archive does not name stay; "replace": they go."""
    names: frozenset[str] | None = None
    """Of these alone, as `Root.names` has them, "replace" takes anything away; None for everything."""
    reserve_bytes: int = 0
    """Free space that has to be left on the target's file system."""
    owner: bool = True
    """Give files their archived owner and group, where this process may (CAP_CHOWN)."""
    made: bool = False
    """Whether the target was made for this restore: what the archive does not say of it is as usual."""
    special_bits: bool = False
    """Bring back set-uid, set-gid, sticky and file capabilities; otherwise they are dropped."""
    own: tuple[Path, ...] = ()
    """The agent's own directories, which no restore changes."""

    def __post_init__(self) -> None:
        if self.mode not in ("merge", "replace"):
            raise ValueError(f"restore.mode must be 'merge' or 'replace', not '{readable(self.mode)}'")


class Restore:
    """Used by one thread, once: `unpack`, then `commit`, then `discard`; `discard` also after any error.

    For a preview: `unpack`, `difference`, `leave`; then another one, of the same target and job: `take_up`,
    `commit`, `discard`.

    What the agent remembers of the outcome is to be written between `commit` and `discard`: after
    `discard`, `recover` finds nothing any more, and cannot tell new from old.
    """

    def __init__(
        self,
        target: Path,
        job_id: str,
        options: RestoreOptions,
        token: CancelToken,
        progress: Progress = no_progress,
        *,
        expected: Progress = no_progress,
    ) -> None:
        """`target` is absolute, resolved and exists. `job_id` becomes part of a file name.

        `progress` is told the bytes that are unpacked, `expected` before that how many there are.
        """
        self._target, self._job_id, self._options = target, job_id, options
        self._token, self._progress, self._expected = token, progress, expected
        self._workspace: Workspace | None = None
        self.is_committed = False
        """Whether everything is in place for good."""

    @property
    def unpacked(self) -> Path:
        """Where `unpack` puts the tree: for a command that does the rest itself."""
        return self._target / f"{PRIVATE_PREFIX}{self._job_id}" / NEW

    def unpack(self, tree: SavedTree) -> Survey:
        """Unpack into the working directory; the target itself does not change.

        Raises ArchiveError for a damaged, hostile or too large archive, NoSpace before the first byte
        when it would not fit beside the reserve (or later, when the disk fills up all the same), IoError
        when a mount point is in the way or the disk fails, and Cancelled.
        """
        survey = take_survey(tree.items(), self._options.limits)
        self._expected(survey.size_bytes)
        self._token.check()
        with disk_errors(f"cannot restore into '{readable(str(self._target))}'"):
            is_tight = self._check_space(tree, survey)
            self._workspace = Workspace.create(self._target, self._job_id)
        unpacker = Unpacker(
            self._workspace,
            owner=self._options.owner,
            special_bits=self._options.special_bits,
            made=self._options.made,
            mounts=mounts_below(self._target),
            max_implied=self._options.limits.max_files - survey.entries,
            token=self._token,
            progress=self._progress,
            room=self._room(self._workspace.root_fd) if is_tight else None,
        )
        try:
            unpacker.run(tree)
        except OSError:
            with disk_errors(f"cannot unpack '{readable(unpacker.current)}'"):
                raise
        return survey

    def difference(self) -> Difference:
        """What `commit` would do, in numbers; the target does not change. Raises IoError and Cancelled."""
        workspace = self._opened()
        with disk_errors(f"cannot compare with '{readable(str(self._target))}'"):
            return Differences(
                workspace,
                goes=self._goes(),
                own=self._own(workspace),
                token=self._token,
            ).count()

    def leave(self) -> None:
        """Let go of what is unpacked, which stays, also over a power cut. Raises IoError and NoSpace."""
        with disk_errors("cannot keep the unpacked files"):
            sync_file_system(self._opened().root_fd)
        self.let_go()

    def let_go(self) -> None:
        """Hold nothing of the target any more, which others may change; `take_up` finds it again."""
        workspace, self._workspace = self._opened(), None
        workspace.close()

    def take_up(self) -> None:
        """Go on with what an earlier one left. Raises IoError when it is not there any more."""
        with disk_errors(f"cannot look into '{readable(str(self._target))}'"):
            self._workspace = Workspace.find(self._target, self._job_id)
        if self._workspace is None:
            raise IoError(f"what was unpacked in '{readable(str(self._target))}' is not there any more")

    @property
    def is_open(self) -> bool:
        """Whether it holds its working directory."""
        return self._workspace is not None

    def _opened(self) -> Workspace:
        assert self._workspace is not None, "unpack or take_up comes first"
        return self._workspace

    def commit(self, confirm: Callable[[], None] = lambda: None, *, on_trial: bool = False) -> None:
        """Bring what was unpacked into the target, all of it or nothing.

        `on_trial`: `keep` or `take_back` has to follow, also after a restart of the agent and `take_up`.

        `confirm` is called when all is in place, and takes it back by raising. Raises NoSpace, IoError,
        Cancelled and what `confirm` does after everything is as it was; `NotTakenBack` when even that was
        impossible: `recover` does it then.
        """
        self._carry_out(confirm, TRIAL if on_trial else DONE)
        self.is_committed = not on_trial

    def apply(self) -> None:
        """The same, but another restore's mark says whether it counts. Raises as `commit`."""
        self._carry_out(lambda: None, PLAN)

    def _carry_out(self, confirm: Callable[[], None], mark: str) -> None:
        workspace = self._opened()
        with disk_errors("cannot put the unpacked files in place"):
            try:
                commit(workspace, self._comparison(workspace), self._token, confirm, mark=mark)
            except BaseException:
                _take_back(workspace)
                raise

    @property
    def is_marked(self) -> bool:
        """Whether a crash now would find something to take back or to complete. Raises OSError."""
        return self._workspace is not None and self._workspace.holds(PLAN, TRIAL, DONE)

    def keep(self) -> None:
        """The trial is over: it cannot be taken back any more. Raises IoError and NoSpace."""
        with disk_errors("cannot end the trial"):
            self._opened().rename(TRIAL, DONE)
        self.is_committed = True

    def take_back(self) -> None:
        """Bring back what was there before `commit`. Raises IoError: `recover` does it then."""
        self.is_committed = False
        _take_back(self._opened())

    def discard(self, *, committed: bool = False) -> None:
        """Remove the working directory; harmless when done twice. Raises IoError.

        One whose commit could be neither completed nor taken back stays, for `recover`; `committed` says that
        it counts.
        """
        if self._workspace is None:
            return
        workspace, self._workspace = self._workspace, None
        with closing(workspace), disk_errors(f"cannot remove '{readable(workspace.name)}' from the target"):
            if committed or self.is_committed or not (workspace.holds(PLAN, TRIAL, DONE)):
                workspace.remove()

    def _check_space(self, tree: SavedTree, survey: Survey) -> bool:
        root_fd = open_resolved(self._target)
        try:
            return SpaceCheck(tree, root_fd, self._room(root_fd), self._token.check).is_tight(survey)
        finally:
            os.close(root_fd)

    def _room(self, root_fd: int) -> Room:
        shown = readable(str(self._target))
        return Room(root_fd, f"the target '{shown}'", self._options.reserve_bytes, NoSpace)

    def _comparison(self, workspace: Workspace) -> Comparison:
        return Comparison(
            workspace,
            in_pieces=is_layered(self._target),
            goes=self._goes(),
            special_bits=self._options.special_bits,
            mounts=mounts_below(self._target),
            own=self._own(workspace),
        )

    def _goes(self) -> Callable[[str], bool] | None:
        if self._options.mode == "merge":
            return None
        return Root("", self._target, self._options.names).holds

    def _own(self, workspace: Workspace) -> list[str]:
        """Return the agent's own directories in the target, by their names there."""
        return [workspace.name, *below(self._target, self._options.own)]


def _take_back(workspace: Workspace) -> None:
    try:
        take_back(workspace)
    except OSError as error:
        raise NotTakenBack(
            "the restore failed and could not be taken back now; the agent tries again until it is"
        ) from error
