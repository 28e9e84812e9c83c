"""Archives in a directory of this device: its own disk, or a stick that may be unplugged at any time.

An archive appears under its name in one step: it is written to a hidden file beside it (see
`providers.directory`), flushed to the disk, renamed, and the directory flushed. This works on
VFAT: it needs no modes, owners or links, and adds no colon to a name.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar

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
from providers.directory import inside, is_part, name_new, refuse_special, write_all
from providers.errors import AccessDenied, AlreadyThere, BadOptions, Corrupted
from providers.free_space import Room
from providers.local_target import TargetDirectory
from providers.options import Option, problems_in
from providers.writeback import CHUNK_BYTES, WriteBack

_ETAG = "local.etag"
_SMALL_BYTES = 64 << 10
_SPARE_BYTES = 1 << 20
"""The room that large objects of a repository leave: who removes others has to write a lock and an index."""
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
        name = options.get("local.target") or "device"
        if problems := _problems(options, name, limits):
            raise BadOptions(problems)
        self._target = TargetDirectory(name, limits.targets[name], limits.reserve)
        self._spare_bytes = _SPARE_BYTES if limits.reserve else 0
        self._check = limits.check
        self._chunk_bytes = min(CHUNK_BYTES, limits.buffer_bytes)

    def preflight(self, writing: bool, /) -> None:
        """Raises `TargetAbsent` when the target is not there, `AccessDenied` when it cannot be written."""
        with self._target.translating(), self._target.opened() as root:
            if writing and not os.access(".", os.W_OK | os.X_OK, dir_fd=root, effective_ids=True):
                read_only = os.fstatvfs(root).f_flag & os.ST_RDONLY
                reason = "its file system is read-only" if read_only else "this user cannot write there"
                raise AccessDenied(f"{self._target}: {reason}")

    def put(
        self, name: str, source: Source, _metadata: Mapping[str, str], _checkpoint: Checkpoint, /
    ) -> Stored:
        """Write `source`, and make it visible as `name` when all is written; leave nothing after an error.

        Raises `NoSpace` before the first byte when the size is known and does not fit, and later when the
        device's reserve would be used up. The metadata is not kept.
        """
        with self._target.new_file(name, source.size or 0) as new:
            size_bytes = self._copy(source, new.file, new.room)
            with self._target.translating():
                # The order is what makes it durable: content, then name, then the directory that has it.
                os.fsync(new.file)
                refuse_special(new.leaf, new.directory)
                os.rename(new.part, new.leaf, src_dir_fd=new.directory, dst_dir_fd=new.directory)
                os.fsync(new.directory)
                return replace(self._stored(name, os.fstat(new.file)), size_bytes=size_bytes)

    def create(self, name: str, content: bytes | bytearray, /) -> Stored:
        """Write a file, and make it visible as `name` when all is written; leave nothing after an error.

        Raises `NoSpace` for a large file that would take the room that is reserved for small ones.
        """
        spare_bytes = self._spare_bytes if len(content) > _SMALL_BYTES else 0
        with self._target.new_file(name, len(content) + spare_bytes) as new:
            for start in range(0, len(content), self._chunk_bytes):
                self._check()
                with self._target.translating():
                    write_all(new.file, content[start : start + self._chunk_bytes])
            with self._target.translating():
                os.fsync(new.file)
                try:
                    name_new(new.part, new.leaf, new.directory)
                except FileExistsError as error:
                    raise AlreadyThere(f"{self.location(name)} is there already") from error
                os.fsync(new.directory)
                return self._stored(name, os.fstat(new.file))

    def get(self, name: str, sink: Sink, checkpoint: Checkpoint, /) -> Stored:
        """Read `name` into `sink`; continues at `sink.tell()` when the file is still the same one."""
        with self._target.opened_file(name) as (file, status):
            self._resume(sink, checkpoint, status)
            self._fetch(file, sink, status.st_size)
        checkpoint.pop(_ETAG, None)
        return self._stored(name, status)

    def stat(self, name: str, /) -> Stored:
        with self._target.opened_file(name) as (_, status):
            return self._stored(name, status)

    def read_range(self, name: str, offset: int, size_bytes: int, /) -> Piece:
        with self._target.opened_file(name) as (file, status), self._target.translating():
            return Piece(os.pread(file, size_bytes, offset), status.st_size, _etag(status))

    def list(self, prefix: str, /) -> Iterator[Stored]:
        """Yield the regular files whose names begin with `prefix`, without unfinished archives."""
        parents = prefix.split("/")[:-1]
        if ".." in parents:
            return
        with ExitStack() as stack:
            stack.enter_context(self._target.translating())
            root = stack.enter_context(self._target.opened())
            try:
                top = stack.enter_context(inside(root, parents, create=False))
            except (FileNotFoundError, NotADirectoryError):
                return
            for path, inner, files, directory in os.fwalk(".", dir_fd=top, onerror=_pass_over):
                self._check()
                if len(os.fsencode(path)) > MAX_NAME_BYTES:
                    inner.clear()  # no name is that long, and each level takes a descriptor
                for file in files:
                    name = os.path.normpath("/".join([*parents, path, file]))
                    if name.startswith(prefix) and not is_part(file):
                        with suppress(FileNotFoundError):  # removed meanwhile
                            status = os.stat(file, dir_fd=directory, follow_symlinks=False)
                            if stat.S_ISREG(status.st_mode):  # nothing else can be fetched
                                yield self._stored(name, status)

    def _stored(self, name: str, status: os.stat_result) -> Stored:
        modified = None
        with suppress(ValueError, OverflowError):  # a time beyond those of datetime
            modified = datetime.fromtimestamp(status.st_mtime, UTC)
        return Stored(name, status.st_size, _etag(status), self.location(name), modified)

    def delete(self, name: str, /) -> None:
        """Remove the file; the removal is on the disk on return. A link is removed, not its target."""
        *parents, leaf = name.split("/")
        with ExitStack() as stack:
            stack.enter_context(self._target.translating())
            root = stack.enter_context(self._target.opened())
            stack.enter_context(suppress(FileNotFoundError))
            directory = stack.enter_context(inside(root, parents, create=False))
            os.unlink(leaf, dir_fd=directory)
            os.fsync(directory)

    def location(self, name: str, /) -> str:
        return self._target.location(name)

    def close(self) -> None:
        """Do nothing: no file stays open between calls."""

    def _copy(self, source: Source, file: int, room: Room) -> int:
        """Write the source; return its length. Raises `Corrupted` when length or MD5 are not as announced."""
        digest = hashlib.md5(usedforsecurity=False) if source.md5 else None
        done, write_back = 0, WriteBack(file)
        while chunk := source.read(self._chunk_bytes):
            if digest:
                digest.update(chunk)
            with self._target.translating():
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
            with self._target.translating():
                chunk = os.pread(file, min(self._chunk_bytes, size_bytes - offset), offset)
            if not chunk:
                raise Corrupted(f"{self._target}: the file ended at {offset} of {size_bytes} bytes")
            sink.write(chunk)
            offset += len(chunk)


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
