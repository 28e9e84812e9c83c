"""The choice of a request: a directory, data sets, single paths."""

import os
from dataclasses import dataclass, replace

from agent.base.text import readable
from agent.jobs.requests.options import Key, Options, invalid_option


@dataclass(frozen=True, slots=True)
class ChosenPath:
    """A single path, as the request gives it and in its plain form."""

    given: str
    name: str
    """The plain form: no slashes around it, no `.` and no empty parts."""

    @property
    def is_absolute(self) -> bool:
        return self.given.startswith("/")


@dataclass(frozen=True, slots=True)
class Selection:
    """The choice of what is saved or restored; None where the request does not choose."""

    directory: str | None = None
    data_sets: tuple[str, ...] | None = None
    paths: tuple[ChosenPath, ...] | None = None
    exclude: tuple[str, ...] = ()
    """Patterns of a backup."""

    @property
    def chooses(self) -> bool:
        """Return False when the request leaves everything to the settings."""
        return any(each is not None for each in (self.directory, self.data_sets, self.paths))


def backup_selection(options: Options) -> Selection:
    """Read the choice of a backup. Raises `Refused`."""
    chosen = _selection(options, Key.BACKUP_DATA_TYPES, Key.BACKUP_PATHS)
    return replace(chosen, exclude=options.patterns(Key.EXCLUDE))


def restore_selection(options: Options) -> Selection:
    """Read the choice of a restore. Raises `Refused`."""
    return _selection(options, Key.RESTORE_DATA_TYPES, Key.RESTORE_PATHS)


def _selection(options: Options, data_types: Key, paths: Key) -> Selection:
    return Selection(options.text(Key.DIRECTORY), options.chosen(data_types), _paths(options, paths))


def _paths(options: Options, key: str) -> tuple[ChosenPath, ...] | None:
    chosen = options.chosen(key)
    return None if chosen is None else tuple(ChosenPath(path, _plain(path, key)) for path in chosen)


def _plain(path: str, key: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path:
        raise invalid_option(key, f"'{readable(path)}' must not have '..' or NUL in it", ": ")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise invalid_option(key, f"'{readable(path)}' is no valid text", ": ") from error
    return "/".join(parts)
