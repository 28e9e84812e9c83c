"""One directory that a restore works in, and how."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.base.errors import NoSpace, WorkGone, disk_errors
from agent.base.identity import below
from agent.base.mounts import is_layered, keeps_inodes, mounts_below
from agent.base.roots import Root
from agent.base.text import readable
from agent.formats.base import SavedTree
from agent.formats.survey import ArchiveLimits, Survey
from agent.restore.compare import Comparison, Goes
from agent.restore.difference import Difference, Differences
from agent.restore.free_space import SpaceCheck
from agent.restore.unpack import Unpacker
from agent.restore.workspace import NEW, Workspace, work_directory_of
from agent.transfer.cancel import CancelToken
from agent.transfer.streams import Progress
from providers.directory import open_resolved
from providers.free_space import Room

MODES = ("merge", "replace", "exact")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """Options of a restore; `mode` is one of `MODES`, anything else raises ValueError."""

    limits: ArchiveLimits
    mode: str = "merge"
    """"merge": entries of the target that the archive does not name stay; "replace": they go, but for what
    the backup passed over by its own patterns; "exact": that goes, too."""
    prefix: str = ""
    """That of the root, as `Root.prefix`."""
    names: frozenset[str] | None = None
    """The names that "replace" may take away, as `Root.names` has them; None for all."""
    without: frozenset[str] = frozenset()
    """Names that "replace" leaves alone, as `Root.without` has them."""
    reserve_bytes: int = 0
    """Free space that has to be left on the target's file system."""
    owner: bool = True
    """Give files their archived owner and group, where this process may (CAP_CHOWN)."""
    made: bool = False
    """True when the target was made for this restore: what the archive does not say of it is as usual."""
    special_bits: bool = False
    """Bring back set-uid, set-gid, sticky and file capabilities; otherwise they are dropped."""
    own: tuple[Path, ...] = ()
    """The agent's own directories, which no restore changes."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"restore.mode must be one of {', '.join(MODES)}, not '{readable(self.mode)}'")


@dataclass(frozen=True, slots=True)
class RestoreRoot:
    """A directory, and what a restore does there, in a working directory of its own.

    Methods raise IoError when the disk fails, and Cancelled.
    """

    directory: Path
    """Absolute, resolved, and there."""
    work_id: str
    """Part of the working directory's name."""
    options: RestoreOptions
    prove: Callable[[Workspace, str], None] = lambda _workspace, _plan: None
    """Keeps in the working directory what it is, and the SHA-256 of the plan or "". Raises OSError."""

    @property
    def unpacked(self) -> Path:
        """The directory of the unpacked tree, for a command that does the rest itself."""
        return work_directory_of(self.directory, self.work_id) / NEW

    def begin(self, tree: SavedTree, survey: Survey, token: CancelToken) -> tuple[Workspace, Room | None]:
        """Make the working directory; return it, and the room to keep an eye on where it is tight.

        Raises NoSpace before the first byte when the tree would not fit beside the reserve.
        """
        with disk_errors(f"cannot restore into '{self._shown}'"):
            is_tight = self._check_space(tree, survey, token)
            workspace = Workspace.create(self.directory, self.work_id)
            try:
                self.prove(workspace, "")
                self._keep_excluded(workspace, tree)
            except BaseException:
                workspace.close()
                raise
        return workspace, self._room(workspace.root_fd) if is_tight else None

    def unpacker(
        self, workspace: Workspace, survey: Survey, room: Room | None, token: CancelToken, progress: Progress
    ) -> Unpacker:
        """Return what unpacks the tree of `survey` into the working directory."""
        return Unpacker(
            workspace,
            owner=self.options.owner,
            special_bits=self.options.special_bits,
            made=self.options.made,
            mounts=mounts_below(self.directory),
            max_implied=self.options.limits.max_files - survey.entries,
            token=token,
            progress=progress,
            room=room,
        )

    def inode(self, workspace: Workspace) -> int | None:
        """Return the number by which `find` knows the working directory; None where numbers do not last."""
        return os.fstat(workspace.work_fd).st_ino if keeps_inodes(self.directory) else None

    def find(self, inode: int | None) -> Workspace:
        """Return the working directory that was left, which has this inode number; None for any.

        Raises `WorkGone` when it is not there any more.
        """
        with disk_errors(f"cannot look into '{self._shown}'"):
            workspace = Workspace.find(self.directory, self.work_id, inode)
        if workspace is None:
            raise WorkGone(f"what was unpacked in '{self._shown}' is not there any more")
        return workspace

    def difference(self, workspace: Workspace, token: CancelToken) -> Difference:
        """Return what a commit would do, in numbers; the target does not change."""
        with disk_errors(f"cannot compare with '{self._shown}'"):
            own = self._own(workspace)
            return Differences(workspace, goes=self._goes(workspace), own=own, token=token).count()

    def comparison(self, workspace: Workspace, check: Callable[[], None]) -> Comparison:
        """Return the steps of a commit; `check` ends their iteration by raising. Raises OSError."""
        return Comparison(
            workspace,
            in_pieces=is_layered(self.directory),
            goes=self._goes(workspace),
            special_bits=self.options.special_bits,
            mounts=mounts_below(self.directory),
            own=self._own(workspace),
            check=check,
        )

    def _check_space(self, tree: SavedTree, survey: Survey, token: CancelToken) -> bool:
        root_fd = open_resolved(self.directory)
        try:
            return SpaceCheck(tree, root_fd, self._room(root_fd), token.check).is_tight(survey)
        finally:
            os.close(root_fd)

    def _room(self, root_fd: int) -> Room:
        return Room(root_fd, f"the target '{self._shown}'", self.options.reserve_bytes, NoSpace)

    def _keep_excluded(self, workspace: Workspace, tree: SavedTree) -> None:
        data_set, _, path = self.options.prefix.partition("/")
        manifest = tree.manifest() if self.options.mode == "replace" else None
        if manifest and (lists := manifest.exclude.get(data_set)):
            workspace.keep_excluded(lists, f"/{path}" if data_set else None)

    def _goes(self, workspace: Workspace) -> Goes | None:
        if self.options.mode == "merge":
            return None
        root = Root("", self.directory, self.options.names, self.options.without)
        excluded = workspace.excluded()
        if excluded is None:
            return lambda path, _is_directory: root.holds(path)
        return lambda path, is_directory: (
            root.holds(path) and not excluded(f"{path}/" if is_directory else path)
        )

    def _own(self, workspace: Workspace) -> list[str]:
        """Return the agent's own directories in the target, by their names there."""
        return [workspace.name, *below(self.directory, self.options.own)]

    @property
    def _shown(self) -> str:
        return readable(str(self.directory))
