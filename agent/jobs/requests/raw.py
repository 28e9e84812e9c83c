"""The first step of reading a request: the members of its value, before the request's type takes its own.

Unknown members are ignored. An unknown `backup.*` or `restore.*` option is refused: an agent that ignored a
passcode or a selection would do something else than the backend asked for.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, ValidationError

from agent.base.operations import Face
from agent.base.refusals import Reason, Refused
from agent.base.text import encodable, folded, scalar_text
from agent.jobs.requests.options import SECRETS, Key, Options
from agent.settings import Settings

MAX_ID_BYTES = 256
MAX_CHILD_ID_BYTES = MAX_ID_BYTES + len("#999999")
"""`start` and `cancel` name an upload by its child id."""
MAX_CODE_BYTES = 64
_LOOKING_UP = ("start", "cancel")
_PATHS = (Key.DIRECTORY, Key.SOURCE, Key.BACKUP_PATHS, Key.RESTORE_PATHS)
"""The options whose texts may stand for names of other bytes than UTF-8, as `os.fsdecode` writes them."""
_OURS, _KNOWN = ("backup.", "restore."), frozenset(Key)


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


def _options(value: object) -> Options:
    """Return the options as texts, without empty ones. A list becomes its JSON."""
    if value is None:
        return Options({})
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    return Options({key: text for key, item in value.items() if (text := _option(key, item))})


def _option(key: str, value: object) -> str:
    if key in SECRETS and not scalar_text(value):
        # An empty passcode that was ignored would lead to an archive that everybody can read.
        raise ValueError(f"'{key}' must be a text that is not empty")
    if isinstance(value, list):
        try:
            return _checked(key, json.dumps(value, ensure_ascii=False))
        except RecursionError as error:
            raise ValueError(f"'{key}' is nested too deep") from error
    text = "" if value is None else scalar_text(value)
    if text is None:
        raise ValueError(f"'{key}' must be a text")
    return _checked(key, text)


def _checked(key: str, text: str) -> str:
    if key not in _PATHS and encodable(text) != text:
        raise ValueError(f"'{key}' must be UTF-8")
    return text


class RawRequest(BaseModel):
    """The members of a request's value; each request takes what is its own."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    correlation_id: Annotated[str, Field(alias="correlationid"), BeforeValidator(_id)] = ""
    options: Annotated[InstanceOf[Options], BeforeValidator(_options)] = Options({})
    start: Annotated[str, Field(alias="from"), BeforeValidator(_text)] = ""
    """For `activate`: the beginning of the time frame."""
    end: Annotated[str, Field(alias="to"), BeforeValidator(_text)] = ""
    """For `activate`: the end of the time frame."""
    output: Annotated[str, BeforeValidator(_text)] = ""
    """For `backup` over the Unix socket: the file that the archive is written to."""
    status_code: Annotated[str, Field(alias="statuscode"), BeforeValidator(_code)] = ""
    """For `cancel`: the status code to end with."""
    message: Annotated[str, BeforeValidator(_text)] = ""
    """For `cancel`: the message to end with."""
    dry_run: Annotated[object, Field(alias="dryrun")] = False
    """For `prune`: true to remove nothing."""


@dataclass(frozen=True, slots=True)
class Request:
    """An operation that somebody asks for. This base class has nothing that must be read."""

    operation: ClassVar[str]
    """Its name in `agent.base.operations`."""

    @classmethod
    def read(cls, _raw: RawRequest, _settings: Settings) -> Self:
        """Read the request; the settings complete it. Raises `Refused`."""
        return cls()


def read_raw(operation: str, value: Any, face: Face = Face.MQTT) -> RawRequest:
    """Read the members of a request's value; an absent value has none. Raises `Refused`.

    `output` is ignored unless it came over the Unix socket.
    """
    if not isinstance(value, dict | None):
        # Ditto makes a text, in base64, of a message that was sent with another type (its issue 900).
        hint = ", sent as application/json" if isinstance(value, str) else ""
        raise _invalid(operation, [f"the value must be an object{hint}"])
    members = folded(value or {})
    if face is not Face.LOCAL:
        members.pop("output", None)
    try:
        raw = RawRequest.model_validate(members)
    except ValidationError as error:
        raise _invalid(operation, map(_problem, error.errors())) from error
    if operation not in _LOOKING_UP and len(raw.correlation_id.encode()) > MAX_ID_BYTES:
        raise _invalid(operation, [f"correlationId must not be longer than {MAX_ID_BYTES} bytes"])
    unknown = sorted(key for key in raw.options.texts if key.lower().startswith(_OURS) and key not in _KNOWN)
    if unknown:
        raise _invalid(operation, [f"unknown option '{key}'" for key in unknown])
    return raw


def _problem(error: Mapping[str, Any]) -> str:
    name = error["loc"][0]
    shown = {"correlationid": "correlationId", "statuscode": "statusCode"}.get(name, name)
    return f"{shown} {str(error['msg']).removeprefix('Value error, ')}"


def _invalid(operation: str, problems: Iterable[str]) -> Refused:
    return Refused(Reason.INVALID, f"invalid '{operation}' parameters: {'; '.join(problems)}")
