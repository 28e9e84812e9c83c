"""A backend written from the wire contract alone drives the agent through all of its operations.

It knows topics, envelopes and the recorded shapes, as somebody who reads `docs/wire.md` knows them, and
no line of the agent's code or of the other tests' backend. It takes every message in the order of its
arrival and compares it as text, so that a key too many, another order of keys or an unexpected message
fails.
"""

import json
import re
import uuid
from collections.abc import Iterator
from queue import Queue
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.agent_process import AgentProcess
from tests.support.http_server import keeping
from tests.support.mosquitto import Mosquitto
from tests.support.stalling import stalling
from tests.support.trees import contents, differences

IDENTITY = '{"deviceId":"edge:device","tenantId":"tenant","policyId":"policy"}'
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
NAME = re.compile(r'/[^"]+/backup-\d{4}-\d\d-\d\d-\d\d\.\d\d\.\d\d\.\d{3}-[0-9a-f]{8}\.zip')

# The recorded shapes; `<time>` and `<path>` stand for what is different each time.
ANNOUNCEMENT = (
    '{"topic":"edge/device/things/twin/commands/modify","headers":{"response-required":false},'
    '"path":"/features/BackupAndRestore","value":{"definition":['
    '"com.bosch.iot.suite.manager.backup:BackupAndRestore:1.0.0",'
    '"com.bosch.iot.suite.manager.upload:Uploadable:1.0.0"],"properties":{'
    '"autoUpload":{"active":false,"startTime":null,"endTime":null},"context":"edge",'
    '"info":{"supportedProviders":"aws,azure,generic,local"},'
    '"providers":["aws","azure","generic","local"],"type":"file"}}}'
)
ACCEPTED = (
    '{"topic":"edge/device/things/live/messages/%(subject)s",'
    '"headers":{"content-type":"application/json","correlation-id":"%(id)s"},'
    '"path":"/features/BackupAndRestore/outbox/messages/%(subject)s","status":204}'
)
REFUSED = (
    '{"topic":"edge/device/things/live/messages/%(subject)s",'
    '"headers":{"content-type":"application/json","correlation-id":"%(id)s"},'
    '"path":"/features/BackupAndRestore/outbox/messages/%(subject)s",'
    '"value":{"status":%(status)d,"error":"messages:%(error)s","message":"%(message)s"},"status":%(status)d}'
)
LAST_OPERATION = (
    '{"topic":"edge/device/things/twin/commands/modify","headers":{"response-required":false},'
    '"path":"/features/BackupAndRestore/properties/lastOperation","value":{"correlationId":"%(id)s",'
    '"state":"%(state)s","startTime":"<time>","endTime":"%(end)s","statusCode":"%(code)s",'
    '"message":"%(message)s","progress":%(progress)d,"info":null}}'
)
REQUEST = (
    '{"topic":"edge/device/things/live/messages/request",'
    '"headers":{"content-type":"application/json","reply-to":"command/tenant","response-required":false},'
    '"path":"/features/BackupAndRestore/outbox/messages/request",'
    '"value":{"correlationId":"%(id)s","options":{%(passed_on)s"file.path":"<path>",'
    '"storage.providers":"aws, azure, generic"}}}'
)
LAST_UPLOAD = (
    '{"topic":"edge/device/things/twin/commands/modify","headers":{"response-required":false},'
    '"path":"/features/BackupAndRestore/properties/lastUpload","value":{"correlationId":"%(id)s",'
    '"state":"%(state)s","startTime":"<time>","endTime":"%(end)s","statusCode":"","message":"",'
    '"progress":%(progress)d,"info":%(info)s}}'
)
AUTO_UPLOAD = (
    '{"topic":"edge/device/things/twin/commands/modify","headers":{"response-required":false},'
    '"path":"/features/BackupAndRestore/properties/autoUpload",'
    '"value":{"active":%(active)s,"startTime":%(start)s,"endTime":%(end)s}}'
)
GO_ZERO = "0001-01-01T00:00:00Z"


