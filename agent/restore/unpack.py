"""Unpacking an archive into new/: everything with its final metadata, nothing outside."""

import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from tempfile import TemporaryFile
from threading import Lock

from agent.formats.base import DIR, LINK, Item, SavedTree
from agent.formats.names import bad_entry
from agent.restore.directories import Tree, is_directory, mark, open_directory
from agent.restore.disk import NO_HARD_LINK, by_descriptor
from agent.restore.files import FileMaker, PendingFile, check_misplaced
from agent.restore.metadata import Meta, allowed_xattrs, may_chown, set_link_meta, set_meta, xattrs_of
from agent.restore.mounts import refuse_mounts
from agent.restore.pending import PendingDirectories
from agent.restore.workspace import NEW, Workspace
from agent.transfer.cancel import CancelToken
from agent.transfer.streams import Progress
from providers.free_space import Room

_USUAL = Meta(0o755, -1, -1, None)
"""What a target is like that was made, and of which the archive says nothing."""


class Unpacker:
    """Writes the entries of one archive, in its order.

    Directories get their metadata at the end: writing into one changes its time, and its mode may
    forbid it.
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
        """`made`: the target was not there before. `max_implied`: directories without an entry of their own,
        as `_imply` counts them. `room`: what is written may not fit, and is counted."""
        self._max_implied, self._made = max_implied, made
        self._workspace = workspace
        self._target, self._work_fd = workspace.target, workspace.work_fd
        self._work_name = workspace.name
        self._special_bits, self._mounts, self._token, self._progress = special_bits, mounts, token, progress
        self._room = room
        self._may_chown = may_chown()
        self._owner = owner and self._may_chown
        self._mode_bits = 0o7777 if special_bits else 0o777
        self._bytes_done = 0
        self._counting = Lock()
        self.current = ""
        """The name that is being worked on, for messages."""

    def run(self, tree: SavedTree) -> None:
        """Unpack everything. Raises OSError, ArchiveError, IoError (a mount point) and Cancelled."""
        with ExitStack() as closing:
            new_fd = open_directory(NEW, self._work_fd)
            closing.callback(os.close, new_fd)
            new, self._sources = Tree(new_fd), Tree(new_fd)
            closing.callback(new.close)
            closing.callback(self._sources.close)
            self._directories = PendingDirectories(
                closing.enter_context(TemporaryFile(dir=by_descriptor(self._work_fd)))
            )
            self._files = FileMaker(tree, new_fd, self._token, self._passed, self._take)
            closing.callback(self._files.close)  # before the others, whatever the end is
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
                set_meta(new.directory(path), meta or self._filled(path, stat.S_IFDIR, implied))

    def _is_made(self, path: str, new: Tree) -> bool:
        """Return True when a directory on the way had to be made, for what is restored below it."""
        return is_directory(new.stat(path)) and not is_directory(self._target.stat(path))

    def _unpack(self, tree: SavedTree, item: Item, new: Tree) -> None:
        if f"{item.name}/".startswith(f"{self._work_name}/"):
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
        meta = self._meta(item, stat.S_IFDIR)
        self._directories.remember(item.name, meta, on_the_way=item.on_the_way)

    def _made_for(self, name: str, path: str) -> None:
        if path != name:
            self._imply(path)

    def _imply(self, path: str) -> None:
        """One entry of 65,535 bytes can imply 32,767 directories, whose paths make half a gigabyte: so such
        a directory counts like an entry, and like one more for every 256 bytes of its path."""
        self._max_implied -= 1 + len(path) // 256
        if self._max_implied < 0:
            raise bad_entry(path, "needs more directories than the limit of entries allows")
        self._directories.imply(path)

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
        set_link_meta(name, directory_fd, self._meta(item, stat.S_IFLNK))

    def _hard_link(self, item: Item, source: str, new: Tree) -> bool:
        """Make another name of an earlier file; False when that cannot be: the entry has the content too."""
        self._files.drain()  # the earlier file may be among them
        directory_fd, name = new.parent(item.name, self._imply)
        status = self._sources.stat(source)
        if status is None or not stat.S_ISREG(status.st_mode):
            return False
        source_fd, source_name = self._sources.parent(source)
        try:
            os.link(source_name, name, src_dir_fd=source_fd, dst_dir_fd=directory_fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in NO_HARD_LINK:
                raise
            return False
        self._passed(item.size)
        return True

    def _passed(self, size_bytes: int) -> None:
        self._token.check()
        with self._counting:
            self._bytes_done += size_bytes
            self._progress(self._bytes_done)

    def _take(self, size_bytes: int) -> None:
        if self._room:
            with self._counting:
                self._room.take(size_bytes)

    def _meta(self, item: Item, kind: int) -> Meta:
        uid, gid = item.uid, item.gid
        if not self._owner or uid is None or gid is None:
            uid = gid = -1
        mode = None if item.mode is None else item.mode & self._mode_bits
        xattrs = allowed_xattrs(item.xattrs, self._special_bits)
        return self._filled(item.name, kind, Meta(mode, uid, gid, item.mtime_ns, xattrs))

    def _filled(self, path: str, kind: int, meta: Meta) -> Meta:
        """Fill in what the archive does not say: as in the file that will be replaced, else as is usual."""
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
        fd = mark(self._target.parent(path))
        try:
            return xattrs_of(by_descriptor(fd))
        finally:
            os.close(fd)
