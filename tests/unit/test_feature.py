"""Commands as they arrive: whatever they are, they are acknowledged, answered where WIRE says so, and
followed by a good one that works."""

import gc
import json
import weakref
from functools import partial
from pathlib import Path

import pytest

from agent.faces.ditto.mqtt_session import MAX_EARLY_BYTES
from agent.faces.ditto.redelivery import Redeliveries
from agent.mqtt.envelope import MAX_MESSAGE_BYTES
from agent.mqtt.link import Delivery
from tests.support.fakes import DEVICE, FEATURE, LAST_OPERATION, THING, Device, command, status_of
from tests.support.journals import opened_connections
from tests.support.stalling import stalling

LOCAL = {"storage.provider": "local"}


# Answers


def test_a_command_in_the_form_of_the_api_document_is_answered_in_its_form(device: Device) -> None:
    said = device.command("backup", {"correlationID": "X", "options": LOCAL}, request_id="", header="<UUID>")
    assert said[0] == (
        f"command//{DEVICE}/res//backup",
        {
            "topic": f"{THING}/things/live/messages/backup",
            "headers": {"content-type": "application/json", "correlation-id": "<UUID>"},
            "path": f"{FEATURE}/outbox/messages/backup",
            "status": 204,
        },
    )


def test_a_command_with_a_request_id_has_its_status_in_the_answer_s_topic(device: Device) -> None:
    ((topic, message),) = device.command("nonsense", {}, request_id="r1")
    assert topic == f"command//{DEVICE}/res/r1/400"
    assert message["value"] == {
        "status": 400,
        "error": "messages:parameter.invalid",
        "message": "Unsupported operation 'nonsense'!",
    }


def test_the_answer_comes_before_the_first_state_and_that_before_the_last(device: Device) -> None:
    """WIRE section 2: the reply, STARTED, FINISHED, and then the upload request."""
    before = len(device.wire.sent)
    device.command("backup", {"correlationID": "X"})
    device.finish()
    said = device.wire.sent[before:]
    assert [message["path"].removeprefix(FEATURE) for _, message in said] == [
        "/outbox/messages/backup",
        "/properties/lastOperation",
        "/properties/lastOperation",
        "/outbox/messages/request",
    ]
    assert [value["state"] for value in device.values()] == ["BACKUP_STARTED", "BACKUP_FINISHED"]
    assert said[3][1]["value"]["correlationId"] == "X#1"


@pytest.mark.parametrize(
    ("required", "request_id", "answered"),
    [
        (True, "r", True),
        (True, "", True),
        (False, "r", False),
        ("true", "", True),
        ("FALSE", "r", False),
        (None, "r", True),
        (None, "", False),
        ("maybe", "r", True),
        ("maybe", "", False),
    ],
)
def test_an_answer_is_given_exactly_where_one_is_due(
    device: Device, required: object, request_id: str, answered: bool
) -> None:
    """Absent means true in Ditto and false in Kanto: then the request id decides."""
    topic = f"command//{DEVICE}/req/{request_id}/nonsense"
    said = device.receive(topic, command("nonsense", {}, response_required=required))
    assert bool(said) is answered


@pytest.mark.parametrize(("switch", "answered"), [("true", True), ("false", False)])
def test_one_way_answers_can_be_switched_off(tmp_path: Path, switch: str, answered: bool) -> None:
    """For installations where such a reply would reach a real Hono, which refuses it."""
    device = Device(tmp_path, {"oneWayReplies": switch})
    assert bool(device.command("nonsense", {}, request_id="")) is answered
    assert device.command("nonsense", {}, request_id="r")
    device.close()


def test_without_a_correlation_id_one_is_made(device: Device) -> None:
    payload = command("nonsense", {}, header=None)
    ((_, message),) = device.receive(f"command//{DEVICE}/req/r/nonsense", payload)
    assert len(message["headers"]["correlation-id"]) == 36


@pytest.mark.parametrize(("header", "echo"), [(5, "5"), (True, "true"), ("", ""), ("a b", "a b")])
def test_the_correlation_id_is_echoed_as_text(device: Device, header: object, echo: str) -> None:
    payload = command("nonsense", {}, header=header)
    ((_, message),) = device.receive(f"command//{DEVICE}/req/r/nonsense", payload)
    assert message["headers"]["correlation-id"] == echo


