"""Ditto protocol envelopes: read tolerantly, written strictly. Pure.

Sources: Eclipse Ditto, "Ditto Protocol" and its JSON schemas; the shapes that Kanto's file backup sends.
Keys of objects and header names are matched without regard to case when read, as Go's decoder does.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from agent.base.text import MAX_TEXT_LENGTH, Number, clipped, compact_json, encodable, folded, scalar_text

MAX_MESSAGE_BYTES = 2047
"""Hono's MQTT adapter keeps payloads under 2048 bytes by default."""


class Unreadable(Exception):
    """The payload is no envelope, so it cannot be answered."""


@dataclass(frozen=True, slots=True)
class Error:
    """The answer to a command that is refused."""

    status: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message as it arrived; header names are in lower case, numbers are `Number`."""

    topic: str
    path: str
    headers: Mapping[str, Any] = field(default_factory=dict)
    value: Any = field(default=None, repr=False)

    @property
    def correlation_id(self) -> str | None:
        return scalar_text(self.headers.get("correlation-id"))

    @property
    def response_required(self) -> bool | None:
        """Return the header, also from the texts "true" and "false"; None for any other value."""
        header = self.headers.get("response-required")
        if isinstance(header, str):
            return {"true": True, "false": False}.get(header.strip().lower())
        return header if isinstance(header, bool) else None

    def inbox_subject(self, thing: str, feature_id: str) -> str | None:
        """Return the operation that a message asks of this feature; None when it is for another.

        Where topic and path differ in the subject, the path wins.
        """
        live, inbox = f"{thing}/things/live/messages/", f"/features/{feature_id}/inbox/messages/"
        if not self.topic.startswith(live) or not self.path.startswith(inbox):
            return None
        return self.path[len(inbox) :] or None

    def tells_deletion(self, thing: str, feature_id: str) -> bool:
        """Return True for the twin's event that this feature is gone, alone or with all around it.

        Source: Eclipse Ditto, "Protocol specification for Things", events.
        """
        gone = ("/", "/features", f"/features/{feature_id}")
        return self.topic == f"{thing}/things/twin/events/deleted" and self.path in gone


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _paired(value: Any) -> Any:
    """Return the value with question marks for unpaired surrogates, which UTF-8 cannot encode."""
    if isinstance(value, dict):
        return {_paired(key): _paired(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_paired(item) for item in value]
    if isinstance(value, str):
        return type(value)(encodable(value))
    return value


def parse(payload: bytes) -> Envelope:
    """Read an envelope. Raises `Unreadable` when there is no JSON object with a topic and a path."""
    try:
        text = payload.decode("utf-8")
        message = json.loads(text, parse_int=Number, parse_float=Number, parse_constant=_no_constant)
        if "\\ud" in text or "\\uD" in text:
            message = _paired(message)
    except (ValueError, RecursionError) as error:
        raise Unreadable("not JSON") from error
    if not isinstance(message, dict):
        raise Unreadable("not a JSON object")
    message = folded(message)
    topic, path, headers = message.get("topic"), message.get("path"), message.get("headers")
    if not isinstance(topic, str) or not isinstance(path, str):
        raise Unreadable("no topic and path")
    return Envelope(topic, path, folded(headers) if isinstance(headers, dict) else {}, message.get("value"))


def reply(
    envelope: Envelope,
    feature_id: str,
    subject: str,
    correlation_id: str,
    *,
    error: Error | None = None,
    value: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the answer to a message: the error, or status 200 with a value, or 204 without."""
    message: dict[str, Any] = {
        "topic": envelope.topic,
        "headers": {"content-type": "application/json", "correlation-id": correlation_id},
        "path": f"/features/{feature_id}/outbox/messages/{subject}",
    }
    if error is not None:
        value = {"status": error.status, "error": error.code, "message": clipped(error.message)}
        return message | {"value": value, "status": error.status}
    return message | ({"status": 204} if value is None else {"value": value, "status": 200})


def modify(thing: str, path: str, value: object) -> dict[str, Any]:
    """Return a command that replaces the value at `path` of the twin."""
    return _twin_command(thing, "modify", {"response-required": False}, path, value)


def merge(thing: str, path: str, value: object) -> dict[str, Any]:
    """Return a command that merges a patch into the value at `path` of the twin (RFC 7396)."""
    headers = {"content-type": "application/merge-patch+json", "response-required": False}
    return _twin_command(thing, "merge", headers, path, value)


def _twin_command(
    thing: str, action: str, headers: dict[str, Any], path: str, value: object
) -> dict[str, Any]:
    topic = f"{thing}/things/twin/commands/{action}"
    return {"topic": topic, "headers": headers, "path": path, "value": value}


def outbox_message(
    thing: str, feature_id: str, subject: str, value: object, *, tenant_id: str
) -> dict[str, Any]:
    """Return a message from the feature to the backend that expects no answer."""
    headers = {
        "content-type": "application/json",
        "reply-to": f"command/{tenant_id}",
        "response-required": False,
    }
    return {
        "topic": f"{thing}/things/live/messages/{subject}",
        "headers": headers,
        "path": f"/features/{feature_id}/outbox/messages/{subject}",
        "value": value,
    }


def fitting(build: Callable[[str], Mapping[str, Any]], text: str) -> bytes:
    """Return the encoded message that `build` makes of `text`, which is cut to fit `MAX_MESSAGE_BYTES`."""
    length = MAX_TEXT_LENGTH
    while len(payload := compact_json(build(clipped(text, length)))) > MAX_MESSAGE_BYTES and length:
        length //= 2
    return payload
