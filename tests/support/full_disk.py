"""A device whose journal is on a disk that becomes full at any moment, for the scenarios."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.base.refusals import Refused
from agent.base.times import NEVER, format_time
from agent.faces.http.problems import problem_of
from agent.jobs.filesystem_probe import ThreadedCall
from agent.mqtt.hono import EVENTS
from tests.support.fakes import FEATURE, LAST_OPERATION, LAST_UPLOAD, THING, Device
from tests.support.journals import sql
from tests.support.real_disks import Disk
from tests.support.trees import File, make_tree, write_zip

LOCAL = {"storage.provider": "local"}
ARCHIVE = LOCAL | {"local.name": "it.zip"}
SETTINGS = {
    "storage.reserve": "0",
    "restore.keepPreview": "true",
    "retention.keepLast": "5",
    "verify.period": "24h",
    "verify.store": "here",
    "stores.here.provider": "local",
    "storage.maxStaged": "1",
    "skipUnchanged": "true",
}


def http_status(asked: ThreadedCall[Any]) -> int:
    """The status with which HTTP answers."""
    assert asked.done(20)
    try:
        asked.result()
    except Refused as refused:
        return problem_of(refused).status
    return 200


class SmallDevice(Device):
    """A device whose broker acknowledges nothing while `patient` is False."""

    patient = True

    def acknowledge(self) -> None:
        if self.patient:
            super().acknowledge()


class Rig:
    """A device with its storage on a small disk, and what the test does with both."""

    def __init__(self, disk: Disk, work: Path) -> None:
        self.work = work
        make_tree(work / "data", {"file": File(b"content")})
        self.disk, self.device = disk, SmallDevice(work, SETTINGS)
        write_zip(disk.path / "archives" / "it.zip", {"file": File(b"restored")})
        self._stack, self._request_numbers = ExitStack(), iter(range(1000))

    # What a scenario says

    def status(self, operation: str, value: Any = None) -> int:
        """The status that answers a command."""
        request_id = f"r{next(self._request_numbers)}"
        said = self.device.command(operation, value, request_id=request_id, header=request_id)
        return int(next(message["status"] for topic, message in said if topic.startswith("command")))

    def local_status(self, operation: str, value: Any = None) -> int:
        """The status that answers a program on the device."""
        return http_status(self.device.locally(operation, value))

    def work_ends(self) -> None:
        """Until the workers have posted what came of their work."""
        for thread in threading.enumerate():
            if thread.name.startswith(("work-", "recovery")):
                thread.join(30)

    def take_until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.device.take()

    def take_some(self) -> None:
        """Run everything that is due at once or tried again; each may take two steps."""
        for _ in range(6):
            self.device.take()

    def states(self, path: str = LAST_OPERATION) -> list[str]:
        return [value["state"] for value in self.device.values(path)]

    def on_trial(self) -> bool:
        """True when a restore waits for its confirmation, and its time is counted."""
        job = self.device.service.engine.status.job(1000)
        return job["phase"] == "trial" and job["remainingSeconds"] is not None

    def note(self, key: str, value: str | None) -> None:
        """Set a note of the journal from outside, or remove it."""
        sql(self.device.journal.path, "DELETE FROM meta WHERE key = ?", [key])
        if value is not None:
            sql(self.device.journal.path, "INSERT INTO meta VALUES (?, ?)", [key, value])

    # What is checked around it

    def fill(self) -> None:
        """Leave no byte, and nothing that the journal could use again."""
        self._kept = self._in_outbox()
        self._told = len(self.device.wire.raw)
        self.device.patient = False
        journal = self.device.journal.path
        log = Path(f"{journal}-wal")
        header = log.read_bytes()[:32]
        sql(journal, "PRAGMA wal_checkpoint(TRUNCATE)")
        log.write_bytes(header)  # without it, the log would count as cut
        self._stack.enter_context(self.disk.full())

    def make_room(self) -> None:
        """Before that, everything that was told as lasting must be in the journal."""
        lasting = self._in_outbox()
        for topic, payload in self.device.wire.raw[self._told :]:
            if topic == EVENTS and not _may_be_lost(json.loads(payload)):
                assert payload in lasting, f"told, but not kept: {payload!r}"
        self._stack.close()

    def check_nothing_is_lost(self) -> None:
        """The broker acknowledges late what it had meanwhile; then the agent crashes and comes again."""
        device = self.device
        device.outbox.keep(EVENTS, marker := a_message("marker"))
        heard, told = len(device.wire.unacknowledged) - 1, device.wire.unacknowledged
        for mid in told[:heard]:
            device.outbox.sent(mid)
        device.patient = True
        before = len(device.wire.raw)
        device.restart()
        raw = [payload for _, payload in device.wire.raw]
        assert marker in raw[before:], "a message that was kept is lost"
        assert set(self._kept) <= set(raw)

    def close(self) -> None:
        self._stack.close()
        self.device.service.engine.stop_waiting("the test is over")
        self.device.close()

    def _in_outbox(self) -> list[bytes]:
        """Return everything told or to be told; values of a device without a name are announced later."""
        rows = sql(self.device.journal.path, "SELECT payload FROM outbox UNION ALL SELECT payload FROM twin")
        return [payload for (payload,) in rows if not payload.startswith(b'{"topic":"unknown/')]


def _may_be_lost(message: dict[str, Any]) -> bool:
    """Progress and the status feature are not kept; the end of a job is told at once and kept later."""
    if message["path"] == FEATURE:  # the announcement
        return True
    if message["path"] == LAST_OPERATION:
        return bool(message["value"]["endTime"] != NEVER)
    progress = message["path"] == LAST_UPLOAD and message["value"]["state"] == "UPLOADING"
    return message["path"].startswith(f"{FEATURE}Status") or bool(progress and message["value"]["progress"])


def a_message(name: str) -> bytes:
    """A message to the twin that can be told from others."""
    topic = f"{THING}/things/twin/commands/modify"
    path = f"{FEATURE}/properties/autoUpload"
    value = {"active": False, "startTime": name, "endTime": None}
    headers = {"response-required": False}
    message = {"topic": topic, "headers": headers, "path": path, "value": value}
    return json.dumps(message, separators=(",", ":")).encode()


Scenario = Callable[[Rig], Iterator[None]]
"""Yields when the disk is to be filled, and again when there is to be room."""


def lose_name(rig: Rig) -> None:
    """As if nobody had ever told the device who it is."""
    rig.note("device", None)
    rig.device.named = False
    rig.device.restart()


def left_job(rig: Rig, job_id: str, kind: str, state: str) -> None:
    """Put a job that did not end into the journal."""
    values = [job_id, kind, job_id, format_time(datetime.now(UTC)), b"/nowhere", "[]", state, NEVER]
    sql(rig.device.journal.path, "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', '', '{}')", values)


def staged_archive(rig: Rig) -> str:
    """The id of an archive that waits for its upload."""
    assert rig.status("backup", {"correlationId": "X"}) == 204
    rig.device.finish()
    return "X#1"


def upload_requests(rig: Rig) -> list[str]:
    return [value["correlationId"] for value in rig.device.values(f"{FEATURE}/outbox/messages/request")]
