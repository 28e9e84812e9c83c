"""The work of a restore in one root. Its need of space counts holes as holes, and hard links as nothing."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from agent.base.durable import closing_fd
from agent.base.errors import NoSpace, WorkGone, disk_errors
from agent.base.identity import below
from agent.base.mounts import is_layered, keeps_inodes, mounts_below
from agent.base.roots import Root
from agent.base.text import readable
from agent.formats.base import SavedTree
from agent.formats.entries import DIR, FILE, Item
from agent.formats.entry_checks import ArchiveLimits, Survey
from agent.restore.compare import Comparison, Goes
from agent.restore.difference import Difference, Differences
from agent.restore.files import is_hole, is_small
from agent.restore.memory import work_directory_of
from agent.restore.unpack import Unpacker
from agent.restore.workspace import NEW, Workspace
from agent.transfer.cancel import CancelToken
from agent.transfer.streams import Progress
from providers.directory import open_resolved
from providers.free_space import Room

MODES = ("merge", "replace", "exact")
_SMALLEST_GAIN_BYTES = 1 << 16
"""A file that the archive does not make smaller by so much is not read: its holes are smaller than that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """Options of a restore; `mode` is one of `MODES`, anything else raises ValueError."""

    limits: ArchiveLimits
    mode: str = "merge"
    """Entries of the target that the archive does not have: "merge" keeps them, "exact" removes them, and
    "replace" removes those that the backup's patterns did not pass over."""
    reserve_bytes: int = 0
    """Free space that has to be left on the target's file system."""
    owner: bool = True
    """Set owner and group from the archive, if this process has CAP_CHOWN."""
    special_bits: bool = False
    """Restore set-uid, set-gid, sticky and file capabilities."""
    own: tuple[Path, ...] = ()
    """The agent's own directories, which no restore changes."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"restore.mode must be one of {', '.join(MODES)}, not '{readable(self.mode)}'")


@dataclass(frozen=True, slots=True)
class RestoreRoot:
    """A root of a restore, with a working directory of its own.

    Methods raise IoError when the disk fails, and Cancelled.
    """

    root: Root
    """Its directory exists."""
    work_id: str
    """Part of the working directory's name."""
    options: RestoreOptions
    made: bool = False
    """True when the directory was made for this restore, and has no metadata of its own to keep."""
    prove: Callable[[Workspace, str], None] = lambda _workspace, _plan: None
    """Writes the proof of the restore, with the SHA-256 of the plan or "". Raises OSError."""
    inode: int | None = None
    """The working directory's; None before it is made, and where inode numbers do not last."""

    @property
    def directory(self) -> Path:
        return self.root.directory

    @property
    def unpacked(self) -> Path:
        """Return the directory of the unpacked tree, for a command that does the rest itself."""
        return work_directory_of(self.directory, self.work_id) / NEW

    def begin(self, tree: SavedTree, survey: Survey, token: CancelToken) -> tuple[Workspace, Room | None]:
        """Make the working directory; return it, and the room to watch where it is tight.

        Raises NoSpace before the first byte when the tree would not fit beside the reserve.
        """
        with disk_errors(f"cannot restore into '{self._shown}'"):
            tight = self._check_space(tree, survey, token)
            workspace = Workspace.create(self.directory, self.work_id)
            try:
                self.prove(workspace, "")
                self._keep_excluded(workspace, tree)
            except BaseException:
                workspace.close()
                raise
        return workspace, self._room(workspace.root_fd) if tight else None

    def unpacker(
        self, workspace: Workspace, survey: Survey, room: Room | None, token: CancelToken, progress: Progress
    ) -> Unpacker:
        return Unpacker(
            workspace,
            owner=self.options.owner,
            special_bits=self.options.special_bits,
            made=self.made,
            mounts=mounts_below(self.directory),
            max_implied=self.options.limits.max_files - survey.entries,
            token=token,
            progress=progress,
            room=room,
        )

    def begun(self, workspace: Workspace) -> "RestoreRoot":
        """Return the root with the inode number by which `find` knows the working directory."""
        inode = os.fstat(workspace.work_fd).st_ino if keeps_inodes(self.directory) else None
        return replace(self, inode=inode)

    def find(self) -> Workspace:
        """Return the working directory that was left. Raises `WorkGone` when it is not there any more."""
        with disk_errors(f"cannot look into '{self._shown}'"):
            workspace = Workspace.find(self.directory, self.work_id, self.inode)
        if workspace is None:
            raise WorkGone(f"what was unpacked in '{self._shown}' is not there any more")
        return workspace

    def difference(self, workspace: Workspace, token: CancelToken) -> Difference:
        """Return the numbers of a commit; the target does not change."""
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
        with closing_fd(open_resolved(self.directory)) as root_fd:
            block_bytes = os.statvfs(root_fd).f_frsize
            return is_tight(tree, survey, self._room(root_fd), block_bytes, token.check)

    def _room(self, root_fd: int) -> Room:
        return Room(root_fd, f"the target '{self._shown}'", self.options.reserve_bytes, NoSpace)

    def _keep_excluded(self, workspace: Workspace, tree: SavedTree) -> None:
        data_set, _, path = self.root.prefix.partition("/")
        manifest = tree.manifest() if self.options.mode == "replace" else None
        if manifest and (lists := manifest.exclude.get(data_set)):
            workspace.keep_excluded(lists, f"/{path}" if data_set else None)

    def _goes(self, workspace: Workspace) -> Goes | None:
        if self.options.mode == "merge":
            return None
        holds, excluded = self.root.holds, workspace.excluded()
        if excluded is None:
            return lambda path, _is_directory: holds(path)
        return lambda path, is_directory: holds(path) and not excluded(f"{path}/" if is_directory else path)

    def _own(self, workspace: Workspace) -> list[str]:
        """Return the agent's own directories in the target, by their names there."""
        return [workspace.name, *below(self.directory, self.options.own)]

    @property
    def _shown(self) -> str:
        return readable(str(self.directory))


