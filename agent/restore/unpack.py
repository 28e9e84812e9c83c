"""Unpacking an archive into new/, with the final metadata of everything."""

import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from tempfile import TemporaryFile
from threading import Lock
from typing import IO

from agent.base.durable import closing_fd
from agent.formats.base import SavedTree
from agent.formats.entries import DIR, LINK, Item
from agent.formats.entry_names import bad_entry
from agent.restore.directories import Tree, is_directory, mark, open_directory
from agent.restore.disk import by_descriptor, link
from agent.restore.files import FileMaker, PendingFile, check_misplaced, is_made_of
from agent.restore.metadata import (
    CAPABILITIES,
    SET_ID,
    Meta,
    allowed_xattrs,
    may_chown,
    set_link_meta,
    set_meta,
    xattrs_of,
)
from agent.restore.mounts import refuse_mounts
from agent.restore.plan import lines_backwards
from agent.restore.workspace import NEW, Workspace
from agent.transfer.cancel import CancelToken
from agent.transfer.streams import Progress
from providers.free_space import Room

_USUAL = Meta(0o755, -1, -1, None)
"""The metadata of a target that was made, when the archive has none."""

PendingDirectory = tuple[str, Meta | None, bool]
"""Path, metadata (None: the archive has no entry for it), and whether it is only on the way."""


