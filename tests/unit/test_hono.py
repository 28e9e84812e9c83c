"""Topics of the local broker, read and written as WIRE section 1 says."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.base.text import valid_device_id
from agent.mqtt.hono import (
    CommandTopic,
    Identity,
    parse_command_topic,
    parse_identity,
)

LEVEL = st.text(st.characters(exclude_characters="/+#\0", exclude_categories=["Cs"]), max_size=20)


def test_the_topic_of_the_api_document_is_read() -> None:
    """Its request id is empty, so the answer goes to a topic that ends in the subject."""
    topic = parse_command_topic("command//edge:device/req//backup")
    assert topic == CommandTopic("edge:device", "", "backup")
    assert topic.one_way
    assert topic.reply_topic(204) == "command//edge:device/res//backup"


def test_a_command_with_a_request_id_is_answered_with_the_status_in_the_topic() -> None:
    topic = parse_command_topic("command//edge:device/req/01a2/backup")
    assert topic == CommandTopic("edge:device", "01a2", "backup")
    assert not topic.one_way
    assert topic.reply_topic(409) == "command//edge:device/res/01a2/409"


def test_the_device_level_of_the_answer_is_the_one_received() -> None:
    """An empty level is the gateway itself; Hono takes an answer only for the device that it asked."""
    topic = parse_command_topic("command///req/01a2/backup")
    assert topic is not None
    assert topic.reply_topic(204) == "command///res/01a2/204"


def test_a_short_command_is_answered_on_the_short_topic() -> None:
    topic = parse_command_topic("c//edge:device/q/01a2/backup")
    assert topic == CommandTopic("edge:device", "01a2", "backup", short=True)
    assert topic.reply_topic(204) == "c//edge:device/s/01a2/204"


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "e",
        "command",
        "command//edge:device/req//",
        "command//edge:device/req/backup",
        "command/tenant/edge:device/req//backup",
        "command//edge:device/res//backup",
        "command//edge:device/q//backup",
        "c//edge:device/req//backup",
        "c//edge:device/s//backup",
        "/command//edge:device/req//backup",
        "Command//edge:device/req//backup",
    ],
)
def test_other_topics_are_no_commands(topic: str) -> None:
    """The tenant level is empty on the local broker; a mix of the long and short form is neither."""
    assert parse_command_topic(topic) is None


@given(LEVEL, LEVEL, LEVEL.filter(bool), st.booleans())
def test_what_a_topic_is_made_of_comes_out_again(
    device: str, request_id: str, subject: str, short: bool
) -> None:
    root, kind = ("c", "q") if short else ("command", "req")
    topic = f"{root}//{device}/{kind}/{request_id}/{subject}"
    assert parse_command_topic(topic) == CommandTopic(device, request_id, subject, short)


@given(st.text())
@example("command" + "/" * 10_000)
def test_no_topic_is_an_error(topic: str) -> None:
    """Whatever arrives is a command or is not; nothing is raised into the network thread."""
    parse_command_topic(topic)


@pytest.mark.parametrize(
    ("device", "ours"),
    [
        ("", True),
        ("edge:device", True),
        ("edge:device:edge:containers", True),
        ("edge:device2", False),
        ("edge", False),
        ("other:device", False),
        ("device:edge:edge:containers", False),
    ],
)
def test_the_gateway_the_device_and_its_virtual_devices_are_ours(device: str, ours: bool) -> None:
    """A virtual device's id begins with the device's id and a colon: `<namespace>:<name>:edge:containers`."""
    assert CommandTopic(device, "", "backup").concerns("edge:device") is ours


def test_the_identity_is_read_from_the_connector_s_answer() -> None:
    payload = b'{"deviceId":"edge:device","tenantId":"tenant","policyId":"edge:policy"}'
    assert parse_identity(payload) == Identity("edge:device", "tenant")


def test_the_thing_of_a_device_is_its_namespace_and_the_rest() -> None:
    """Only the first colon separates: a name may have colons of its own."""
    assert Identity("edge:device").thing == "edge/device"
    assert Identity("edge:device:camera").thing == "edge/device:camera"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"deviceId": 5},
        {"deviceId": None},
        {"deviceId": ""},
        {"deviceId": "no-namespace"},
        {"deviceId": ":name"},
        {"deviceId": "namespace:"},
        {"deviceId": "a:b/c"},
        {"deviceId": "a:+"},
        {"deviceId": "a:#"},
        {"deviceId": "a:b\n"},
        {"deviceId": "a:\ud800"},
        {"deviceId": "edge:device", "tenantId": 5},
        {"deviceId": "edge:device", "tenantId": "a/b"},
        [],
        "edge:device",
        None,
    ],
)
def test_an_unusable_answer_is_no_identity(answer: object) -> None:
    """A wildcard or a slash in the id would break every topic that is made with it."""
    assert parse_identity(json.dumps(answer).encode()) is None


@given(st.binary())
@example(b"[" * 100_000)
@example(b"\xff\xfe")
@example(b'{"deviceId":1' + b"0" * 5000 + b"}")
def test_no_answer_is_an_error(payload: bytes) -> None:
    identity = parse_identity(payload)
    assert identity is None or valid_device_id(identity.device_id)