def is_tight(
    tree: SavedTree, survey: Survey, room: Room, block_bytes: int, check: Callable[[], None]
) -> bool:
    """Return False when everything fits without holes and links, which saves reading the archive.

    Return True when it fits because of them. Raises NoSpace when it does not, OSError, ArchiveError, and what
    `check` raises, which is called for each item and piece.
    """
    try:
        room.check(survey.disk_bytes, survey.entries)
    except NoSpace:
        room.check(*_needed(tree, room.check(), block_bytes, check))
        return True
    return False


def _needed(tree: SavedTree, free_bytes: int, block_bytes: int, check: Callable[[], None]) -> tuple[int, int]:
    """Return bytes and files; read the archive only until the bytes fit."""
    needed_bytes = needed_files = 0
    for item in _made(tree, check):
        needed_bytes += _on_disk(item, block_bytes)
        needed_files += 1
    for item in _made(tree, check):
        if needed_bytes <= free_bytes:
            break
        if item.kind is FILE and item.size - item.packed_size >= _SMALLEST_GAIN_BYTES:
            needed_bytes -= _hole_bytes(tree, item, check) // block_bytes * block_bytes
    return needed_bytes, needed_files


def _made(tree: SavedTree, check: Callable[[], None]) -> Iterator[Item]:
    for item in tree.items():
        check()
        if item.name and not item.on_the_way and item.hard_link_to is None:
            yield item


def _hole_bytes(tree: SavedTree, item: Item, check: Callable[[], None]) -> int:
    """Return how many bytes of the file become holes."""
    hole_bytes, parts = 0, list[bytes]()

    def look(piece: bytes) -> None:
        nonlocal hole_bytes
        check()
        if is_small(item):  # it is written in one piece
            parts.append(piece)
        elif is_hole(piece):
            hole_bytes += len(piece)

    tree.read(item, look)
    return item.size if parts and is_hole(b"".join(parts)) else hole_bytes


def _on_disk(item: Item, block_bytes: int) -> int:
    """Return the size on the disk without holes: whole blocks, and one for a directory."""
    blocks = 1 if item.kind is DIR else -(-item.size // block_bytes)
    return blocks * block_bytes
