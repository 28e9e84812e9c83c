"""Nothing that arrives on a topic may end, deafen or confuse the agent."""

import json
from typing import Any

from tests.support.api_client import ApiClient
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


def test_text_that_utf_8_cannot_encode_ends_no_more_than_its_own_command(
    device: LocalAgent, backend: LocalBackend
) -> None:
    r"""Names are any bytes, and the JSON of an option may have `\udcff`: a job with it never ended."""
    device.settings |= {"mode": "lax"}
    device.start()
    backend.announced()
    local = {"storage.provider": "local"}
    assert command(backend, "backup", "good", local) == {"status": 204}
    assert backend.ended("good")["state"] == "BACKUP_FINISHED"
    assert command(backend, "restore", "paths", local | {"restore.paths": r'["\udcff"]'}) == {"status": 204}
    assert backend.ended("paths")["message"].endswith(r"does not hold '\udcff'")
    refused = command(backend, "backup", "exclude", local | {"backup.exclude": r'["\udcff"]'})
    assert refused["value"]["message"] == (
        "option 'backup.exclude' must be patterns as in a .gitignore file: '\\udcff' is not UTF-8: use '?'"
    )
    api = ApiClient(device.storage / "http.sock")
    for options, expected in [
        ({"backup.description": "\udcff"}, "'backup.description' must be UTF-8"),
        ({"restore.fromDevice": "\udcff"}, "'restore.fromDevice' must be UTF-8"),
        ({"backup.dir": f"{device.data}/\ud800"}, "is no valid text"),
        ({"restore.source": "\ud800"}, "'restore.source'"),
    ]:
        operation = next(iter(options)).partition(".")[0]
        reply = api.post("/jobs", {"operation": operation, "options": local | options})
        assert expected in reply.detail, reply
        assert reply.status in (400, 422), reply
    still_there(backend, device)


def command(backend: LocalBackend, operation: str, name: str, options: dict[str, str]) -> dict[str, Any]:
    """Send a command; return the status of its answer, and its value if it was refused."""
    answer = backend.ask(operation, {"correlationId": name, "options": options}, request_id=name)
    return {key: answer[key] for key in ("status", "value") if key in answer}