class Unpacker:
    """Writes the entries of one archive in its order, and the metadata of directories at the end.

    Writing into a directory changes its time, and its mode may forbid it.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        owner: bool,
        special_bits: bool,
        made: bool,
        mounts: Sequence[str],
        max_implied: int,
        token: CancelToken,
        progress: Progress,
        room: Room | None = None,
    ) -> None:
        """`made`: the target was not there before. `max_implied` limits what `_imply` counts. `room`: given
        where space is tight, and told what is written."""
        self._workspace, self._max_implied, self._made, self._room = workspace, max_implied, made, room
        self._special_bits, self._mounts, self._token, self._progress = special_bits, mounts, token, progress
        self._target = workspace.target
        self._may_chown = may_chown()
        self._asked_owner, self._owner = owner, owner and self._may_chown
        self._own: tuple[int, int] | None = None
        """The owner and group of new files, where those of the archive were asked for and cannot be given."""
        self._mode_bits = 0o7777 if special_bits else 0o7777 & ~SET_ID
        self._bytes_done = 0
        self._counting = Lock()
        self.current = ""
        """The name that is being unpacked, for messages."""
        self.other_owners = 0
        """The entries that do not get the owner or group of the archive, because something refuses it."""
        self.without_rights = 0
        """The entries that lack the set-id bits or capabilities that they have in the archive."""

    def run(self, tree: SavedTree) -> None:
        """Unpack everything. Raises OSError, ArchiveError, IoError (a mount point) and Cancelled."""
        with ExitStack() as closing:
            work_fd = self._workspace.work_fd
            new_fd = open_directory(NEW, work_fd)
            closing.callback(os.close, new_fd)
            if self._asked_owner and not self._may_chown:
                self._own = os.geteuid(), os.fstat(new_fd).st_gid
            new, self._sources = Tree(new_fd), Tree(new_fd)
            closing.callback(new.close)
            closing.callback(self._sources.close)
            file = closing.enter_context(TemporaryFile(dir=by_descriptor(work_fd)))
            self._directories = _PendingDirectories(file)
            self._files = FileMaker(
                tree, new_fd, self._token, self._passed, self._take, unowned=self._unowned
            )
            closing.callback(self._files.close)  # before the others
            for item in tree.items():
                self._token.check()
                self.current = item.name
                self._unpack(tree, item, new)
            self._files.drain()
            self._finish(new)

    def _finish(self, new: Tree) -> None:
        if self._made:
            self._workspace.keep_root_meta(_USUAL)
        for path, meta, on_the_way in self._directories.finish():
            self._token.check()
            self.current = path
            if not path:
                if meta and (self._made or not on_the_way):
                    self._workspace.keep_root_meta(meta)
            elif not on_the_way or self._is_made(path, new):
                implied = Meta(None, -1, -1, None, {})
                if not set_meta(new.directory(path), meta or self._filled(path, stat.S_IFDIR, implied)):
                    self._unowned()

    def _is_made(self, path: str, new: Tree) -> bool:
        """Return True when a directory on the way had to be made, for what is restored below it."""
        return is_directory(new.stat(path)) and not is_directory(self._target.stat(path))

    def _unpack(self, tree: SavedTree, item: Item, new: Tree) -> None:
        if f"{item.name}/".startswith(f"{self._workspace.name}/"):
            raise bad_entry(item.name, "has the name of this restore's own working directory")
        if self._mounts:
            refuse_mounts(item.name, item.kind is not DIR, self._mounts)
        try:
            if item.kind is DIR:
                self._directory(item, new)
            elif item.kind is LINK:
                self._link(tree, item, new)
            elif item.hard_link_to is None or not self._hard_link(item, item.hard_link_to, new):
                self._file(item, new)
        except OSError as error:
            check_misplaced(item.name, error)
            raise

    def _directory(self, item: Item, new: Tree) -> None:
        if not item.on_the_way:
            new.directory(item.name, partial(self._made_for, item.name))
        self._directories.add(item.name, self._meta(item, stat.S_IFDIR), item.on_the_way)

    def _made_for(self, name: str, path: str) -> None:
        if path != name:
            self._imply(path)

    def _imply(self, path: str) -> None:
        """Note a directory that had to be made without an entry of its own, which may still follow.

        One name of 65,535 bytes can imply 32,767 directories, whose paths make half a gigabyte: each
        counts as an entry, and as one more for every 256 bytes of its path.
        """
        self._max_implied -= 1 + len(path) // 256
        if self._max_implied < 0:
            raise bad_entry(path, "needs more directories than the limit of entries allows")
        self._directories.add(path, None)

    def _file(self, item: Item, new: Tree) -> None:
        new.parent(item.name, self._imply)
        self._files.add(PendingFile(item, self._meta(item, stat.S_IFREG)))

    def _link(self, tree: SavedTree, item: Item, new: Tree) -> None:
        parts: list[bytes] = []
        tree.read(item, parts.append)
        points_to = b"".join(parts)
        if b"\0" in points_to:
            raise bad_entry(item.name, "is a link to a name with a NUL byte in it")
        directory_fd, name = new.parent(item.name, self._imply)
        os.symlink(os.fsdecode(points_to), name, dir_fd=directory_fd)
        if not set_link_meta(name, directory_fd, self._meta(item, stat.S_IFLNK)):
            self._unowned()

    def _hard_link(self, item: Item, source: str, new: Tree) -> bool:
        """Make another name of an earlier file; return False when that cannot be, or that is another file."""
        self._files.drain()  # the earlier file may be among them
        destination = new.parent(item.name, self._imply)
        status = self._sources.stat(source)
        if status is None or not stat.S_ISREG(status.st_mode) or not is_made_of(item, status):
            return False
        if not link(self._sources.parent(source), destination):
            return False
        self._passed(item.size)
        return True

    def _passed(self, size_bytes: int) -> None:
        self._token.check()
        with self._counting:
            self._bytes_done += size_bytes
            self._progress(self._bytes_done)

    def _unowned(self) -> None:
        with self._counting:
            self.other_owners += 1

    def _take(self, size_bytes: int) -> None:
        if self._room:
            with self._counting:
                self._room.take(size_bytes)

    def _meta(self, item: Item, kind: int) -> Meta:
        uid, gid = item.uid, item.gid
        if self._own and uid is not None and (uid, gid) != self._own:
            self._unowned()
        if self._loses_rights(item):
            self.without_rights += 1
        if not self._owner or uid is None or gid is None:
            uid = gid = -1
        mode = None if item.mode is None else item.mode & self._mode_bits
        xattrs = allowed_xattrs(item.xattrs, self._special_bits)
        return self._filled(item.name, kind, Meta(mode, uid, gid, item.mtime_ns, xattrs))

    def _loses_rights(self, item: Item) -> bool:
        """Return True when the entry lends rights in the archive, and neither gets nor has them here."""
        bits = (item.mode or 0) & SET_ID
        if self._special_bits or item.on_the_way or not (bits or CAPABILITIES in item.xattrs):
            return False
        return item.kind is not DIR or bool(bits & ~self._mode_of_directory(item.name))

    def _mode_of_directory(self, path: str) -> int:
        """Return the mode of a directory in the target; 0 when it is not there."""
        try:
            return os.fstat(self._target.directory(path)).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return 0

    def _filled(self, path: str, kind: int, meta: Meta) -> Meta:
        """Fill in missing metadata: from the entry that will be replaced, else the usual values."""
        uid_missing = meta.uid == -1 and self._may_chown
        if meta.mode is None or uid_missing:
            old = self._target.stat(path)
            if old is not None and stat.S_IFMT(old.st_mode) == kind:
                if uid_missing:
                    meta = meta._replace(uid=old.st_uid, gid=old.st_gid)
                if meta.mode is None:
                    # The group bits of the old mode may be the mask of an access control list.
                    xattrs = self._old_xattrs(path) if kind != stat.S_IFLNK else {}
                    meta = meta._replace(
                        mode=old.st_mode & self._mode_bits, xattrs=xattrs | dict(meta.xattrs or {})
                    )
        if meta.mode is None:
            meta = meta._replace(mode=0o755 if kind == stat.S_IFDIR else 0o644)
        return meta

    def _old_xattrs(self, path: str) -> dict[str, bytes]:
        with closing_fd(mark(self._target.parent(path))) as fd:
            return xattrs_of(by_descriptor(fd))


class _PendingDirectories:
    """Directories that wait for their metadata, in a file: an archive may have more than fit into memory."""

    def __init__(self, file: IO[bytes]) -> None:
        """`file` is empty and stays the caller's to close. Methods raise OSError."""
        self._file = file

    def add(self, path: str, meta: Meta | None, on_the_way: bool = False) -> None:
        record = path, meta and meta.to_value(), on_the_way
        self._file.write(json.dumps(record).encode("ascii") + b"\n")

    def finish(self) -> Iterator[PendingDirectory]:
        """Yield the implied directories first: a later entry of their own has the last word.

        Then the others from the last to the first: a parent, which most often comes before its children in an
        archive, may end up closed to its own owner.
        """
        self._file.seek(0)
        yield from (pending for pending in map(_read, self._file) if pending[1] is None)
        yield from (pending for pending in map(_read, lines_backwards(self._file)) if pending[1] is not None)


def _read(line: bytes) -> PendingDirectory:
    path, meta, on_the_way = json.loads(line)
    return path, meta and Meta.from_value(meta), on_the_way
