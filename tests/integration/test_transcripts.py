"""Whole conversations, every message in its order: what a backend sees of one backup and one restore."""

import re
from typing import Any

from agent.base.job import NEVER
from tests.support.agent_process import AgentProcess
from tests.support.backend import FEATURE, LAST_OPERATION, Backend
from tests.support.trees import differences

from .conftest import contents

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def operation(correlation_id: str, state: str, end: str, progress: int) -> tuple[str, dict[str, Any]]:
    value = {
        "correlationId": correlation_id,
        "state": state,
        "startTime": "<time>",
        "endTime": end,
        "statusCode": "",
        "message": "",
        "progress": progress,
        "info": None,
    }
    return "e", {
        "topic": "edge/device/things/twin/commands/modify",
        "headers": {"response-required": False},
        "path": LAST_OPERATION,
        "value": value,
    }


def answer(subject: str, header: str) -> tuple[str, dict[str, Any]]:
    return f"command//edge:device/res//{subject}", {
        "topic": f"edge/device/things/live/messages/{subject}",
        "headers": {"content-type": "application/json", "correlation-id": header},
        "path": f"{FEATURE}/outbox/messages/{subject}",
        "status": 204,
    }


ANNOUNCEMENT = (
    "e",
    {
        "topic": "edge/device/things/twin/commands/modify",
        "headers": {"response-required": False},
        "path": FEATURE,
        "value": {
            "definition": [
                "com.bosch.iot.suite.manager.backup:BackupAndRestore:1.0.0",
                "com.bosch.iot.suite.manager.upload:Uploadable:1.0.0",
            ],
            "properties": {
                "autoUpload": {"active": False, "startTime": None, "endTime": None},
                "context": "edge",
                "info": {"supportedProviders": "aws,azure,generic,local"},
                "providers": ["aws", "azure", "generic", "local"],
                "type": "file",
            },
        },
    },
)


def timeless(messages: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """The messages with `<time>` for every time that has the right form."""

    def without_time(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_time(item) for key, item in value.items()}
        return "<time>" if isinstance(value, str) and TIME.fullmatch(value) else value

    return [(topic, without_time(message)) for topic, message in messages]


def test_a_backup_and_a_restore_say_exactly_this(agent: AgentProcess, backend: Backend) -> None:
    """Announcement; answer, STARTED, FINISHED; answer, STARTED, FINISHED. Nothing else, no other order."""
    before = contents(agent.data)
    value = {"correlationID": "X", "options": {"storage.provider": "local"}}
    saving = backend.send("backup", value)
    backend.ended("X")
    (agent.data / "config" / "app.json").write_text("damaged")
    (agent.data / "start.sh").unlink()
    restoring = backend.send("restore", {**value, "correlationID": "Y"})
    backend.ended("Y")

    assert timeless(backend.messages) == [
        ANNOUNCEMENT,
        answer("backup", saving),
        operation("X", "BACKUP_STARTED", NEVER, 0),
        operation("X", "BACKUP_FINISHED", "<time>", 100),
        answer("restore", restoring),
        operation("Y", "RESTORE_STARTED", NEVER, 0),
        operation("Y", "RESTORE_FINISHED", "<time>", 100),
    ]
    assert differences(before, contents(agent.data)) == []


def test_a_refusal_says_what_and_why_in_ditto_s_words(agent: AgentProcess, backend: Backend) -> None:
    """The envelope of a refusal, with a request id: the status is in the topic too."""
    header = backend.send("defragment", {}, request_id="r1")
    backend.answer(header)
    assert backend.messages[-1] == (
        "command//edge:device/res/r1/400",
        {
            "topic": "edge/device/things/live/messages/defragment",
            "headers": {"content-type": "application/json", "correlation-id": header},
            "path": f"{FEATURE}/outbox/messages/defragment",
            "value": {
                "status": 400,
                "error": "messages:parameter.invalid",
                "message": "Unsupported operation 'defragment'!",
            },
            "status": 400,
        },
    )
