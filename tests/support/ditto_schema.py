"""Messages of an agent: Ditto's protocol envelope, narrowed to the shapes of the wire contract.

Sources: Eclipse Ditto, "Ditto Protocol" (a message is an object with the strings `topic` and `path` and
the object `headers`; `value` is never null; a response has an integer `status`; an error's value has
`status`, `error` and `message`), and the wire contract, which waives the correlation-id for messages that
nobody answers: the announcement, property updates and `request`.
"""

import json
import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]

MAX_BYTES = 2047
"""Hono's MQTT adapter refuses payloads of 2048 bytes and more unless it is told otherwise."""

_ORDER = ["topic", "headers", "path", "value", "status"]
_REPLY_TOPIC = re.compile(r"(?:command//[^/]*/res|c//[^/]*/s)/(?P<request>[^/]*)/(?P<last>.+)", re.DOTALL)
_TEXT = {"type": "string"}
_LIVE_TOPIC = {"type": "string", "pattern": r"^[^/]+/[^/]+/things/live/messages/"}
_OUTBOX_PATH = {"type": "string", "pattern": r"^/features/[^/]+/outbox/messages/"}
_REPLY_HEADERS = {
    "type": "object",
    "properties": {"content-type": {"const": "application/json"}, "correlation-id": _TEXT},
    "required": ["content-type", "correlation-id"],
    "additionalProperties": False,
}
_ERROR = {
    "type": "object",
    "properties": {
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "error": {"enum": ["messages:parameter.invalid", "messages:execution.failed"]},
        "message": {"type": "string", "minLength": 1, "maxLength": 400},
    },
    "required": ["status", "error", "message"],
    "additionalProperties": False,
}


def _message(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": ["topic", "headers", "path", *required],
        "additionalProperties": False,
    }


ACCEPTED = _message(
    ["status"], topic=_LIVE_TOPIC, headers=_REPLY_HEADERS, path=_OUTBOX_PATH, status={"const": 204}
)
ANSWERED = _message(
    ["value", "status"],
    topic=_LIVE_TOPIC,
    headers=_REPLY_HEADERS,
    path=_OUTBOX_PATH,
    value={"type": "object"},
    status={"const": 200},
)
REFUSED = _message(
    ["value", "status"],
    topic=_LIVE_TOPIC,
    headers=_REPLY_HEADERS,
    path=_OUTBOX_PATH,
    value=_ERROR,
    status={"type": "integer", "minimum": 400, "maximum": 599},
)
TWIN_UPDATE = _message(
    ["value"],
    topic={"type": "string", "pattern": r"^[^/]+/[^/]+/things/twin/commands/(modify|merge)$"},
    headers={
        "type": "object",
        "properties": {
            "response-required": {"const": False},
            "content-type": {"const": "application/merge-patch+json"},
        },
        "required": ["response-required"],
        "additionalProperties": False,
    },
    path={"type": "string", "pattern": r"^/features/[^/]+(/properties/[^/]+)?$"},
    value={"type": "object"},
)
OUTBOX_MESSAGE = _message(
    ["value"],
    topic=_LIVE_TOPIC,
    headers={
        "type": "object",
        "properties": {
            "content-type": {"const": "application/json"},
            "reply-to": {"type": "string", "pattern": r"^command/[^/]*$"},
            "response-required": {"const": False},
        },
        "required": ["content-type", "reply-to", "response-required"],
        "additionalProperties": False,
    },
    path=_OUTBOX_PATH,
    value={"type": "object"},
)


def check(topic: str, message: dict[str, Any]) -> None:
    """Fail unless `message` is one that an agent may publish on the MQTT topic `topic`."""
    size_bytes = len(json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode())
    assert size_bytes <= MAX_BYTES, f"{size_bytes} bytes on {topic}"
    assert list(message) == [key for key in _ORDER if key in message], f"order of keys: {list(message)}"
    if topic == "e":
        _valid(message, TWIN_UPDATE if "/twin/" in str(message.get("topic")) else OUTBOX_MESSAGE)
        return
    parts = _REPLY_TOPIC.fullmatch(topic)
    assert parts, f"no topic for an answer: {topic}"
    status = message.get("status")
    _valid(message, {204: ACCEPTED, 200: ANSWERED}.get(status if isinstance(status, int) else 0, REFUSED))
    if parts["request"]:
        assert parts["last"] == str(message["status"]), f"{topic} says another status than the envelope"
    if message["status"] >= 400:
        assert message["value"]["status"] == message["status"]


def _valid(message: dict[str, Any], schema: dict[str, Any]) -> None:
    errors = sorted(jsonschema.Draft202012Validator(schema).iter_errors(message), key=str)
    assert not errors, "; ".join(f"{error.json_path}: {error.message:.200}" for error in errors)
