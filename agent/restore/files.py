"""The regular files of an unpacked tree, made by a few threads side by side.

Inflating and most system calls release Python's lock. Small files go to a thread in batches, because giving
work to a thread costs about as much as a file; a large file goes by itself. Splitting one between a thread
that inflates and one that writes costs as much as it saves (measured).

Batches of very small files are made by the caller's thread: several threads would want the lock every few
microseconds, and waking up for it takes longer. Only inflating them is shared. From a snapshot, whose chunks
take longer to read, two threads make them.
"""

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from agent.base.errors import disk_errors
from agent.base.text import readable
from agent.formats.base import SavedTree
from agent.formats.entries import Item
from agent.formats.entry_names import bad_entry
from agent.restore.directories import Tree
from agent.restore.disk import syncs_tell_errors
from agent.restore.metadata import Meta, set_meta
from agent.transfer.cancel import CancelToken
from providers.writeback import WriteBack

_THREADS = 2
_SMALL_BYTES = 1 << 18
_LITTLE_BYTES = 1 << 13
_BATCH_FILES = 64  # a batch of so many ends with its directory: two threads in one wait for each other
_BATCH_MOST_FILES = 256
_BATCH_BYTES = 1 << 20  # of the archive, from the first file to the last, which are read at once
_MOST_BATCHES = 2 * _THREADS
_SMALLEST_HOLE_BYTES = 4096  # the block of most file systems
_SECOND_NS, _FINE_NS = 1_000_000_000, 1000  # ext3 keeps whole seconds, NTFS tenths of a microsecond

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class PendingFile(NamedTuple):
    item: Item
    meta: Meta


_MISPLACED = {
    errno.ENOTDIR: "lies below one that is no directory",
    errno.EEXIST: "is there twice, is no directory but others lie below it, or differs from another only in "
    "what this file system ignores",
    errno.ENAMETOOLONG: "has a name that is too long for the target's file system",
}


def check_misplaced(name: str, error: OSError) -> None:
    """Raise ArchiveError for an error that the entry's name caused."""
    if problem := _MISPLACED.get(error.errno or 0):
        raise bad_entry(name, problem) from error


