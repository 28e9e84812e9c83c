"""The backend's end of the wire: which messages count, and what can be read from them."""

import json
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.refusals import Refused
from agent.base.text import compact_json
from agent.faces.ditto.expiry import check_not_expired
from agent.mqtt import envelope as ditto
from agent.mqtt.hono import Identity, parse_command_topic
from agent.mqtt.link import Broker, Delivery
from agent.send.backend import Backend, BrokerUnusable, Heard, OutgoingCommand
from tests.support.ports import free_port

IDENTITY = Identity("edge:device", "tenant")
FEATURE = "/features/BackupAndRestore"


def backend(*, answers_identity: bool = False, port: int = 1) -> Backend:
    """One that is not connected."""
    here = Broker("127.0.0.1", port, tls=False, client_id="test", clean_session=True)
    return Backend(here, IDENTITY, answers_identity=answers_identity)


def heard(payload: bytes, *, topic: str = "e", retain: bool = False) -> list[Heard]:
    """Return the messages that a backend hears when this arrives."""
    listening, acknowledged = backend(), []
    listening.receive(Delivery(topic, payload, retain, False, lambda: acknowledged.append(topic)))
    assert acknowledged == [topic]
    found: list[Heard] = []
    with suppress(TimeoutError):
        while True:
            found.append(listening.next(deadline_s=0))
    return found


def message(**changes: Any) -> dict[str, Any]:
    return {"topic": "edge/device/things/twin/commands/modify", "path": FEATURE, "value": {}} | changes


def test_what_our_feature_says_is_heard() -> None:
    """And what its status feature says: `send` follows a verification by that."""
    for path in (FEATURE, f"{FEATURE}/properties/lastOperation", f"{FEATURE}Status"):
        assert heard(compact_json(message(path=path))) == [Heard("e", message(path=path))]


@pytest.mark.parametrize(
    "changes",
    [
        {"topic": "edge/device2/things/twin/commands/modify"},
        {"topic": "edge/device:edge:containers/things/twin/commands/modify"},
        {"path": "/features/BackupAndRestoreStatusOfOthers"},
        {"path": "/features/Other/properties/lastOperation"},
        {"topic": 1},
        {"path": None},
    ],
)
def test_what_others_say_on_the_same_topic_is_not(changes: dict[str, Any]) -> None:
    """All features of a gateway use the topic `e`."""
    assert heard(compact_json(message(**changes))) == []


def test_a_retained_message_is_not_heard() -> None:
    """It tells of a time long ago."""
    assert heard(compact_json(message()), retain=True) == []


@given(st.binary())
def test_garbage_is_not_heard(payload: bytes) -> None:
    assert heard(payload) == []


@pytest.mark.parametrize("payload", [b"[" * 100_000, b"null", b"[]", b'"e"', b"\xff"])
def test_json_that_is_no_envelope_is_not_heard(payload: bytes) -> None:
    assert heard(payload) == []


def test_the_identity_question_is_answered_only_on_request() -> None:
    """Where a real connector runs, a second answer would be a lie."""
    question = Delivery("edge/thing/request", b"", False, False, lambda: None)
    assert "edge/thing/request" not in backend().topics
    playing = backend(answers_identity=True)
    assert "edge/thing/request" in playing.topics
    playing.receive(question)
    ((topic, payload),) = playing.unsent
    assert (topic, json.loads(payload)["deviceId"]) == ("edge/thing/response", "edge:device")


def test_a_command_is_what_the_agent_reads() -> None:
    """Topic and envelope, through the agent's own readers."""
    sending = backend()
    sending.send(OutgoingCommand("backup", {"correlationID": "X"}, "r1", "header"))
    ((topic, payload),) = sending.unsent
    parsed = parse_command_topic(topic)
    assert parsed
    assert (parsed.device, parsed.request_id, parsed.subject) == ("edge:device", "r1", "backup")
    envelope = ditto.parse(payload)
    assert envelope.inbox_subject("edge/device", "BackupAndRestore") == "backup"
    assert (envelope.correlation_id, envelope.response_required) == ("header", True)


def test_a_command_expires_when_its_sender_gives_up() -> None:
    sending = backend()
    expires = datetime(2026, 11, 21, 22, tzinfo=UTC)
    sending.send(OutgoingCommand("backup", {"correlationID": "X"}, expires=expires))
    ((_, payload),) = sending.unsent
    envelope = ditto.parse(payload)
    check_not_expired(envelope, 0, expires - timedelta(seconds=1))
    with pytest.raises(Refused, match="expired"):
        check_not_expired(envelope, 0, expires)


def test_options_of_a_command_are_not_in_its_repr() -> None:
    assert "hidden" not in repr(OutgoingCommand("backup", {"options": {"aws.session.token": "hidden"}}))


def test_a_broker_that_is_not_there_is_told_at_once() -> None:
    began_s = time.monotonic()
    with pytest.raises(BrokerUnusable, match="ConnectionRefusedError"), backend(port=free_port()):
        pass
    assert time.monotonic() - began_s < 20
