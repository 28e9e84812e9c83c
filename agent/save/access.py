"""Access: the directories that a command may back up or restore into, decided on resolved paths."""

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from agent.base.errors import AccessForbidden
from agent.base.identity import identity_of
from agent.base.text import readable

AccessMode = Literal["strict", "scoped", "lax"]
"""strict: the configured directory and no other; scoped: it and what is below; lax: any directory."""

_LONGEST_PATH_BYTES = 4095  # PATH_MAX without its NUL (limits.h)


def resolve(requested: str | None, configured: str | None, mode: AccessMode, must_exist: bool) -> Path:
    """Return the directory that a job works on, absolute and without links and `..`.

    `requested` is the option `backup.dir`, `configured` the setting `dir`, each None or empty when not given;
    `mode` limits the option, which precedes. With `must_exist` (a backup) the directory has to exist; without
    (a restore) it may be missing below an existing directory.

    Raises AccessForbidden with the path and the reason, which tells nothing about paths outside the scope.
    """
    scope = _resolved(configured, "dir") if configured else None
    if requested:
        shown = _shown("backup.dir", requested)
        if len(requested) > _LONGEST_PATH_BYTES:  # before each of its parts costs time
            raise _too_long(shown)
        path = _resolved_in_scope(requested, shown, configured, scope, mode)
    elif configured and scope:
        path, shown = scope, _shown("dir", configured)
    else:
        raise AccessForbidden("no directory: give option 'backup.dir' or set 'dir'")
    _check_directory(path, shown, must_exist)
    return path


def refuse_inside(path: Path, own_storage: Path) -> None:
    """Raise AccessForbidden when the resolved `path` is, or lies in, the agent's own storage.

    Directories are compared by inode, so that a bind mount is no way around.
    """
    storage = Path(os.path.realpath(own_storage))
    own = {identity_of(each) for each in (storage, *_directories_in(storage))} - {None}
    if path.is_relative_to(storage) or any(identity_of(each) in own for each in (path, *path.parents)):
        raise AccessForbidden(f"'{readable(str(path))}' is the agent's own storage: choose another directory")


def _directories_in(storage: Path) -> list[Path]:
    try:
        with os.scandir(storage) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _shown(key: str, value: str) -> str:
    return f"{key} '{readable(value)}'"


def _resolved(value: str, key: str) -> Path:
    """Return `value` with every link followed; a missing end is appended as it is."""
    shown = _shown(key, value)
    if "\0" in value:
        raise AccessForbidden(f"{shown} has a NUL byte in it, which no file name can")
    if not value.startswith("/"):
        raise AccessForbidden(f"{shown} is relative; an absolute path is needed")
    try:
        raw = os.fsencode(value)
    except UnicodeEncodeError as error:
        raise AccessForbidden(f"{shown} is no valid text") from error
    if len(raw) > _LONGEST_PATH_BYTES or any(len(part) > 255 for part in raw.split(b"/")):
        raise _too_long(shown)
    _refuse_loop(value, shown)
    try:
        return Path(os.path.realpath(value))
    except OSError as error:  # a link of /proc, for example, that leads to nothing with a name
        raise _unusable(shown, error) from error


def _too_long(shown: str) -> AccessForbidden:
    return AccessForbidden(
        f"{shown} is too long: {_LONGEST_PATH_BYTES} bytes, 255 between slashes, are possible"
    )


def _refuse_loop(value: str, shown: str) -> None:
    """Raise AccessForbidden for more than 40 links, the kernel's limit: realpath would recurse for each."""
    try:
        os.stat(value)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise AccessForbidden(f"{shown} leads through a loop of symbolic links, or too many") from error


def _resolved_in_scope(
    requested: str, shown: str, configured: str | None, scope: Path | None, mode: AccessMode
) -> Path:
    if mode == "lax":
        return _resolved(requested, "backup.dir")
    if configured is None or scope is None:
        raise AccessForbidden(f"{shown} is not allowed: the setting 'dir' is empty (mode: {mode})")
    outside = f"{shown} is outside '{readable(configured)}' (mode: scoped)"
    if mode == "strict":
        outside = f"{shown} is not '{readable(configured)}', the only directory allowed (mode: strict)"
    roots = (Path(os.path.normpath(configured)), scope)
    if _leaves(requested, roots):
        raise AccessForbidden(outside)
    try:
        path = _resolved(requested, "backup.dir")
    except AccessForbidden:
        if requested.startswith("/") and not _is_below(Path(os.path.normpath(requested)), roots):
            raise AccessForbidden(outside) from None
        raise
    if path != scope and (mode == "strict" or not path.is_relative_to(scope)):
        raise AccessForbidden(outside)
    return path


def _leaves(requested: str, roots: Iterable[Path]) -> bool:
    """Return True when a `..` in the path, as it is spelled, is outside the roots or leads there.

    Resolving such a path would tell what exists outside.
    """
    way = Path("/")
    for part in requested.split("/"):
        if part != "..":
            way /= part
            continue
        way = way.parent
        if not _is_below(way, roots):
            return True
    return False


def _is_below(path: Path, roots: Iterable[Path]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


def _check_directory(path: Path, shown: str, must_exist: bool) -> None:
    for destination in (path, *path.parents):
        try:
            status = os.lstat(destination)
        except FileNotFoundError as error:
            if must_exist:
                raise AccessForbidden(f"{shown} does not exist") from error
            continue
        except OSError as error:
            raise _unusable(shown, error) from error
        if not stat.S_ISDIR(status.st_mode):
            raise AccessForbidden(f"{shown} is not a directory")
        return


def _unusable(shown: str, error: OSError) -> AccessForbidden:
    if error.errno == errno.ENOTDIR:
        return AccessForbidden(f"{shown} is below something that is not a directory")
    code = errno.errorcode.get(error.errno or 0, "unknown error")
    return AccessForbidden(
        f"{shown} cannot be looked at ({code}): check links and permissions on the way to it"
    )