@pytest.mark.parametrize("letter", ["x", "\x01"])
def test_an_id_of_256_bytes_is_echoed(device: Device, letter: str) -> None:
    ((_, message),) = device.receive(f"command//{DEVICE}/req/r/backup", command("backup", [], letter * 256))
    assert message["headers"]["correlation-id"] == letter * 256
    assert len(device.wire.raw[-1][1]) <= MAX_MESSAGE_BYTES


@pytest.mark.parametrize("header", ["x" * 257, "é" * 200, "x" * 100_000])
@pytest.mark.parametrize("operation", ["backup", "status"])
def test_an_id_that_is_too_long_gets_a_400_without_it(device: Device, operation: str, header: str) -> None:
    """WIRE section 1: no answer is longer than Hono takes, whose adapter would hang up."""
    payload = command(operation, {}, header)
    ((topic, message),) = device.receive(f"command//{DEVICE}/req/r/{operation}", payload)
    assert (topic, message["status"]) == (f"command//{DEVICE}/res/r/400", 400)
    assert len(message["headers"]["correlation-id"]) == 36
    assert max(len(payload) for _, payload in device.wire.raw) <= MAX_MESSAGE_BYTES
    assert device.values() == []
    again = device.receive(f"command//{DEVICE}/req/r/{operation}", payload)
    assert again == [(topic, message)], "the stored answer"


def test_a_subject_that_is_too_long_gets_a_400_that_does_not_repeat_it(device: Device) -> None:
    subject = "x" * 60_000
    ((topic, message),) = device.receive(f"command//{DEVICE}/req//{subject}", command(subject, {}))
    assert (topic, message["status"]) == (f"command//{DEVICE}/res//{'x' * 64}", 400)
    assert message["path"] == f"{FEATURE}/outbox/messages/{'x' * 64}"
    assert max(len(payload) for _, payload in device.wire.raw) <= MAX_MESSAGE_BYTES


def test_an_id_in_the_value_that_is_too_long_is_not_repeated(device: Device) -> None:
    ((_, message),) = device.command("backup", {"correlationID": "x" * 100_000})
    assert message["status"] == 400
    assert len(device.wire.raw[-1][1]) <= MAX_MESSAGE_BYTES


@pytest.mark.parametrize("value", ["text", [], 5, True])
def test_a_readable_envelope_with_a_bad_value_gets_a_400(device: Device, value: object) -> None:
    ((_, message),) = device.command("backup", value)
    assert (message["status"], message["value"]["error"]) == (400, "messages:parameter.invalid")


def test_where_topic_and_path_differ_in_the_subject_the_path_wins(device: Device) -> None:
    """And the answer goes where the topic says."""
    ((topic, message),) = device.receive(f"command//{DEVICE}/req//backup", command("nonsense", {}))
    assert topic == f"command//{DEVICE}/res//backup"
    assert message["path"] == f"{FEATURE}/outbox/messages/nonsense"


@pytest.mark.parametrize("level", ["", DEVICE, f"{DEVICE}:edge:containers"])
def test_the_gateway_and_virtual_devices_are_answered_at_their_own_level(device: Device, level: str) -> None:
    ((topic, _),) = device.receive(f"command//{level}/req/r/nonsense", command("nonsense", {}))
    assert topic == f"command//{level}/res/r/400"


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("command//other:device/req/r/backup", command("backup", {})),
        (f"command/t/{DEVICE}/req/r/backup", command("backup", {})),
        (f"command//{DEVICE}/req/r/backup", b"not JSON"),
        (f"command//{DEVICE}/req/r/backup", b"[]"),
        (f"command//{DEVICE}/req/r/backup", command("backup", {}).replace(b"edge/device", b"edge/other")),
        (f"command//{DEVICE}/req/r/backup", command("backup", {}).replace(b"BackupAndRestore", b"Other")),
    ],
    ids=["device", "tenant", "garbage", "list", "thing", "feature"],
)
def test_what_is_for_somebody_else_or_unreadable_is_acknowledged_in_silence(
    device: Device, topic: str, payload: bytes
) -> None:
    assert device.receive(topic, payload) == []