class WireBackend:
    """One connection. `heard` has what the agent said about our feature, in order."""

    def __init__(self, port: int) -> None:
        self.heard: Queue[tuple[str, str]] = Queue()
        self._client = Client(CallbackAPIVersion.VERSION2, "a-backend")
        self._client.on_message = self._on_message
        subscribed: Queue[None] = Queue()
        self._client.on_subscribe = lambda *_: subscribed.put(None)
        self._client.connect("127.0.0.1", port)
        self._client.subscribe([("command//+/res/#", 1), ("e", 1), ("edge/thing/request", 1)])
        self._client.loop_start()
        subscribed.get(timeout=60)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        if message.topic == "edge/thing/request":
            self._client.publish("edge/thing/response", IDENTITY, qos=1)
        # What has no place in Kanto's model is told in a second feature, which a backend may ignore.
        elif b'"/features/BackupAndRestoreStatus' not in message.payload:
            self.heard.put((message.topic, message.payload.decode()))

    def command(self, subject: str, value: Any = None, *, request_id: str = "") -> str:
        """Send a command; the correlation-id by which its answer is known."""
        correlation_id = str(uuid.uuid4())
        envelope = {
            "topic": f"edge/device/things/live/messages/{subject}",
            "headers": {
                "response-required": True,
                "content-type": "application/json",
                "correlation-id": correlation_id,
            },
            "path": f"/features/BackupAndRestore/inbox/messages/{subject}",
        } | ({} if value is None else {"value": value})
        topic = f"command//edge:device/req/{request_id}/{subject}"
        self._client.publish(topic, json.dumps(envelope), qos=1).wait_for_publish(10)
        return correlation_id

    # Each of these takes the next message, and fails when it is another one.

    def next(self, shape: str, topic: str = "e", **facts: object) -> str:
        """The next message has to be this; its text as it came."""
        came_on, text = self.heard.get(timeout=30)
        known = TIME.sub("<time>", NAME.sub("<path>", text)) if "<" in shape else text
        assert (came_on, known) == (topic, shape % facts)
        return text

    def accepted(self, subject: str, value: Any = None, *, request_id: str = "") -> None:
        """Send a command and take its 204; the last level is the subject, or with a request id the status."""
        correlation_id = self.command(subject, value, request_id=request_id)
        last = "204" if request_id else subject
        topic = f"command//edge:device/res/{request_id}/{last}"
        self.next(ACCEPTED, topic, subject=subject, id=correlation_id)

    def refused(self, subject: str, value: Any, status: int, error: str, message: str) -> None:
        correlation_id = self.command(subject, value, request_id="r")
        facts = {"subject": subject, "id": correlation_id, "status": status, "error": error}
        self.next(REFUSED, f"command//edge:device/res/r/{status}", message=message, **facts)

    def ran(self, job: str, correlation_id: str) -> None:
        """A job begins and ends well."""
        self.operation(correlation_id, f"{job}_STARTED", GO_ZERO)
        self.operation(correlation_id, f"{job}_FINISHED", "<time>", progress=100)

    def operation(
        self,
        correlation_id: str,
        state: str,
        end: str,
        *,
        progress: int = 0,
        code: str = "",
        message: str = "",
    ) -> None:
        facts = {"id": correlation_id, "state": state, "end": end, "code": code, "message": message}
        self.next(LAST_OPERATION, progress=progress, **facts)

    def requested(self, child_id: str, passed_on: str = "") -> None:
        self.next(REQUEST, id=child_id, passed_on=passed_on)

    def uploaded(self, parent_id: str, info: str = "{}") -> None:
        """An upload begins and ends well; it is too short for a value between."""
        self.next(LAST_UPLOAD, id=parent_id, state="UPLOADING", end=GO_ZERO, progress=0, info=info)
        self.next(LAST_UPLOAD, id=parent_id, state="SUCCESS", end="<time>", progress=100, info=info)

    def silence(self) -> None:
        """Nothing else was said: the next message is the answer to a question that follows now."""
        self.refused("nonsense", None, 400, "parameter.invalid", "Unsupported operation 'nonsense'!")


@pytest.fixture
def wire(broker: Mosquitto) -> Iterator[WireBackend]:
    backend = WireBackend(broker.port)
    yield backend
    backend.close()


