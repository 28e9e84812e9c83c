"""Envelopes: whatever arrives is read or refused, and what goes out has Kanto's exact shape."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.base.text import clipped, compact_json
from agent.mqtt import envelope as ditto
from agent.mqtt.envelope import Envelope, Error, Unreadable, fitting, parse
from tests.support.ditto_schema import check

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def envelope(**parts: Any) -> bytes:
    whole = {"topic": "edge/device/things/live/messages/backup", "path": "/features/F/inbox/messages/backup"}
    return json.dumps(whole | parts).encode()


# Reading


def test_keys_and_header_names_are_read_in_any_case() -> None:
    """As Go's decoder reads them, with which the other agents are written."""
    message = parse(b'{"TOPIC":"t","Path":"p","hEADERS":{"Correlation-ID":"c","RESPONSE-REQUIRED":true}}')
    assert (message.topic, message.path) == ("t", "p")
    assert message.correlation_id == "c"
    assert message.response_required is True


def test_of_two_equal_keys_the_last_counts() -> None:
    """RFC 8259 section 4 leaves it open; Go's decoder takes the last, also when only the case differs."""
    assert parse(b'{"topic":"t","path":"p","path":"q"}').path == "q"
    assert parse(b'{"topic":"t","path":"p","Path":"q"}').path == "q"


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("a", "a"),
        ("<UUID>", "<UUID>"),
        ("", ""),
        (5, "5"),
        (1e30, "1e+30"),
        (True, "true"),
        (False, "false"),
        (None, None),
        ([], None),
        ({}, None),
    ],
)
def test_the_correlation_id_is_any_scalar_as_its_text(header: object, text: str | None) -> None:
    """It is echoed and never validated; what is no scalar counts as absent."""
    assert parse(envelope(headers={"correlation-id": header})).correlation_id == text


@pytest.mark.parametrize("number", ["12345678901234567890123", "1.10", "1e999", "-0", "9" * 6000])
def test_a_number_keeps_its_text(number: str) -> None:
    """Read as a float or an int, `1.10` would be echoed as `1.1`, and long ones not at all."""
    payload = f'{{"topic":"t","path":"p","headers":{{"correlation-id":{number}}}}}'
    assert parse(payload.encode()).correlation_id == number


@pytest.mark.parametrize(
    ("header", "meaning"),
    [
        (True, True),
        (False, False),
        ("true", True),
        ("FALSE", False),
        (" true ", True),
        ("yes", None),
        ("", None),
        (1, None),
        (None, None),
        ([], None),
    ],
)
def test_response_required_is_a_boolean_or_its_text(header: object, meaning: bool | None) -> None:
    """Anything else means nothing, and is read as if the header were absent."""
    assert parse(envelope(headers={"response-required": header})).response_required is meaning


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"5",
        b'"text"',
        b"{}",
        b'{"topic":"t"}',
        b'{"path":"p"}',
        b'{"topic":true,"path":"p"}',
        b'{"topic":"t","path":null}',
        b'{"topic":"t","path":"p"}x',
        b'\xef\xbb\xbf{"topic":"t","path":"p"}',
        '{"topic":"t","path":"p"}'.encode("utf-16"),
        b'{"topic":"t","path":"\xff"}',
        b'{"topic":"t","path":"p","value":NaN}',
        b'{"topic":"t","path":"p","value":-Infinity}',
        b'{"topic":"t","path":"p","value":' + b"[" * 100_000,
        b'{"topic":"t","path":"p","value":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_envelope_cannot_be_answered(payload: bytes) -> None:
    """JSON has no NaN (RFC 8259 section 6) and is UTF-8 without a mark (section 8.1)."""
    with pytest.raises(Unreadable):
        parse(payload)


@pytest.mark.parametrize("headers", [None, 5, "text", [], [{"correlation-id": "c"}]])
def test_headers_that_are_no_object_are_no_headers(headers: object) -> None:
    """The command can still be answered, so it is not thrown away."""
    assert parse(envelope(headers=headers)).headers == {}


def test_an_unpaired_surrogate_becomes_a_question_mark_wherever_it_is() -> None:
    """No file name, topic or message of ours could hold it."""
    value = rb'[{"\udfff":"\uD83D\ude00 \ud83d"}]'
    message = parse(rb'{"topic":"\ud800t","path":"p","headers":{"\uDC00":1},"value":' + value + b"}")
    assert message.topic == "?t"
    assert list(message.headers) == ["?"]
    assert message.value == [{"?": "\U0001f600 ?"}]


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
@example(b'{"topic":"\\ud800","path":"p","value":' + b"[" * 900 + b"]" * 900 + b"}")
def test_any_payload_is_read_or_unreadable(payload: bytes) -> None:
    """Nothing else is raised, and what was read can be written."""
    try:
        message = parse(payload)
    except Unreadable:
        return
    compact_json({"topic": message.topic, "path": message.path, "headers": dict(message.headers)})


@given(st.fixed_dictionaries({}, optional={"headers": JSON, "value": JSON, "extra": JSON}))
def test_an_envelope_is_read_whatever_its_parts_hold(parts: dict[str, Any]) -> None:
    try:
        message = parse(envelope(**parts))
    except Unreadable:
        assert "NaN" in json.dumps(parts) or "Infinity" in json.dumps(parts)
        return
    assert message.response_required in (True, False, None)
    assert message.correlation_id is None or isinstance(message.correlation_id, str)


# Whose it is