def test_a_retained_command_is_acknowledged_and_never_run(device: Device) -> None:
    """It would come back with every subscription."""
    assert device.command("backup", {"options": LOCAL}, retain=True) == []
    assert device.values() == []
    assert status_of(device.command("backup", {"options": LOCAL})) == 204


# Commands that come too late


def test_an_expired_command_is_refused_and_nothing_runs(device: Device) -> None:
    """It waited at a broker for longer than it was worth something."""
    payload = command("backup", {"options": LOCAL}, expiresAt="2020-01-01T00:00:00Z")
    for dup in (False, True):
        ((topic, message),) = device.receive(f"command//{DEVICE}/req/r/backup", payload, dup=dup)
        assert topic == f"command//{DEVICE}/res/r/408", "and again when it comes again"
        assert message["value"]["error"] == "messages:execution.failed"
    assert device.values() == []


def test_with_a_timeout_of_0_the_command_runs_and_is_not_answered(device: Device) -> None:
    """Ditto: nobody waits for the answer; it does not say that nobody wants the work."""
    payload = command("backup", {"options": LOCAL}, timeout=0)
    said = device.receive(f"command//{DEVICE}/req/r/backup", payload)
    assert [message["path"] for _, message in said] == [LAST_OPERATION]
    device.finish()
    assert device.values()[-1]["state"] == "BACKUP_FINISHED"


@pytest.mark.parametrize("operation", ["backup", "restore"])
def test_a_job_that_takes_too_long_fails_with_a_code_of_its_own(tmp_path: Path, operation: str) -> None:
    device = Device(tmp_path, {"jobTimeout": "200ms"})
    with stalling() as destination:
        device.command(operation, {"correlationID": "X", "options": {"https.url": destination.url}})
        device.finish()
    last = device.values()[-1]
    assert (last["state"], last["statusCode"]) == (f"{operation.upper()}_FAILED", "deadline-exceeded")
    assert status_of(device.command("backup", {"options": LOCAL}, request_id="next")) == 204
    device.close()


# Redeliveries


def test_a_command_that_comes_again_runs_once_and_gets_the_same_answer(device: Device) -> None:
    value = {"correlationID": "X", "options": LOCAL}
    device.command("backup", value)
    first = next(raw for raw in device.wire.raw if raw[0].startswith("command"))
    device.finish()
    count = len(device.wire.raw)
    device.command("backup", value)
    assert device.wire.raw[count:] == [first]
    assert len(device.values()) == 2


def test_a_command_that_comes_again_after_a_crash_runs_once(device: Device) -> None:
    value = {"correlationID": "X", "options": LOCAL}
    first = device.command("backup", value)[0]
    device.finish()
    device.restart()
    assert device.command("backup", value, dup=True) == [first]


def test_another_payload_under_the_same_request_id_is_refused(device: Device) -> None:
    device.command("nonsense", {"a": 1})
    ((_, message),) = device.command("nonsense", {"a": 2})
    assert (message["status"], message["value"]["error"]) == (409, "messages:execution.failed")
    assert status_of(device.command("nonsense", {"a": 1})) == 400


def test_the_second_form_of_a_command_is_swallowed(device: Device) -> None:
    payload = command("nonsense", {})
    assert device.receive(f"c//{DEVICE}/q/r/nonsense", payload)[0][0] == f"c//{DEVICE}/s/r/400"
    assert device.receive(f"command//{DEVICE}/req/r/nonsense", payload) == []


def test_a_burst_of_commands_while_offline_is_answered_afterwards(device: Device) -> None:
    """In their order, each with its own answer."""
    device.wire.online = False
    for number in range(30):
        device.command("nonsense", {}, request_id=str(number))
    device.wire.online = True
    device.outbox.up(device.wire.publish, [])
    device.acknowledge()
    answers = [topic for topic, _ in device.wire.sent if topic.startswith("command")]
    assert answers == [f"command//{DEVICE}/res/{number}/400" for number in range(30)]


def test_every_message_fits_whatever_the_ids_are_made_of(tmp_path: Path) -> None:
    """An id of 256 control characters takes 1536 bytes of JSON; such a command fits or is refused."""
    device = Device(tmp_path)
    for identifier in ("\x01" * 256, "\U0001f600" * 64, "x" * 256):
        said = device.command("backup", {"correlationID": identifier}, request_id=identifier[:1])
        assert status_of(said) in (204, 400)
        device.finish()
    assert all(len(payload) <= MAX_MESSAGE_BYTES for _, payload in device.wire.raw)
    device.close()


