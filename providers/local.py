"""Archives in a directory of this device: its own disk, or a stick that may be unplugged at any time.

An archive appears under its name in one step: it is written to a hidden file beside it (see
`providers.directory`), flushed to the disk, renamed, and the directory flushed. It works on VFAT: it needs
no modes, owners or links, and adds no colon to a name.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar, NamedTuple

from providers.api import (
    MAX_NAME_BYTES,
    Capability,
    Checkpoint,
    Limits,
    Piece,
    Sink,
    Source,
    Storage,
    Stored,
    check_name,
)
from providers.directory import (
    DIRECTORY_FLAGS,
    classify_os_error,
    inside,
    is_mount_point,
    is_part,
    name_new,
    new_part,
    open_resolved,
    refuse_special,
    remove_abandoned,
    write_all,
)
from providers.errors import (
    AccessDenied,
    AlreadyThere,
    BadOptions,
    Corrupted,
    NoSpace,
    NotFound,
    Rejected,
    TargetAbsent,
    translating,
)
from providers.free_space import Room
from providers.options import Option, problems_in
from providers.writeback import CHUNK_BYTES, WriteBack

_ETAG = "local.etag"
_SMALL_BYTES = 64 << 10
_SPARE_BYTES = 1 << 20
"""The room that large objects of a repository leave: to make room in it takes a lock and an index."""
OPTIONS = {"local.name": Option(), "local.target": Option()}


class Local(Storage):
    """Storage in one of the targets that the device's settings name.

    Options: `local.target`, a key of `limits.targets` (default "device"); `local.name`, the archive's
    relative name, which may contain `/`. Directories in that name are made with mode 0700, archives with
    0600; the target itself must be there.
    """

    capabilities = frozenset(Capability) - {Capability.RESUME_STREAM}
    kind: ClassVar[str] = "local"
    needs_size: ClassVar[bool] = False
    name_option: ClassVar[str | None] = "local.name"
    prefix_option: ClassVar[str] = "local.directory"

    def __init__(self, options: Mapping[str, str], limits: Limits, /) -> None:
        self._target_name = options.get("local.target") or "device"
        if problems := _problems(options, self._target_name, limits):
            raise BadOptions(problems)
        self._target, self._reserve = limits.targets[self._target_name], limits.reserve
        self._check = limits.check
        self._chunk_bytes = min(CHUNK_BYTES, limits.buffer_bytes)

    def preflight(self, writing: bool, /) -> None:
        """Raises `TargetAbsent` when the target is not there, `AccessDenied` when it cannot be written."""
        with self._translating(), self._root() as root:
            if writing and not os.access(".", os.W_OK | os.X_OK, dir_fd=root, effective_ids=True):
                read_only = os.fstatvfs(root).f_flag & os.ST_RDONLY
                reason = "its file system is read-only" if read_only else "this user cannot write there"
                raise AccessDenied(f"target '{self._target_name}': {reason}")

    def put(
        self, name: str, source: Source, _metadata: Mapping[str, str], _checkpoint: Checkpoint, /
    ) -> Stored:
        """Write `source` and make it visible as `name` at its end; leave nothing after an error.

        Raises `NoSpace` before the first byte when the size is known and does not fit, and later when the
        device's reserve would be used up. The metadata is not kept.
        """
        with self._new_file(name, source.size or 0) as new:
            size_bytes = self._copy(source, new.file, new.room)
            with self._translating():
                # The order is what makes it durable: content, then name, then the directory that has it.
                os.fsync(new.file)
                refuse_special(new.leaf, new.directory)
                os.rename(new.part, new.leaf, src_dir_fd=new.directory, dst_dir_fd=new.directory)
                os.fsync(new.directory)
                return replace(self._stored(name, os.fstat(new.file)), size_bytes=size_bytes)

    def create(self, name: str, content: bytes | bytearray, /) -> Stored:
        """Write a file and make it visible as `name` at its end; leave nothing after an error.

        Raises `NoSpace` for a large one that would take the room of small ones, where a reserve is kept.
        """
        spare_bytes = _SPARE_BYTES if self._reserve and len(content) > _SMALL_BYTES else 0
        with self._new_file(name, len(content) + spare_bytes) as new:
            for start in range(0, len(content), self._chunk_bytes):
                self._check()
                with self._translating():
                    write_all(new.file, content[start : start + self._chunk_bytes])
            with self._translating():
                os.fsync(new.file)
                try:
                    name_new(new.part, new.leaf, new.directory)
                except FileExistsError as error:
                    raise AlreadyThere(f"{self.location(name)} is there already") from error
                os.fsync(new.directory)
                return self._stored(name, os.fstat(new.file))

    @contextmanager
    def _new_file(self, name: str, size_bytes: int) -> Iterator["_NewFile"]:
        """Make an unfinished file for `name`; remove it when the block fails. Raises `StorageError`."""
        *parents, leaf = name.split("/")
        if is_part(leaf):
            raise Rejected(
                "names of the form '.<name>.part-<16 hex digits>' are kept for unfinished archives"
            )
        with ExitStack() as stack:
            with self._translating():
                root = stack.enter_context(self._root())
                directory = stack.enter_context(inside(root, parents, create=True))
                refuse_special(leaf, directory)
                remove_abandoned(directory)
                room = self._room(directory)
                room.check(size_bytes)
                part, file = stack.enter_context(new_part(directory, leaf))
            yield _NewFile(directory, leaf, part, file, room)

    def get(self, name: str, sink: Sink, checkpoint: Checkpoint, /) -> Stored:
        """Read `name` into `sink`; continues at `sink.tell()` when the file is still the same one."""
        with self._opened(name) as (file, status):
            self._resume(sink, checkpoint, status)
            self._fetch(file, sink, status.st_size)
        checkpoint.pop(_ETAG, None)
        return self._stored(name, status)

    def stat(self, name: str, /) -> Stored:
        with self._opened(name) as (_, status):
            return self._stored(name, status)

    def read_range(self, name: str, offset: int, size_bytes: int, /) -> Piece:
        with self._opened(name) as (file, status), self._translating():
            return Piece(os.pread(file, size_bytes, offset), status.st_size, _etag(status))

    def list(self, prefix: str, /) -> Iterator[Stored]:
        """Yield the regular files whose names begin with `prefix`, without unfinished archives."""
        parents = prefix.split("/")[:-1]
        if ".." in parents:
            return
        with ExitStack() as stack:
            stack.enter_context(self._translating())
            root = stack.enter_context(self._root())
            try:
                top = stack.enter_context(inside(root, parents, create=False))
            except (FileNotFoundError, NotADirectoryError):
                return
            for path, inner, files, directory in os.fwalk(".", dir_fd=top, onerror=_pass_over):
                self._check()
                if len(os.fsencode(path)) > MAX_NAME_BYTES:
                    inner.clear()  # no name leads there, and each level takes a descriptor
                for file in files:
                    name = os.path.normpath("/".join([*parents, path, file]))
                    if name.startswith(prefix) and not is_part(file):
                        with suppress(FileNotFoundError):  # removed meanwhile
                            status = os.stat(file, dir_fd=directory, follow_symlinks=False)
                            if stat.S_ISREG(status.st_mode):  # nobody gets anything else
                                yield self._stored(name, status)

    def _stored(self, name: str, status: os.stat_result) -> Stored:
        modified = None
        with suppress(ValueError, OverflowError):  # a time that no calendar has
            modified = datetime.fromtimestamp(status.st_mtime, UTC)
        return Stored(name, status.st_size, _etag(status), self.location(name), modified)

    def delete(self, name: str, /) -> None:
        """Remove the file, on the disk when this returns; a link is removed, not what it leads to."""
        *parents, leaf = name.split("/")
        with ExitStack() as stack:
            stack.enter_context(self._translating())
            root = stack.enter_context(self._root())
            stack.enter_context(suppress(FileNotFoundError))
            directory = stack.enter_context(inside(root, parents, create=False))
            os.unlink(leaf, dir_fd=directory)
            os.fsync(directory)

    def location(self, name: str, /) -> str:
        return f"local:{self._target_name}/{name}"

    def close(self) -> None:
        """Do nothing: no file stays open between calls."""

    @contextmanager
    def _translating(self) -> Iterator[None]:
        with translating({OSError: classify_os_error(f"target '{self._target_name}'")}):
            yield

    @contextmanager
    def _root(self) -> Iterator[int]:
        """Open the target. Raises `TargetAbsent`, also while nothing is mounted there."""
        try:
            path = self._target.path
            descriptor = open_resolved(path) if self._target.resolved else os.open(path, DIRECTORY_FLAGS)
        except (FileNotFoundError, NotADirectoryError) as error:
            if self._target.resolved and any(map(os.path.islink, (path, *path.parents))):
                raise OSError(errno.ELOOP, "a link is on the way") from error
            raise TargetAbsent(
                f"target '{self._target_name}' is not there: plug it in or create it"
            ) from error
        try:
            if self._target.mount and not is_mount_point(descriptor):
                raise TargetAbsent(
                    f"target '{self._target_name}' is not there: nothing is mounted, plug it in"
                )
            yield descriptor
        finally:
            os.close(descriptor)

    def _room(self, directory: int) -> Room:
        reserve_bytes = self._reserve.on(directory) if self._reserve else 0
        return Room(directory, f"target '{self._target_name}'", reserve_bytes, NoSpace)

    def _copy(self, source: Source, file: int, room: Room) -> int:
        """Write the source; return its length. Raises `Corrupted` when length or MD5 are not as announced."""
        digest = hashlib.md5(usedforsecurity=False) if source.md5 else None
        done, write_back = 0, WriteBack(file)
        while chunk := source.read(self._chunk_bytes):
            if digest:
                digest.update(chunk)
            with self._translating():
                room.take(len(chunk))
                write_all(file, chunk)
                done += len(chunk)
                write_back.reached(done)
        if source.size not in (None, done):
            raise Corrupted(
                f"the archive has {done} bytes where {source.size} were announced: nothing is stored"
            )
        if digest and digest.digest() != source.md5:
            raise Corrupted("the archive's MD5 is not the announced one: nothing is stored")
        return done

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[int, os.stat_result]]:
        """Open the file, and close it at the end. Raises `NotFound`, also for what is no regular file."""
        *parents, leaf = name.split("/")
        with ExitStack() as stack:
            with self._translating():
                root = stack.enter_context(self._root())
                try:
                    directory = stack.enter_context(inside(root, parents, create=False))
                    # Without O_NONBLOCK a FIFO of this name would be waited for.
                    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                    file = os.open(leaf, flags, dir_fd=directory)
                except FileNotFoundError as error:
                    raise NotFound(f"{self.location(name)} does not exist") from error
                stack.callback(os.close, file)
                status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise NotFound(f"{self.location(name)} is not a regular file")
            yield file, status

    def _resume(self, sink: Sink, checkpoint: Checkpoint, status: os.stat_result) -> None:
        same = checkpoint.get(_ETAG) == _etag(status)
        if sink.tell() and not (same and sink.tell() <= status.st_size):
            sink.restart()
        if not same:
            checkpoint[_ETAG] = _etag(status)

    def _fetch(self, file: int, sink: Sink, size_bytes: int) -> None:
        offset = sink.tell()
        sink.expect(size_bytes)
        while offset < size_bytes:
            with self._translating():
                chunk = os.pread(file, min(self._chunk_bytes, size_bytes - offset), offset)
            if not chunk:
                raise Corrupted(
                    f"target '{self._target_name}': the file ended at {offset} of {size_bytes} bytes"
                )
            sink.write(chunk)
            offset += len(chunk)


class _NewFile(NamedTuple):
    """An unfinished file `part`, open as `file`, that is to become `leaf` in `directory`."""

    directory: int
    leaf: str
    part: str
    file: int
    room: Room


def _problems(options: Mapping[str, str], target_name: str, limits: Limits) -> dict[str, str]:
    problems = problems_in(options, "local.", OPTIONS)
    try:
        check_name(options.get("local.name") or "default", "local.name")
    except BadOptions as error:
        problems = error.problems | problems
    if target_name not in limits.targets:
        known = ", ".join(sorted(limits.targets)) or "none is configured"
        problems["local.target"] = f"must be one of: {known}"
    return problems


def _etag(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


def _pass_over(error: OSError) -> None:
    """Ignore a directory that is gone, or closed to this user as `lost+found` is; raise other errors.

    No archive of this user is in there. The target itself has to be readable.
    """
    if error.filename == "." or not isinstance(error, FileNotFoundError | PermissionError):
        raise error
