"""What a command carries: an id and options, read tolerantly from its value.

Ours are strict where guessing would hurt: an unknown `backup.*` or `restore.*` option is refused, since
an agent that ignored a wish (a passcode, a selection) would do something else than what was asked for.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from agent.base.durations import parse_duration
from agent.base.patterns import check_patterns
from agent.base.refusals import Reason, Refused
from agent.base.text import folded, scalar_text

MAX_ID_BYTES = 256
MAX_CHILD_ID_BYTES = MAX_ID_BYTES + len("#999")
"""`start` and `cancel` name an upload by its child id."""
MAX_CODE_BYTES = 64
_LOOKING_UP = ("start", "cancel")
_OURS = ("backup.", "restore.")
BACKUP_PASSCODE = "backup.passcode"
RESTORE_PASSCODE, RESTORE_IDENTITY = "restore.passcode", "restore.identity"
BACKUP_DATA_TYPES, BACKUP_PATHS = "backup.dataTypes", "backup.paths"
RESTORE_DATA_TYPES, RESTORE_PATHS = "restore.dataTypes", "restore.paths"
MAX_CHOSEN = 100
BACKUP_STORE, RESTORE_STORE = "backup.store", "restore.store"
_KEYS = frozenset({BACKUP_PASSCODE, RESTORE_PASSCODE, RESTORE_IDENTITY})
NAME, DESCRIPTION, RETENTION_DATE = "backup.name", "backup.description", "backup.retentionDate"
_KNOWN = _KEYS | {
    "backup.dir", "backup.exclude", "backup.skipUnchanged", "restore.mode", "restore.preview",
    "restore.foreign", "restore.confirmWithin",
    BACKUP_STORE, RESTORE_STORE, NAME, DESCRIPTION, RETENTION_DATE,
    BACKUP_DATA_TYPES, BACKUP_PATHS, RESTORE_DATA_TYPES, RESTORE_PATHS,
}  # fmt: skip
"""Backends send one set of options to all operations, so what one of them knows is known to all."""
RestoreMode = Literal["merge", "replace"]


def _id(value: object) -> str:
    text = _text(value)
    if len(text.encode()) > MAX_CHILD_ID_BYTES:
        raise ValueError(f"must not be longer than {MAX_ID_BYTES} bytes")
    return text


def _text(value: object) -> str:
    text = "" if value is None else scalar_text(value)
    if text is None:
        raise ValueError("must be a text")
    return text


def _code(value: object) -> str:
    text = _text(value)
    if len(text.encode()) > MAX_CODE_BYTES or not text.isprintable():
        raise ValueError(f"must be printable and not longer than {MAX_CODE_BYTES} bytes")
    return text


def _options(value: object) -> dict[str, str]:
    """Options as texts; empty ones are absent. A list becomes its JSON, which is how lists are read."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    return {key: text for key, item in value.items() if (text := _option(key, item))}


def _option(key: str, value: object) -> str:
    if key in _KEYS and not scalar_text(value):
        # Taken for an absent one, it would lead to an archive that everybody can read.
        raise ValueError(f"'{key}' must be a text that is not empty")
    if isinstance(value, list):
        try:
            return json.dumps(value, ensure_ascii=False)
        except RecursionError as error:
            raise ValueError(f"'{key}' is nested too deep") from error
    text = "" if value is None else scalar_text(value)
    if text is None:
        raise ValueError(f"'{key}' must be a text")
    return text


def _listed(text: str) -> list[str]:
    """The texts in a JSON list; without brackets around quotes, the lines of a text."""
    try:
        items = json.loads(text)
    except ValueError:
        return text.splitlines()
    if isinstance(items, list) and all(isinstance(item, str) for item in items):
        return items
    return text.splitlines()


