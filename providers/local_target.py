"""A target: a directory of this device that its settings name, perhaps on a stick that may be unplugged."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from providers.api import Target
from providers.directory import (
    DIRECTORY_FLAGS,
    classify_os_error,
    inside,
    is_mount_point,
    is_part,
    new_part,
    open_resolved,
    refuse_special,
    remove_abandoned,
)
from providers.errors import NoSpace, NotFound, Rejected, TargetAbsent, translating
from providers.free_space import Reserve, Room


class NewFile(NamedTuple):
    """An unfinished file `part`, open as `file`, that is to become `leaf` in `directory`."""

    directory: int
    leaf: str
    part: str
    file: int
    room: Room


class TargetDirectory:
    """Opens the directory of a target, and the files in it, whose names may contain `/`."""

    def __init__(self, name: str, target: Target, reserve: Reserve | None) -> None:
        self._name, self._target, self._reserve = name, target, reserve

    def __str__(self) -> str:
        return f"target '{self._name}'"

    def location(self, name: str) -> str:
        return f"local:{self._name}/{name}"

    @contextmanager
    def translating(self) -> Iterator[None]:
        """Raise a `StorageError` that names the target for an OSError in the block."""
        with translating({OSError: classify_os_error(str(self))}):
            yield

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Open the target. Raises `TargetAbsent`, also while nothing is mounted there."""
        try:
            path = self._target.path
            descriptor = open_resolved(path) if self._target.resolved else os.open(path, DIRECTORY_FLAGS)
        except (FileNotFoundError, NotADirectoryError) as error:
            if self._target.resolved and any(map(os.path.islink, (path, *path.parents))):
                raise OSError(errno.ELOOP, "a link is on the way") from error
            raise TargetAbsent(f"target '{self._name}' is not there: plug it in or create it") from error
        try:
            if self._target.mount and not is_mount_point(descriptor):
                raise TargetAbsent(f"target '{self._name}' is not there: nothing is mounted, plug it in")
            yield descriptor
        finally:
            os.close(descriptor)

    def _room(self, directory: int) -> Room:
        reserve_bytes = self._reserve.on(directory) if self._reserve else 0
        return Room(directory, str(self), reserve_bytes, NoSpace)

    @contextmanager
    def new_file(self, name: str, size_bytes: int) -> Iterator[NewFile]:
        """Make an unfinished file for `name`; remove it when the block fails. Raises `StorageError`."""
        *parents, leaf = name.split("/")
        if is_part(leaf):
            raise Rejected(
                "names of the form '.<name>.part-<16 hex digits>' are kept for unfinished archives"
            )
        with ExitStack() as stack:
            with self.translating():
                root = stack.enter_context(self.opened())
                directory = stack.enter_context(inside(root, parents, create=True))
                refuse_special(leaf, directory)
                remove_abandoned(directory)
                room = self._room(directory)
                room.check(size_bytes)
                part, file = stack.enter_context(new_part(directory, leaf))
            yield NewFile(directory, leaf, part, file, room)

    @contextmanager
    def opened_file(self, name: str) -> Iterator[tuple[int, os.stat_result]]:
        """Open the file, and close it at the end. Raises `NotFound`, also for what is no regular file."""
        *parents, leaf = name.split("/")
        with ExitStack() as stack:
            with self.translating():
                root = stack.enter_context(self.opened())
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