def test_the_conversation_of_the_original_word_by_word(device: AgentProcess, wire: WireBackend) -> None:
    """Announcement, backup, request, start, lastUpload, restore, and nothing else between."""
    before = contents(device.data)
    device.start()
    wire.next(ANNOUNCEMENT)
    with keeping() as (address, kept):
        options = {"backup.dir": str(device.data), "https.url": ""}
        wire.accepted("backup", {"correlationID": "demo-backup-1", "providers": {}, "options": options})
        wire.ran("BACKUP", "demo-backup-1")
        wire.requested("demo-backup-1#1")

        url = {"https.url": f"{address}/archive.zip", "https.method": "PUT"}
        start = {"storage.provider": "generic", **url, "https.header.X-Batch": "7", "info.batch": "7"}
        wire.accepted("start", {"correlationId": "demo-backup-1#1", "options": start})
        wire.uploaded("demo-backup-1", '{"batch":"7"}')
        assert kept["/archive.zip"].headers["x-batch"] == "7"

        (device.data / "start.sh").write_text("damaged")
        restore = {"backup.dir": str(device.data), **url}
        wire.accepted("restore", {"correlationID": "demo-restore-1", "options": restore})
        wire.ran("RESTORE", "demo-restore-1")
    wire.silence()
    assert differences(before, contents(device.data)) == []


def test_all_seven_operations_with_request_ids(device: AgentProcess, wire: WireBackend) -> None:
    """The form of Hono's own documentation; the trigger offers what waits under new ids."""
    device.start()
    wire.next(ANNOUNCEMENT)
    local = {"storage.provider": "local"}

    for name in ("A", "B"):
        value = {"correlationID": name, "options": {"options.color": name}}
        wire.accepted("backup", value, request_id="1")
        wire.ran("BACKUP", name)
        wire.requested(f"{name}#1", f'"color":"{name}",')

    wire.accepted("start", {"correlationID": "A#1", "options": local}, request_id="2")
    wire.uploaded("A")
    wire.refused(
        "start",
        {"correlationID": "A#1", "options": local},
        404,
        "parameter.invalid",
        "no archive waits for an upload with id 'A#1'",
    )

    wire.accepted("trigger", {"correlationID": "T"}, request_id="3")
    wire.requested("T#1", '"color":"B",')
    wire.accepted("start", {"correlationID": "T#1", "options": local}, request_id="4")
    wire.uploaded("T")

    begin, end = "2100-01-01T00:00:00Z", "2100-01-02T00:00:00Z"
    wire.accepted("activate", {"from": begin, "to": end}, request_id="5")
    facts = {"start": '"2100-01-01T00:00:00.000000Z"', "end": '"2100-01-02T00:00:00.000000Z"'}
    wire.next(AUTO_UPLOAD, active="true", **facts)
    wire.accepted("deactivate", request_id="6")
    wire.next(AUTO_UPLOAD, active="false", start="null", end="null")

    wire.accepted("restore", {"correlationID": "C", "options": local}, request_id="7")
    wire.ran("RESTORE", "C")
    cancel_a_restore(wire)
    wire.refused("cancel", {"correlationID": "D"}, 404, "parameter.invalid", "nothing runs with id 'D'")
    wire.silence()


def cancel_a_restore(wire: WireBackend) -> None:
    """While it runs, a backup is refused; it ends with the code and the message of the cancel."""
    with stalling() as destination:
        wire.accepted(
            "restore", {"correlationID": "D", "options": {"https.url": destination.url}}, request_id="8"
        )
        wire.operation("D", "RESTORE_STARTED", GO_ZERO)
        assert destination.reached.wait(60)
        busy = "Restore operation is currently in progress!"
        wire.refused("backup", {"correlationID": "E"}, 409, "execution.failed", busy)
        reason = {"correlationID": "D", "statusCode": "late", "message": "the window is over"}
        wire.accepted("cancel", reason, request_id="9")
        wire.operation("D", "RESTORE_FAILED", "<time>", code="late", message="the window is over")
