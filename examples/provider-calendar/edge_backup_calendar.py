"""Archives in one directory per month, below a target of the device: an example of a provider.

It works on the same medium as the provider `local` and gives the same promises. What it shows is how
little is left to write when the building blocks of `providers` are used.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import ClassVar
from urllib.parse import unquote

from providers.api import Capability, Checkpoint, Limits, Sink, Source, Storage, Stored
from providers.directory import (
    DIRECTORY_FLAGS,
    classify_os_error,
    inside,
    is_mount_point,
    is_part,
    new_part,
    remove_abandoned,
    write_all,
)
from providers.errors import Corrupted, NotFound, TargetAbsent, translating
from providers.fetch import Body, Download
from providers.options import Option, checked

_CHUNK_BYTES = 1 << 20
_MONTH = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])(?=-\d\d)", re.ASCII)
_UNDATED = "undated"
_DIRECTORY = re.compile(rf"\d{{4}}-\d\d|{_UNDATED}", re.ASCII)


class Calendar(Storage):
    """A `providers.api.Storage`. Options: `calendar.target` (required), `calendar.name`."""

    capabilities = frozenset({Capability.LIST})
    kind: ClassVar[str] = "calendar"
    needs_size: ClassVar[bool] = False
    name_option: ClassVar[str | None] = "calendar.name"

    def __init__(self, options: Mapping[str, str], limits: Limits, /) -> None:
        targets = "|".join(map(re.escape, limits.targets))
        expected = f"one of the device's targets: {', '.join(sorted(limits.targets)) or 'there are none'}"
        known = {"calendar.target": Option(targets, expected, required=True), "calendar.name": Option()}
        given = checked(options, "calendar.", known)
        self._target = limits.targets[given["calendar.target"]]
        self._check = limits.check
        self._what = f"target '{given['calendar.target']}'"

    def preflight(self, _writing: bool, /) -> None:
        """Raises `TargetAbsent` when the target is not there."""
        with self._translating(), self._root():
            pass

    def put(
        self, name: str, source: Source, _metadata: Mapping[str, str], _checkpoint: Checkpoint, /
    ) -> Stored:
        with ExitStack() as stack:
            with self._translating():
                root = stack.enter_context(self._root())
                directory = stack.enter_context(inside(root, [_month(name)], create=True))
                remove_abandoned(directory)
                part, file = stack.enter_context(new_part(directory, _leaf(name)))
            size_bytes = self._copy(source, file)
            with self._translating():
                # The order is what makes it durable: content, then name, then the directory that has it.
                os.fsync(file)
                os.rename(part, _leaf(name), src_dir_fd=directory, dst_dir_fd=directory)
                os.fsync(directory)
                return Stored(name, size_bytes, _etag(os.fstat(file)), self.location(name))

    def _copy(self, source: Source, file: int) -> int:
        """Write everything, and refuse a source that is not what it announced (rules 5 and 6)."""
        digest, done = hashlib.md5(usedforsecurity=False), 0
        while chunk := source.read(_CHUNK_BYTES):  # outside of `translating`: its errors are not ours
            digest.update(chunk)
            with self._translating():
                write_all(file, chunk)
            done += len(chunk)
        if source.size not in (None, done) or source.md5 not in (None, digest.digest()):
            raise Corrupted(f"{self._what}: length or MD5 are not the announced ones: nothing is stored")
        return done

    def get(self, name: str, sink: Sink, checkpoint: Checkpoint, /) -> Stored:
        with ExitStack() as stack:
            with self._translating():
                file = self._open(stack, name)
                status = os.fstat(file)

            def read(size_bytes: int) -> bytes:
                with self._translating():
                    return os.read(file, size_bytes)

            def open_body(offset: int, etag: str) -> Body:
                start = offset if etag == _etag(status) else 0
                os.lseek(file, start, os.SEEK_SET)
                return Body(start, status.st_size, _etag(status), None, read, lambda: None)

            return Download(name, self.location(name), checkpoint, open_body).run(sink)

    def list(self, prefix: str, /) -> Iterator[Stored]:
        """Yield what begins with `prefix`. With this the agent finds a device's newest archive."""
        with self._translating(), self._root() as root:
            for month in filter(_DIRECTORY.fullmatch, os.listdir(root)):
                self._check()
                with inside(root, [month], create=False) as directory:
                    for leaf in os.listdir(directory):
                        name = unquote(leaf)
                        if name.startswith(prefix) and not is_part(leaf):
                            status = os.stat(leaf, dir_fd=directory, follow_symlinks=False)
                            yield Stored(name, status.st_size, _etag(status), self.location(name))

    def close(self) -> None:
        """Nothing stays open between calls."""

    def location(self, name: str, /) -> str:
        return f"calendar: {self._what}/{_month(name)}/{_leaf(name)}"

    @contextmanager
    def _translating(self) -> Iterator[None]:
        with translating({OSError: classify_os_error(self._what)}):
            yield

    @contextmanager
    def _root(self) -> Iterator[int]:
        root = os.open(self._target.path, DIRECTORY_FLAGS)
        try:
            if self._target.mount and not is_mount_point(root):
                raise TargetAbsent(f"{self._what} is not there: nothing is mounted, plug it in")
            yield root
        finally:
            os.close(root)

    def _open(self, stack: ExitStack, name: str) -> int:
        root = stack.enter_context(self._root())
        try:
            directory = stack.enter_context(inside(root, [_month(name)], create=False))
            file = os.open(_leaf(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        except FileNotFoundError as error:
            raise NotFound(f"{self.location(name)} does not exist") from error
        stack.callback(os.close, file)
        return file


def _month(name: str) -> str:
    """The directory of an archive: the agent's own names hold a date, those that people choose may not."""
    month = _MONTH.search(name)
    return month[0] if month else _UNDATED


def _leaf(name: str) -> str:
    """One file name for any archive's name; `unquote` is the way back. Hidden ones stay ours."""
    leaf = name.replace("%", "%25").replace("/", "%2F")
    return f"%2E{leaf[1:]}" if leaf.startswith(".") else leaf


def _etag(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"
