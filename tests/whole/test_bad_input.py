"""Nothing that arrives on a topic may end, deafen or confuse the agent."""

import json

from tests.support.backend import DEVICE
from tests.support.local_agent import LocalAgent, LocalBackend

TOPIC = f"command//{DEVICE}/req//backup"


def still_there(backend: LocalBackend, agent: LocalAgent) -> None:
    """A good command is answered, and nothing was logged that the agent calls an error of its own."""
    assert backend.ask("nothing-of-the-kind")["status"] == 400
    assert not [line for line in agent.log_lines() if str(line["event"]).startswith("internal error")]


def test_garbage_is_dropped_and_logged(agent: LocalAgent, backend: LocalBackend) -> None:
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