class Parameters(BaseModel):
    """The value of a command; each operation looks at what is its own."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    correlationid: Annotated[str, BeforeValidator(_id)] = ""
    options: Annotated[dict[str, str], BeforeValidator(_options)] = Field(default={}, repr=False)
    """Credentials among them."""
    start: Annotated[str, Field(alias="from"), BeforeValidator(_text)] = ""
    """For `activate`: the beginning of the time frame."""
    end: Annotated[str, Field(alias="to"), BeforeValidator(_text)] = ""
    """For `activate`: the end of the time frame."""
    output: Annotated[str, BeforeValidator(_text)] = ""
    """For `backup` through the device's own door: the file that the archive is written to."""
    statuscode: Annotated[str, BeforeValidator(_code)] = ""
    """For `cancel`: the status code to end with."""
    message: Annotated[str, BeforeValidator(_text)] = ""
    """For `cancel`: the message to end with."""

    @property
    def provider(self) -> str | None:
        """The provider that the options name; a URL alone means `generic`; None means no destination."""
        return self.options.get("storage.provider") or ("generic" if "https.url" in self.options else None)

    @property
    def directory(self) -> str | None:
        return self.options.get("backup.dir")

    @property
    def restore_mode(self) -> RestoreMode:
        mode = self.options.get("restore.mode", "merge")
        if mode not in ("merge", "replace"):
            raise Refused(Reason.INVALID, "option 'restore.mode' must be 'merge' or 'replace'")
        return cast(RestoreMode, mode)

    @property
    def exclude(self) -> tuple[str, ...]:
        """Patterns: a list, or a text with one in each line. Raises `Refused`."""
        try:
            return check_patterns(_listed(self.options.get("backup.exclude", "")))
        except ValueError as error:
            message = f"option 'backup.exclude' must be patterns as in a .gitignore file: {error}"
            raise Refused(Reason.INVALID, message) from error

    @property
    def skip_unchanged(self) -> bool | None:
        """None when the command leaves it to the device. Raises `Refused`."""
        return self._switch("backup.skipUnchanged")

    @property
    def preview(self) -> bool:
        """Raises `Refused`."""
        return self._switch("restore.preview") or False

    @property
    def foreign(self) -> bool | None:
        """None when the command leaves it to the device. Raises `Refused`."""
        return self._switch("restore.foreign")

    @property
    def confirm_within_s(self) -> float | None:
        """None when nobody has to confirm. Raises `Refused`."""
        text = self.options.get("restore.confirmWithin")
        if text is None:
            return None
        try:
            seconds = parse_duration(text).total_seconds()
        except ValueError:
            seconds = 0.0
        if seconds < 1:
            message = (
                "option 'restore.confirmWithin' must be a duration of at least 1s, such as '90s' or '1h30m'"
            )
            raise Refused(Reason.INVALID, message)
        return seconds

    def _switch(self, key: str) -> bool | None:
        text = self.options.get(key)
        if text not in (None, "true", "false"):
            raise Refused(Reason.INVALID, f"option '{key}' must be 'true' or 'false'")
        return None if text is None else text == "true"

    def chosen(self, option: str) -> tuple[str, ...]:
        """The texts of an option, a JSON array or separated by commas. Raises `Refused`."""
        text = self.options.get(option, "")
        try:
            listed = json.loads(text) if text.startswith("[") else [part.strip() for part in text.split(",")]
        except (ValueError, RecursionError):
            listed = None
        if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
            message = f"option '{option}' must be a JSON array of texts, or texts separated by commas"
            raise Refused(Reason.INVALID, message)
        chosen = tuple(dict.fromkeys(filter(None, listed)))
        if len(chosen) > MAX_CHOSEN:
            message = f"option '{option}' names {len(chosen)} things; at most {MAX_CHOSEN} are possible"
            raise Refused(Reason.INVALID, message)
        return chosen

    def prefixed(self, prefix: str) -> dict[str, str]:
        """The options that begin with `prefix`, without it."""
        return {key[len(prefix) :]: text for key, text in self.options.items() if key.startswith(prefix)}


def read_parameters(operation: str, value: Any, *, local: bool = False) -> Parameters:
    """The parameters in a command's value; an absent value has none. Raises `Refused`.

    What only somebody at the device may say is passed over, unless it came from there.
    """
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise _invalid(operation, ["the value must be an object"])
    try:
        fields = folded(value)
        if not local:
            fields.pop("output", None)
        parameters = Parameters.model_validate(fields)
    except ValidationError as error:
        raise _invalid(operation, map(_problem, error.errors())) from error
    if operation not in _LOOKING_UP and len(parameters.correlationid.encode()) > MAX_ID_BYTES:
        raise _invalid(operation, [f"correlationId must not be longer than {MAX_ID_BYTES} bytes"])
    _refuse_unknown(operation, parameters.options)
    return parameters


def _problem(error: Mapping[str, Any]) -> str:
    name = error["loc"][0]
    shown = {"correlationid": "correlationId", "statuscode": "statusCode"}.get(name, name)
    return f"{shown} {str(error['msg']).removeprefix('Value error, ')}"


def _refuse_unknown(operation: str, options: Iterable[str]) -> None:
    if unknown := sorted(key for key in options if key.lower().startswith(_OURS) and key not in _KNOWN):
        raise _invalid(operation, [f"unknown option '{key}'" for key in unknown])


def _invalid(operation: str, problems: Iterable[str]) -> Refused:
    return Refused(Reason.INVALID, f"invalid '{operation}' parameters: {'; '.join(problems)}")