class FileMaker:
    """Makes files in existing directories on a few threads, in any order."""

    def __init__(
        self,
        tree: SavedTree,
        new_fd: int,
        token: CancelToken,
        passed: Callable[[int], None],
        take: Callable[[int], None],
        *,
        unowned: Callable[[], None],
    ) -> None:
        """`new_fd` is the top directory, open until `close`. Any thread calls `passed` with bytes of content
        and `take` with bytes that are not holes, before they are written; both may raise. `unowned` is called
        for each file that cannot get its owner."""
        self._saved, self._token, self._passed, self._take = tree, token, passed, take
        self._unowned = unowned
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="unpack")
        self._trees = [Tree(new_fd) for _ in range(_THREADS)]
        self._tree = Tree(new_fd)
        self._batch: list[PendingFile] = []
        self._directory = ""
        self._running: deque[Future[None]] = deque()
        status = os.fstat(new_fd)
        # A new file gets the owner of new/: set-group-id or a mount option decides about both.
        self._born = (status.st_uid, status.st_gid)
        self._fsync_each = not syncs_tell_errors()

    def add(self, wanted: PendingFile) -> None:
        """Add a file. Raises the error of an earlier one: ArchiveError, NoSpace, IoError, Cancelled."""
        directory = wanted.item.name.rpartition("/")[0]
        if self._batch and self._is_full(wanted.item, directory):
            self._send()
        self._batch.append(wanted)
        self._directory = directory

    def drain(self) -> None:
        """Wait until all files are made. Raises as `add`."""
        if self._batch:
            self._send()
        while self._running:
            self._running.popleft().result()

    def close(self) -> None:
        """End the threads; files that were not begun are dropped."""
        self._pool.shutdown(cancel_futures=True)
        for tree in (self._tree, *self._trees):
            tree.close()

    def _is_full(self, item: Item, directory: str) -> bool:
        files = len(self._batch)
        return (
            files >= _BATCH_MOST_FILES
            or (files >= _BATCH_FILES and directory != self._directory)
            or not (is_small(item) and is_small(self._batch[0].item))
            or self._saved.span_bytes(self._batch[0].item, item) > _BATCH_BYTES
        )

    def _send(self) -> None:
        batch, self._batch = self._batch, []
        if self._is_for_one_thread(batch):
            self._make_little(batch)
            return
        while len(self._running) >= _MOST_BATCHES:
            self._running.popleft().result()
        self._running.append(self._pool.submit(self._make_all, batch))

    def _is_for_one_thread(self, batch: list[PendingFile]) -> bool:
        are_little = sum(each.item.size for each in batch) < _LITTLE_BYTES * len(batch)
        return are_little and self._saved.reads_quickly and not self._fsync_each

    def _make_little(self, batch: list[PendingFile]) -> None:
        """Make very small files on this thread; an idle thread inflates one half of them."""
        half = len(batch) // 2
        helped = self._pool.submit(self._inflated, batch[half:])
        contents = self._inflated(batch[:half])
        contents += self._inflated(batch[half:]) if helped.cancel() else helped.result()
        self._make_small(self._tree, batch, contents)

    def _inflated(self, batch: list[PendingFile]) -> list[bytes]:
        return list(self._saved.contents([wanted.item for wanted in batch])) if batch else []

    def _make_all(self, batch: list[PendingFile]) -> None:
        tree = self._trees.pop()  # the pool has as many threads
        try:
            if is_small(batch[0].item):
                self._make_small(tree, batch, self._saved.contents([wanted.item for wanted in batch]))
            else:
                self._make(tree, batch[0])
        finally:
            self._trees.append(tree)

    def _make_small(self, tree: Tree, batch: list[PendingFile], contents: Iterable[bytes]) -> None:
        self._passed(sum(wanted.item.size for wanted in batch))
        for wanted, content in zip(batch, contents, strict=True):
            self._token.check()
            self._make(tree, wanted, content)

    def _make(self, tree: Tree, wanted: PendingFile, content: bytes | None = None) -> None:
        """Make one file; without `content` it is read from the archive piece by piece."""
        name = wanted.item.name
        try:
            fd_of_directory, last_name = tree.parent(name)
            fd = os.open(last_name, _CREATE, 0o600, dir_fd=fd_of_directory)
            try:
                self._fill(fd, wanted, content)
            finally:
                os.close(fd)
        except OSError as error:
            with disk_errors(f"cannot unpack '{readable(name)}'"):
                check_misplaced(name, error)
                raise

    def _fill(self, fd: int, wanted: PendingFile, content: bytes | None) -> None:
        output, meta = SparseWriter(fd, self._take), wanted.meta

        def write(piece: bytes) -> None:
            self._passed(len(piece))
            output.write(piece)

        if content is None:
            self._saved.read(wanted.item, write)
        else:
            output.write(content)
        output.finish()
        if (meta.uid, meta.gid) == self._born:
            meta = meta._replace(uid=-1, gid=-1)
        if not set_meta(fd, meta):
            self._unowned()
        if self._fsync_each:
            os.fsync(fd)


def is_small(item: Item) -> bool:
    return item.size <= _SMALL_BYTES and item.packed_size <= _SMALL_BYTES


def is_hole(chunk: bytes) -> bool:
    """Return True for a chunk of zeros that is long enough for a hole."""
    # rstrip is nearly free on other data: it looks at the last byte.
    return len(chunk) >= _SMALLEST_HOLE_BYTES and not chunk.rstrip(b"\0")


class SparseWriter:
    """Writes a new file from its beginning to its end; a chunk of zeros becomes a hole."""

    def __init__(self, fd: int, take: Callable[[int], None]) -> None:
        """`take` is called with the number of bytes before they are written; it may raise."""
        self._fd, self._take = fd, take
        self._write_back = WriteBack(fd)
        self._size = 0
        self._hole_at_end = False

    def write(self, chunk: bytes) -> None:
        """Write the next chunk. Raises OSError, and what `take` raises."""
        self._size += len(chunk)
        self._hole_at_end = is_hole(chunk)
        if self._hole_at_end:
            os.lseek(self._fd, len(chunk), os.SEEK_CUR)
            return
        self._take(len(chunk))
        written = os.write(self._fd, chunk)
        while written < len(chunk):
            written += os.write(self._fd, memoryview(chunk)[written:])
        self._write_back.reached(self._size)

    def finish(self) -> None:
        """Give the file its length when it ends in a hole. Raises OSError."""
        if self._hole_at_end:
            os.ftruncate(self._fd, self._size)


def is_made_of(item: Item, status: os.stat_result) -> bool:
    """Return True when a file that was made has the size and the time of an item.

    The walk takes files with one inode number for one file, and such a number is given to a new file again.
    """
    if status.st_size != item.size:
        return False
    # The file system may keep less of the time than the archive.
    time_ns, wanted_ns = status.st_mtime_ns, item.mtime_ns
    return (
        wanted_ns is None
        or abs(time_ns - wanted_ns) < _FINE_NS
        or time_ns == wanted_ns - wanted_ns % _SECOND_NS
    )
