"""One restore from beginning to end, into one directory or several: all of them become new, or none does.

Each directory has a working directory and a plan of its own. What decides is the mark in the first one:
before it says that the commit is complete, a crash means that all go back to old; from then on all are new,
whatever the marks of the others say. So the first is marked last, taken back first, and removed last.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial

from agent.base.errors import LeftToRecovery, NotTakenBack, WorkGone, disk_errors
from agent.base.text import readable
from agent.formats.entry_checks import Survey, SurveyedTree
from agent.restore.commit import commit, take_back
from agent.restore.difference import Difference
from agent.restore.disk import sync_file_system
from agent.restore.root import RestoreRoot
from agent.restore.workspace import DONE, PLAN, TRIAL, Workspace
from agent.transfer.cancel import CancelToken
from agent.transfer.streams import Progress, no_progress


class RestoreSet:
    """For one thread and one restore: `unpack`, `commit`, `discard`; `discard` also after any error.

    For a preview: `unpack`, `difference`, `leave`; then another one, of the same roots: `take_up`, `commit`,
    `discard`.

    What the agent remembers of the outcome is to be written between `commit` and `discard`: after
    `discard`, `recover` finds nothing any more, and cannot tell new from old.
    """

    def __init__(
        self,
        roots: Sequence[RestoreRoot],
        token: CancelToken,
        progress: Progress = no_progress,
        *,
        expected: Progress = no_progress,
        patience_s: float = math.inf,
    ) -> None:
        """`expected` is called with the number of bytes to unpack, then `progress` with those done.

        After a cancel, undoing and removing take `patience_s` each, and then raise `LeftToRecovery`.
        """
        self._roots = list(roots)
        self._token, self._progress, self._expected = token, progress, expected
        self._patience_s = patience_s
        self._workspaces: list[Workspace] = []
        self.goes_back_later = False
        """True when the recovery has to bring back the old data, because that takes long."""
        self.other_owners = 0
        """The unpacked entries that do not get the owner of the archive."""
        self.without_rights = 0
        """The unpacked entries that lack the set-id bits or capabilities that they have in the archive."""
        self.is_committed = False
        """True when everything is in place and final."""

    @property
    def is_open(self) -> bool:
        """Return True while it holds all its working directories."""
        return len(self._workspaces) == len(self._roots)

    @property
    def inodes(self) -> Sequence[int | None]:
        """Return the inode numbers of the working directories, where they last."""
        return [root.inode for root in self._roots]

    def unpack(self, trees: Sequence[SurveyedTree]) -> list[Survey]:
        """Unpack one tree for each root into its working directory; the targets do not change.

        Raises ArchiveError for a damaged, hostile or too large archive, NoSpace before the first byte of a
        tree that would not fit (or later, when the disk fills up all the same), IoError when a mount point
        is in the way or the disk fails, and Cancelled.
        """
        return [self._unpack(root, tree) for root, tree in zip(self._roots, trees, strict=True)]

    def _unpack(self, root: RestoreRoot, surveyed: SurveyedTree) -> Survey:
        tree, survey = surveyed.tree, surveyed.survey
        self._expected(survey.size_bytes)
        self._token.check()
        workspace, room = root.begin(tree, survey, self._token)
        self._roots[len(self._workspaces)] = root.begun(workspace)
        self._workspaces.append(workspace)
        unpacker = root.unpacker(workspace, survey, room, self._token, self._progress)
        try:
            unpacker.run(tree)
        except OSError:
            with disk_errors(f"cannot unpack '{readable(unpacker.current)}'"):
                raise
        self.other_owners += unpacker.other_owners
        self.without_rights += unpacker.without_rights
        return survey

    def difference(self) -> Difference:
        """Return the numbers of a commit. Raises IoError and Cancelled."""
        found = [root.difference(workspace, self._token) for root, workspace in self._opened()]
        return sum(found, Difference())

    def leave(self) -> None:
        """Let go of the unpacked files, which survive a power cut. Raises IoError and NoSpace."""
        with disk_errors("cannot keep the unpacked files"):
            for _, workspace in self._opened():
                sync_file_system(workspace.root_fd)
        self.let_go()

    def let_go(self) -> None:
        """Close the working directories, so that others may use the targets; `take_up` opens them again."""
        workspaces, self._workspaces = self._workspaces, []
        for workspace in workspaces:
            workspace.close()

    def take_up(self) -> None:
        """Open the working directories that an earlier one left. Raises `WorkGone` when one is missing."""
        self.let_go()
        for root in self._roots:
            self._workspaces.append(root.find())

    def commit(self, confirm: Callable[[], None] = lambda: None, *, unconfirmed: bool = False) -> None:
        """Bring what was unpacked into the targets, all of it or nothing.

        `unconfirmed`: `keep` or `take_back` has to follow, also after a restart of the agent and `take_up`.

        `confirm` is called when all is in place, and takes it back by raising. Raises NoSpace, IoError,
        Cancelled and what `confirm` does after everything is as it was; `NotTakenBack` when even that was
        impossible, or takes too long after a cancel: `recover` does it then.
        """
        first, *others = self._opened()
        try:
            for root, workspace in others:
                self._carry_out(root, workspace, lambda: None, PLAN)
            self._carry_out(*first, confirm, TRIAL if unconfirmed else DONE)
        except BaseException:
            # As long as the first may be marked, only a look at all of them can tell: `recover_roots`.
            if not _is_marked(first[1]):
                for _, workspace in others:
                    _take_back(workspace, self._patience())
            raise
        self.is_committed = not unconfirmed

    def _carry_out(
        self, root: RestoreRoot, workspace: Workspace, confirm: Callable[[], None], mark: str
    ) -> None:
        with disk_errors("cannot put the unpacked files in place"):
            try:
                prove = partial(root.prove, workspace)
                comparison = root.comparison(workspace, self._token.check)
                commit(workspace, comparison, self._token, confirm, mark=mark, prove=prove)
            except BaseException:
                _take_back(workspace, self._patience())
                raise

    def surrender(self) -> None:
        """Make the new data final when a working directory was removed. Raises IoError."""
        self.let_go()
        for root in self._roots:
            with suppress(WorkGone):
                self._workspaces.append(root.find())
        self.is_committed = True

    def keep(self) -> None:
        """Make an unconfirmed restore final. Raises IoError and NoSpace."""
        (_, first), *_ = self._opened()
        with disk_errors("cannot end the trial"):
            first.rename(TRIAL, DONE)
        self.is_committed = True

    def take_back(self) -> None:
        """Bring back the data from before `commit`. Raises `NotTakenBack`: `recover` does it then.

        The first goes first: from its step on a crash means that all go back.
        """
        self.is_committed = False
        for _, workspace in self._opened():
            _take_back(workspace, self._patience())

    def discard(self) -> None:
        """Remove the working directories; harmless when done twice. Raises IoError and `LeftToRecovery`.

        One whose commit could be neither completed nor taken back stays, for `recover`.
        """
        check = self._patience()
        workspaces, self._workspaces = self._workspaces, []
        with ExitStack() as closing:
            for workspace in workspaces:
                closing.callback(workspace.close)
            for workspace in (*workspaces[1:], *workspaces[:1]):
                with disk_errors(f"cannot remove '{readable(workspace.name)}' from the target"):
                    if self.is_committed or not _is_marked(workspace):
                        workspace.remove(check)

    def _patience(self) -> Callable[[], None]:
        """Return a check that raises `LeftToRecovery` when a cancelled restore has undone things for long."""
        until_s = time.monotonic() + self._patience_s

        def check() -> None:
            if self._token.event.is_set() and time.monotonic() > until_s:
                self.goes_back_later = True
                raise LeftToRecovery("the old data is being put back")

        return check

    def _opened(self) -> list[tuple[RestoreRoot, Workspace]]:
        assert self.is_open, "unpack or take_up comes first"
        return list(zip(self._roots, self._workspaces, strict=True))


def _is_marked(workspace: Workspace) -> bool:
    """Return True when there is a commit to take back or to complete. Raises OSError."""
    return workspace.holds(PLAN, TRIAL, DONE)


def _take_back(workspace: Workspace, check: Callable[[], None]) -> None:
    try:
        take_back(workspace, check)
    except OSError as error:
        raise NotTakenBack(
            "the restore failed and cannot be reverted now; the agent tries again until it succeeds"
        ) from error
