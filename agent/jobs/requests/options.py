"""The options of a request: texts by key, each read into its type.

Backends send one set of options to all operations, so that every operation accepts all keys.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import SecretStr

from agent.base.durations import parse_duration
from agent.base.patterns import check_patterns
from agent.base.refusals import Reason, Refused
from agent.base.text import composed


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