@pytest.mark.parametrize(
    ("topic", "path", "subject"),
    [
        ("edge/device/things/live/messages/backup", "/features/F/inbox/messages/backup", "backup"),
        ("edge/device/things/live/messages/backup", "/features/F/inbox/messages/restore", "restore"),
        ("edge/device/things/live/messages/", "/features/F/inbox/messages/a/b", "a/b"),
        ("edge/device/things/live/messages/backup", "/features/F/inbox/messages/", None),
        ("edge/device/things/live/messages/backup", "/features/F/outbox/messages/backup", None),
        ("edge/device/things/live/messages/backup", "/features/Other/inbox/messages/backup", None),
        ("edge/device/things/live/messages/backup", "/inbox/messages/backup", None),
        ("edge/other/things/live/messages/backup", "/features/F/inbox/messages/backup", None),
        ("device/edge/things/live/messages/backup", "/features/F/inbox/messages/backup", None),
        ("edge/device/things/twin/commands/modify", "/features/F/inbox/messages/backup", None),
        ("", "", None),
    ],
)
def test_the_envelope_says_whose_message_it_is(topic: str, path: str, subject: str | None) -> None:
    """Our thing in the topic, our feature's inbox in the path; where the subjects differ, the path wins."""
    assert Envelope(topic, path).inbox_subject("edge/device", "F") == subject


# Writing


def test_an_accepted_command_is_answered_exactly_so() -> None:
    """WIRE section 2, byte for byte: no key `value`."""
    message = ditto.reply(Envelope("edge/device/things/live/messages/backup", "p"), "BAR", "backup", "c")
    assert compact_json(message) == (
        b'{"topic":"edge/device/things/live/messages/backup",'
        b'"headers":{"content-type":"application/json","correlation-id":"c"},'
        b'"path":"/features/BAR/outbox/messages/backup","status":204}'
    )
    check("command//edge:device/res//backup", message)


def test_a_question_is_answered_with_a_value_and_200() -> None:
    message = ditto.reply(
        Envelope("edge/device/things/live/messages/status", "p"), "BAR", "status", "c", value={"job": None}
    )
    assert (message["value"], message["status"]) == ({"job": None}, 200)
    check("command//edge:device/res/r/200", message)


def test_a_refused_command_is_answered_exactly_so() -> None:
    """WIRE section 2, byte for byte."""
    error = Error(409, "messages:execution.failed", "Backup operation is currently in progress!")
    message = ditto.reply(
        Envelope("edge/device/things/live/messages/backup", "p"), "BAR", "backup", "c", error=error
    )
    assert compact_json(message) == (
        b'{"topic":"edge/device/things/live/messages/backup",'
        b'"headers":{"content-type":"application/json","correlation-id":"c"},'
        b'"path":"/features/BAR/outbox/messages/backup",'
        b'"value":{"status":409,"error":"messages:execution.failed",'
        b'"message":"Backup operation is currently in progress!"},"status":409}'
    )
    check("command//edge:device/res/r/409", message)


def test_a_property_is_set_exactly_so() -> None:
    assert compact_json(ditto.modify("edge/device", "/features/F/properties/p", {"a": None})) == (
        b'{"topic":"edge/device/things/twin/commands/modify","headers":{"response-required":false},'
        b'"path":"/features/F/properties/p","value":{"a":null}}'
    )


def test_a_merge_is_a_json_merge_patch() -> None:
    message = ditto.merge("edge/device", "/features/F", {})
    assert message["topic"].endswith("/commands/merge")
    assert message["headers"]["content-type"] == "application/merge-patch+json"
    check("e", message)


def test_a_message_to_the_backend_is_sent_exactly_so() -> None:
    """WIRE section 2's upload request: `reply-to`, and no correlation-id."""
    value = {"correlationId": "X#1"}
    assert compact_json(ditto.outbox_message("edge/device", "F", "request", value, tenant_id="acme")) == (
        b'{"topic":"edge/device/things/live/messages/request",'
        b'"headers":{"content-type":"application/json","reply-to":"command/acme","response-required":false},'
        b'"path":"/features/F/outbox/messages/request","value":{"correlationId":"X#1"}}'
    )


def test_text_goes_out_as_utf_8_and_not_escaped() -> None:
    """2048 bytes are not much, and an escape takes 6 of them for a letter."""
    assert compact_json({"a": "ü\U0001f600"}) == '{"a":"ü\U0001f600"}'.encode()


@given(st.text(), st.integers(1, 50))
def test_a_clipped_text_says_that_it_was_clipped(text: str, length: int) -> None:
    cut = clipped(text, length)
    assert len(cut) <= length
    assert cut == text if len(text) <= length else cut == text[: length - 1] + "…"


@given(st.text(max_size=2000) | st.text("\x01\U0001f600ü", min_size=300, max_size=2000))
def test_a_message_with_a_text_always_fits(text: str) -> None:
    """A control character takes 6 bytes in JSON and an emoji 4, so 400 characters alone may be too long."""
    payload = fitting(lambda short: {"id": "x" * 256, "message": short}, text)
    assert len(payload) <= ditto.MAX_MESSAGE_BYTES
    message = json.loads(payload)["message"].rstrip("…")
    assert text.encode("utf-8", "replace").decode().startswith(message) or not message


def test_a_long_text_is_cut_at_400_characters() -> None:
    payload = fitting(lambda short: {"message": short}, "x" * 500)
    assert json.loads(payload)["message"] == "x" * 399 + "…"
