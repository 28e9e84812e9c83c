"""Whatever arrives is acknowledged, answered where an answer is due, and leaves the agent at work."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.fakes import DEVICE, FEATURE, LAST_OPERATION, THING, Device
from tests.unit.test_ditto import JSON

LOCAL = {"storage.provider": "local"}


SUBJECTS = st.sampled_from(["backup", "restore", "start", "trigger", "cancel", "nonsense"]) | st.text(
    st.characters(exclude_characters="/+#\0", exclude_categories=["Cs"]), min_size=1, max_size=12
)
SOME: list[Any] = ["", "local", "nowhere", "{}", "x#1", 5, 1.5, True, None, [], ["a"], {}]
VALUES = st.sampled_from(SOME) | JSON
OPTION_KEYS = [
    *("backup.dir", "storage.provider", "https.url", "local.target", "local.name"),
    *("restore.mode", "backup.exclude", "options.a", "info.b"),
]
VALUE = JSON | st.fixed_dictionaries(
    {},
    optional={
        "correlationID": VALUES,
        "CORRELATIONID": VALUES,
        "providers": VALUES,
        "options": st.dictionaries(st.sampled_from(OPTION_KEYS) | st.text(max_size=5), VALUES, max_size=4)
        | JSON,
    },
)
HEADERS = JSON | st.fixed_dictionaries(
    {}, optional={"correlation-id": VALUES, "Response-Required": VALUES | st.just("TRUE"), "x": JSON}
)
DEVICES = st.sampled_from(["", DEVICE, f"{DEVICE}:edge:containers", "other:device"])


@st.composite
def topics(draw: st.DrawFn) -> str:
    root, kind = draw(st.sampled_from([("command", "req"), ("c", "q"), ("command", "res")]))
    request_id = draw(st.sampled_from(["", "r1", "r2"]))
    return f"{root}//{draw(DEVICES)}/{kind}/{request_id}/{draw(SUBJECTS)}"


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    subject = draw(SUBJECTS)
    message = {
        draw(st.sampled_from(["topic", "Topic"])): f"{THING}/things/live/messages/{subject}",
        draw(st.sampled_from(["headers", "HEADERS"])): draw(HEADERS),
        draw(st.sampled_from(["path", "pATH"])): f"{FEATURE}/inbox/messages/{subject}",
        draw(st.sampled_from(["value", "Value"])): draw(VALUE),
    }
    for key in draw(st.lists(st.sampled_from(sorted(message)), max_size=1)):
        message[key] = draw(JSON)
    text = json.dumps(message, ensure_ascii=draw(st.booleans()))
    payload = bytearray(text.encode("utf-8", "surrogatepass"))
    for destination, byte in draw(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=2)):
        if draw(st.booleans()):
            payload[destination % len(payload)] = byte
    return bytes(payload)


DELIVERIES = st.lists(
    st.tuples(
        topics() | st.text(max_size=30), payloads() | st.binary(max_size=50), st.booleans(), st.booleans()
    ),
    min_size=1,
    max_size=6,
)


def lowered(value: Any) -> dict[str, Any]:
    return {key.lower(): item for key, item in value.items()} if isinstance(value, dict) else {}


def no_constant(name: str) -> None:
    raise ValueError(name)


def due(topic: str, payload: bytes) -> bool:
    """WIRE section 1, read once more: whether an answer is due to the first delivery of this."""
    levels = topic.split("/", 5)
    if len(levels) != 6 or (levels[0], levels[3]) not in (("command", "req"), ("c", "q")) or levels[1]:
        return False
    if not levels[5] or not (levels[2] in ("", DEVICE) or levels[2].startswith(DEVICE + ":")):
        return False
    try:
        message = json.loads(payload.decode(), parse_constant=no_constant)
    except ValueError:
        return False
    message = lowered(message)
    if not str(message.get("topic")).startswith(f"{THING}/things/live/messages/"):
        return False
    inbox = f"{FEATURE}/inbox/messages/"
    if not str(message.get("path")).startswith(inbox) or message["path"] == inbox:
        return False
    required = lowered(message.get("headers")).get("response-required")
    if isinstance(required, str):
        required = {"true": True, "false": False}.get(required.strip().lower())
    return required if isinstance(required, bool) else bool(levels[4])


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(DELIVERIES)
def test_whatever_arrives_is_acknowledged_and_answered_where_due_and_a_good_command_works(
    deliveries: list[tuple[str, bytes, bool, bool]],
) -> None:
    """Never an exception, each delivery acknowledged once, an answer exactly where one is due."""
    with tempfile.TemporaryDirectory() as work:
        device = Device(Path(work))
        try:
            for topic, payload, retain, dup in deliveries:
                said = device.receive(topic, payload, retain=retain, dup=dup)
                answers = [message for where, message in said if where != "e"]
                # The other form of a command that was answered gets nothing.
                swallowed = (
                    topic.startswith(("c/", "command/")) and not answers and seen_before(deliveries, payload)
                )
                assert swallowed or len(answers) == (due(topic, payload) and not retain), (topic, payload)
                device.finish()
            ((_, message), *_) = device.command("backup", {"options": LOCAL}, request_id="good")
            assert message["status"] == 204
            device.finish()
            assert device.values(LAST_OPERATION)[-1]["state"] == "BACKUP_FINISHED"
        finally:
            device.close()


def seen_before(deliveries: list[tuple[str, bytes, bool, bool]], payload: bytes) -> bool:
    return sum(other == payload for _, other, _, _ in deliveries) > 1
