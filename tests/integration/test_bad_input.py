"""Nothing that arrives on a topic may end, deafen or confuse the agent."""

import json
from typing import Any

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.backend import DEVICE, FEATURE, THING, Backend

TOPIC = f"command//{DEVICE}/req//backup"


def still_there(backend: Backend, agent: AgentProcess) -> None:
    """A good command is answered, and nothing was logged that the agent calls an error of its own."""
    assert backend.ask("nothing-of-the-kind")["status"] == 400
    assert not [line for line in agent.log_lines() if str(line["event"]).startswith("internal error")]


def test_garbage_is_dropped_and_logged(agent: AgentProcess, backend: Backend) -> None:
    """No answer is possible, so none is given."""
    garbage: list[str | bytes] = [
        b"", b"\xff\xfe\x00", "null", "[]", "17", '"text"', "{", "[" * 100_000, '{"a":' * 50_000,
        '{"topic":1,"path":2}', '{"topic":"x"}', "9" * 10_000, "NaN", b"x" * (1 << 20),
        json.dumps({"topic": "a/b/things/live/messages/backup", "path": "/features/Other/inbox/messages/x"}),
    ]  # fmt: skip
    for payload in garbage:
        backend.publish(TOPIC, payload)
    for topic in ("command//stranger/req//backup", "command///req//", "command//edge:device/req/x"):
        backend.publish(topic, "{}")
    still_there(backend, agent)
    assert len([m for m in backend.messages if m[0].startswith("command")]) == 1


def test_a_retained_command_is_never_run(device: AgentProcess, backend: Backend) -> None:
    """It would come back with every subscription."""
    agent = device
    message = {
        "topic": f"{THING}/things/live/messages/backup",
        "headers": {"response-required": True, "correlation-id": "kept"},
        "path": f"{FEATURE}/inbox/messages/backup",
        "value": {"correlationID": "kept", "options": {"storage.provider": "local"}},
    }
    backend.publish(TOPIC, json.dumps(message), retain=True)
    agent.start()
    backend.announced()
    agent.wait_for_log("retained command ignored: remove it from the broker")
    still_there(backend, agent)
    assert backend.values() == []
    backend.publish(TOPIC, b"", retain=True)


@pytest.mark.parametrize(
    "value",
    ["text", [1], 5, True, {"options": []}, {"options": {"a": {}}}, {"correlationID": {}},
     {"correlationID": "x" * 257}, {"options": {"backup.passcode": "secret"}},
     {"options": {"storage.provider": "floppy"}}, {"options": {"https.url": "ftp://example.org/x"}},
     {"options": {"storage.provider": "local", "local.target": "usb"}},
     {"options": {"storage.provider": "local", "local.name": "../up"}},
     {"options": {"storage.provider": "local", "local.nmae": "x"}},
     {"options": {"backup.name": "a/b"}}, {"options": {"backup.description": "x" * 1001}},
     {"options": {"backup.retentionDate": "2020-01-01T00:00:00Z"}},
     {"options": {"backup.retentionDate": True}},
     {"options": {"storage.provider": "azure"}}, {"options": {"options.x": "y" * 3000}}],
)  # fmt: skip
def test_a_bad_value_gets_a_400_that_says_why(agent: AgentProcess, backend: Backend, value: Any) -> None:
    answer = backend.ask("backup", value)
    assert answer["status"] == 400
    assert answer["value"]["error"] == "messages:parameter.invalid"
    assert len(answer["value"]["message"]) > 10
    assert "secret" not in answer["value"]["message"]
    still_there(backend, agent)


def test_a_directory_outside_the_scope_missing_or_no_directory_gets_a_400(
    agent: AgentProcess, backend: Backend
) -> None:
    """Each with its own sentence; a link inside the scope that points outside is outside."""
    (agent.data / "way-out").symlink_to("/etc")
    for directory, says in (
        ("/etc", "outside"),
        (f"{agent.data}/way-out", "outside"),
        (f"{agent.data}/no-such", "no-such"),
        (f"{agent.data}/start.sh", "not a directory"),
        ("relative", "absolute"),
    ):
        answer = backend.ask("backup", {"options": {"storage.provider": "local", "backup.dir": directory}})
        assert (answer["status"], answer["value"]["error"]) == (400, "messages:execution.failed"), directory
        assert says in answer["value"]["message"]


def test_answers_only_where_they_are_due(agent: AgentProcess, backend: Backend) -> None:
    """False, "false", absent without a request id: silence. "true" and absent with one: an answer."""

    def send(request_id: str, headers: dict[str, Any]) -> None:
        message = {
            "topic": f"{THING}/things/live/messages/x",
            "headers": headers,
            "path": f"{FEATURE}/inbox/messages/x",
        }
        backend.publish(f"command//{DEVICE}/req/{request_id}/x", json.dumps(message))

    send("", {"response-required": False, "correlation-id": "silent-1"})
    send("r", {"response-required": "false", "correlation-id": "silent-2"})
    send("", {"correlation-id": "silent-3"})
    send("", {"Response-Required": "true", "Correlation-ID": 42})
    send("s", {"correlation-id": "answered"})
    send("t", {})
    assert backend.answer("42")["status"] == 400
    assert backend.answer("answered")["status"] == 400
    made = backend.wait(lambda m: m[0] == f"command//{DEVICE}/res/t/400")[1]
    assert made["headers"]["correlation-id"]
    assert not [m for m in backend.messages if "silent" in str(m)]
