"""Private directories, files whose names outlast a power cut, the removal of whole trees, and descriptors."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from providers.directory import refuse_special

_SHALLOW = 200
"""The levels that `shutil.rmtree` is given at a time."""


@contextmanager
def closing_fd(fd: int) -> Iterator[int]:
    """Close the descriptor at the end of the block."""
    try:
        yield fd
    finally:
        os.close(fd)


def make_directories(directory: Path, mode: int) -> None:
    """Make the directory and its missing parents, each with at most `mode`, whatever the umask allows.

    Raises OSError. `Path.mkdir` gives missing parents all that the umask leaves.
    """
    for each in [*reversed(directory.parents), directory]:
        each.mkdir(mode, exist_ok=True)


def replace_file(path: Path, text: str, mode: int) -> None:
    """Replace the file by one with this text, in one step and durably.

    Raises OSError, also when something else than a regular file has the name.
    """
    with closing_fd(os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as directory:
        replace_in(directory, path.name, text, mode, synced=True)
        os.fsync(directory)


def replace_in(directory: int, name: str, text: str, mode: int, *, synced: bool) -> None:
    """Replace the file `name` in an open directory, in one step. Raises as `replace_file`.

    With `synced` the content is on the disk before it has the name.
    """
    part = f".{name}.part"
    refuse_special(name, directory)
    with suppress(FileNotFoundError):
        os.unlink(part, dir_fd=directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(part, flags, 0o600, dir_fd=directory), "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), mode & 0o7777)  # whatever the umask says
            if synced:
                os.fsync(stream.fileno())
        os.rename(part, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(part, dir_fd=directory)
        raise


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable, which only an fsync of the directory does. Raises OSError."""
    with closing_fd(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as descriptor:
        os.fsync(descriptor)


def remove_tree(directory: Path) -> None:
    """Remove a directory and its whole content, however deep; leave what cannot be removed.

    `shutil.rmtree` calls itself for each level, and Python's stack ends at a thousand: a command that left a
    deeper tree would keep the agent from starting.
    """
    deeper = True
    while deeper:
        deeper = False
        try:
            shutil.rmtree(directory, ignore_errors=True)
        except RecursionError:
            with suppress(OSError):
                deeper = _bring_up(directory)


def _bring_up(directory: Path) -> bool:
    """Move the directories of a certain depth to the top; False when there were none."""
    found = False
    for path, inner, _, descriptor in os.fwalk(directory):
        if path.count("/") - os.fspath(directory).count("/") < _SHALLOW:
            continue
        for name in inner:
            os.rename(name, directory / f".deep-{uuid.uuid4().hex}", src_dir_fd=descriptor)
            found = True
        inner.clear()
    return found
