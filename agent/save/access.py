"""Which directory a command may back up or restore into: the access mode, decided on resolved paths."""

import errno
import os
import stat
from pathlib import Path
from typing import Literal

from agent.base.errors import AccessForbidden
from agent.base.text import readable

AccessMode = Literal["strict", "scoped", "lax"]
"""strict: the configured directory and no other; scoped: it and what is below; lax: any directory."""

_LONGEST_PATH_BYTES = 4095  # PATH_MAX without its NUL (limits.h)


def resolve(requested: str | None, configured: str | None, mode: AccessMode, must_exist: bool) -> Path:
    """The absolute directory without links or `..` in it that a job works on.

    `requested` is the option `backup.dir`, `configured` the setting `dir`, each None or empty when not
    given; the option wins, as far as `mode` lets it. With `must_exist` (a backup) the directory has to
    be there; without (a restore) it may be missing, below an existing directory.

    Raises AccessForbidden with a sentence that names the path and the reason. Whether something exists
    outside the scope is never told.
    """
    scope = _resolved(configured, "dir") if configured else None
    if not requested:
        if not configured or scope is None:
            raise AccessForbidden("no directory: give option 'backup.dir' or set 'dir'")
        path, shown = scope, _shown("dir", configured)
    else:
        path, shown = _resolved(requested, "backup.dir"), _shown("backup.dir", requested)
        _check_scope(path, shown, configured, scope, mode)
    _check_directory(path, shown, must_exist)
    return path


def refuse_inside(path: Path, own_storage: Path) -> None:
    """Raise AccessForbidden when the resolved `path` is the agent's own storage, or lies in there."""
    if path.is_relative_to(os.path.realpath(own_storage)):
        raise AccessForbidden(f"'{readable(str(path))}' is the agent's own storage: choose another directory")


def _shown(key: str, value: str) -> str:
    return f"{key} '{readable(value)}'"


def _resolved(value: str, key: str) -> Path:
    """`value` with every link followed as far as it exists; of a missing end, the lexical rest."""
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
        raise AccessForbidden(
            f"{shown} is too long: {_LONGEST_PATH_BYTES} bytes, 255 between slashes, are possible"
        )
    _refuse_loop(value, shown)
    return Path(os.path.realpath(value))


def _refuse_loop(value: str, shown: str) -> None:
    """The kernel follows 40 links (path_resolution(7)); realpath follows any number, by recursion."""
    try:
        os.stat(value)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise AccessForbidden(f"{shown} leads through a loop of symbolic links, or too many") from error


def _check_scope(
    path: Path, shown: str, configured: str | None, scope: Path | None, mode: AccessMode
) -> None:
    if mode == "lax":
        return
    if configured is None or scope is None:
        raise AccessForbidden(f"{shown} is not allowed: the setting 'dir' is empty (mode: {mode})")
    if mode == "scoped" and not path.is_relative_to(scope):
        raise AccessForbidden(f"{shown} is outside '{readable(configured)}' (mode: scoped)")
    if mode == "strict" and path != scope:
        raise AccessForbidden(
            f"{shown} is not '{readable(configured)}', the only directory allowed (mode: strict)"
        )


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