def test_commands_wait_until_the_device_knows_who_it_is(tmp_path: Path) -> None:
    """A resumed session may deliver them before the identity question is answered."""
    device = Device(tmp_path)
    session = device.service.session
    session.identity = None
    acknowledged: list[int] = []
    early = Delivery(
        f"command//{DEVICE}/req/r/nonsense", command("nonsense"), False, False, lambda: acknowledged.append(1)
    )
    session.deliver(early)
    session.hand_over()
    assert acknowledged == []
    who = json.dumps({"deviceId": DEVICE, "tenantId": "t"}).encode()
    session.deliver(Delivery("edge/thing/response", who, False, False, lambda: None))
    assert acknowledged == [1]
    assert device.wire.sent[-1][0] == f"command//{DEVICE}/res/r/400"
    device.close()


def test_of_too_many_early_commands_the_oldest_are_given_up(tmp_path: Path) -> None:
    """A broker with QoS 0 messages has no limit of its own. The oldest go; they would be the stalest."""
    device = Device(tmp_path)
    session = device.service.session
    session.identity = None
    acknowledged: list[int] = []
    for number in range(100):
        payload = b"x" * 100_000
        session.deliver(
            Delivery(
                f"command//{DEVICE}/req/r/x", payload, False, False, partial(acknowledged.append, number)
            )
        )
    waiting = sum(len(early.payload) for early in session.early)
    assert MAX_EARLY_BYTES - 200_000 < waiting <= MAX_EARLY_BYTES
    assert acknowledged == list(range(100 - len(session.early)))
    device.close()


def test_commands_that_come_together_cost_one_sync_until_one_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flash disk syncs fifty times a second: one by one, a thousand commands would keep a `cancel` waiting
    for half a minute."""
    commits: list[str] = []
    connections = opened_connections(monkeypatch)
    device = Device(tmp_path)
    connections[0].set_trace_callback(commits.append)
    acknowledged: list[str] = []
    operations = ["nonsense"] * 7 + ["backup"] + ["backup"] * 7
    for number, operation in enumerate(operations):
        topic = f"command//{DEVICE}/req/{number}/{operation}"
        payload = command(operation, {"options": LOCAL})
        acknowledge = partial(acknowledged.append, operation)
        device.service.session.deliver(Delivery(topic, payload, False, False, acknowledge))
    device.service.session.hand_over()
    assert commits.count("COMMIT") == 2
    assert acknowledged == operations
    device.acknowledge()
    statuses = [message["status"] for topic, message in device.wire.sent if topic != "e"]
    assert statuses == [400] * 7 + [204] + [409] * 7
    device.close()


def test_a_bug_in_a_command_costs_that_command_an_answer_and_not_the_agent_its_ears(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker sends no more once some twenty messages are not acknowledged."""
    with monkeypatch.context() as broken:
        broken.setattr(Redeliveries, "judge", None)
        assert status_of(device.command("backup", {"options": LOCAL}, request_id="1")) == 500
    assert status_of(device.command("backup", {"options": LOCAL}, request_id="2")) == 204


def test_a_refused_subscription_is_asked_for_once_at_a_time(tmp_path: Path) -> None:
    """Also when the connection was lost and made again meanwhile: each round must not begin a further one."""
    device = Device(tmp_path)
    session = device.service.session
    before = len(device.mailbox.timers)
    for _ in range(5):
        session.refused()
        session.down("lost")
        session.refused()
    assert len(device.mailbox.timers) == before + 1
    device.close()


def test_a_refused_command_leaves_nothing_for_the_garbage_collector(device: Device) -> None:
    """Its payload may hold credentials, and the means to acknowledge it hold a connection."""

    class Connection:
        def acknowledge(self) -> None:
            pass

    connection = Connection()
    gone = weakref.ref(connection)
    payload = command("restore", {"options": {"storage.provider": "nowhere"}})
    delivery = Delivery(f"command//{DEVICE}/req/r/restore", payload, False, False, connection.acknowledge)
    gc.disable()
    try:
        device.service.session.deliver(delivery)
        device.service.session.hand_over()
        del connection, delivery
        assert gone() is None
    finally:
        gc.enable()
