"""The options of a request: texts by key, each read into its type, and the choice that some of them make.

Backends send one set of options to all operations, so that every operation accepts all keys.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pydantic import SecretStr

from agent.base.durations import parse_duration
from agent.base.patterns import check_patterns
from agent.base.refusals import Reason, Refused
from agent.base.text import composed, readable


class Key(StrEnum):
    """The options that begin with `backup.` or `restore.`; those of providers begin otherwise."""

    BACKUP_PASSCODE = "backup.passcode"
    BACKUP_STORE = "backup.store"
    BACKUP_DATA_TYPES = "backup.dataTypes"
    BACKUP_PATHS = "backup.paths"
    NAME = "backup.name"
    DESCRIPTION = "backup.description"
    RETENTION_DATE = "backup.retentionDate"
    DIRECTORY = "backup.dir"
    EXCLUDE = "backup.exclude"
    SKIP_UNCHANGED = "backup.skipUnchanged"
    RESTORE_PASSCODE = "restore.passcode"
    RESTORE_IDENTITY = "restore.identity"
    RESTORE_STORE = "restore.store"
    ARCHIVE = "restore.archive"
    BEFORE = "restore.before"
    SOURCE = "restore.source"
    FROM_DEVICE = "restore.fromDevice"
    RESTORE_DATA_TYPES = "restore.dataTypes"
    RESTORE_PATHS = "restore.paths"
    MODE = "restore.mode"
    PREVIEW = "restore.preview"
    FOREIGN = "restore.foreign"
    CONFIRM_WITHIN = "restore.confirmWithin"


SECRETS = frozenset({Key.BACKUP_PASSCODE, Key.RESTORE_PASSCODE, Key.RESTORE_IDENTITY})
MAX_CHOSEN = 100


@dataclass(frozen=True, slots=True)
class Options:
    """Texts by key. Every method raises `Refused` for a text that it cannot read."""

    texts: Mapping[str, str] = field(repr=False)
    """Includes credentials. No text is empty."""

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(sorted(self.texts.items()))

    def text(self, key: str) -> str | None:
        return self.texts.get(key)

    def switch(self, key: str) -> bool | None:
        """Read `true` or `false`; None for an absent option."""
        text = self.texts.get(key)
        if text not in (None, "true", "false"):
            raise invalid_option(key, "must be 'true' or 'false'")
        return None if text is None else text == "true"

    def seconds(self, key: str) -> float | None:
        """Read a duration of at least a second; None for an absent option."""
        text = self.texts.get(key)
        if text is None:
            return None
        try:
            seconds = parse_duration(text).total_seconds()
        except ValueError:
            seconds = 0.0
        if seconds < 1:
            raise invalid_option(key, "must be a duration of at least 1s, such as '90s' or '1h30m'")
        return seconds

    def passcode(self, key: str, least_characters: int) -> SecretStr | None:
        text = self.texts.get(key)
        if text is not None and len(composed(text)) < least_characters:
            raise invalid_option(key, f"must have at least {least_characters} characters")
        return None if text is None else SecretStr(text)

    def patterns(self, key: str) -> tuple[str, ...]:
        """Read patterns: a JSON list, or a text with one in each line."""
        try:
            text = self.texts.get(key, "")
            listed = _json_texts(text)
            return check_patterns(text.splitlines() if listed is None else listed)
        except ValueError as error:
            raise invalid_option(key, f"must be patterns as in a .gitignore file: {error}") from error

    def chosen(self, key: str) -> tuple[str, ...] | None:
        """Read texts from a JSON array, or separated by commas, each once; None for an absent option."""
        text = self.texts.get(key)
        if text is None:
            return None
        listed = _json_texts(text) if text.startswith("[") else [part.strip() for part in text.split(",")]
        if listed is None:
            raise invalid_option(key, "must be a JSON array of texts, or texts separated by commas")
        chosen = tuple(dict.fromkeys(filter(None, listed)))
        if len(chosen) > MAX_CHOSEN:
            raise invalid_option(key, f"names {len(chosen)} things; at most {MAX_CHOSEN} are possible")
        return chosen

    def prefixed(self, prefix: str) -> dict[str, str]:
        """Return the options that begin with `prefix`, without it."""
        return {key[len(prefix) :]: text for key, text in self.texts.items() if key.startswith(prefix)}


def invalid_option(key: str, problem: str, separator: str = " ") -> Refused:
    """Return the refusal of the option `key`; the problem says what was expected."""
    return Refused(Reason.INVALID, f"option '{key}'{separator}{problem}")


def _json_texts(text: str) -> list[str] | None:
    """Return the texts in a JSON list of texts; None for anything else."""
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return items if isinstance(items, list) and all(isinstance(item, str) for item in items) else None


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
    given = options.chosen(paths)
    chosen = None if given is None else tuple(ChosenPath(path, _plain(path, paths)) for path in given)
    return Selection(options.text(Key.DIRECTORY), options.chosen(data_types), chosen)


def _plain(path: str, key: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path:
        raise invalid_option(key, f"'{readable(path)}' must not have '..' or NUL in it", ": ")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise invalid_option(key, f"'{readable(path)}' is no valid text", ": ") from error
    return "/".join(parts)
