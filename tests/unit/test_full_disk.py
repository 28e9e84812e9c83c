"""A disk that is really full, at every place where the agent changes its journal.

Nothing is told that the journal does not hold, no message that was kept is lost, and the agent goes on when
there is room again.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.base.job import NEVER, WORKING, format_time
from agent.base.refusals import Refused
from agent.faces.http.problems import problem_of
from agent.jobs import confirmation, recorder, restore_recovery
from agent.jobs.filesystem_probe import ThreadedCall
from agent.mqtt import outbox as outbox_module
from agent.mqtt.hono import EVENTS
from agent.save import change_detection
from tests.support.fakes import FEATURE, LAST_OPERATION, LAST_UPLOAD, THING, Device
from tests.support.journal_sites import seen_sites, sites
from tests.support.journals import sql
from tests.support.real_disks import Disk, real_disk
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


def _status(asked: ThreadedCall[Any]) -> int:
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
        self._stack, self._requests = ExitStack(), iter(range(1000))

    # What a scenario says

    def status(self, operation: str, value: Any = None) -> int:
        """The status that answers a command."""
        request_id = f"r{next(self._requests)}"
        said = self.device.command(operation, value, request_id=request_id, header=request_id)
        return int(next(message["status"] for topic, message in said if topic.startswith("command")))

    def local_status(self, operation: str, value: Any = None) -> int:
        """The status that answers a program on the device."""
        return _status(self.device.locally(operation, value))

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
        sql(journal, "PRAGMA wal_checkpoint(TRUNCATE)")
        os.truncate(f"{journal}-wal", 32)  # a shorter one would count as cut
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
        device.outbox.keep(EVENTS, marker := _message("marker"))
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


def _message(name: str) -> bytes:
    """A message to the twin that can be told from others."""
    topic = f"{THING}/things/twin/commands/modify"
    path = f"{FEATURE}/properties/autoUpload"
    value = {"active": False, "startTime": name, "endTime": None}
    headers = {"response-required": False}
    message = {"topic": topic, "headers": headers, "path": path, "value": value}
    return json.dumps(message, separators=(",", ":")).encode()


Scenario = Callable[[Rig], Iterator[None]]
"""Yields when the disk is to be filled, and again when there is to be room."""


def a_command(rig: Rig) -> Iterator[None]:
    yield
    assert rig.status("backup", {"options": LOCAL}) == 507
    assert rig.status("nonsense") == 507
    assert rig.status("status") == 200, "a question that notes nothing needs no room"
    yield
    assert rig.status("backup", {"options": LOCAL}) == 204
    rig.device.finish()
    assert rig.states() == ["BACKUP_STARTED", "BACKUP_FINISHED"]


def the_local_socket(rig: Rig) -> Iterator[None]:
    yield
    assert rig.local_status("backup", {"options": LOCAL}) == 507
    assert rig.device.service.engine.idle()
    yield
    assert rig.states() == []
    assert rig.local_status("backup", {"options": LOCAL}) == 200
    rig.device.finish()
    assert rig.states() == ["BACKUP_STARTED", "BACKUP_FINISHED"]


def the_end_of_a_backup(rig: Rig) -> Iterator[None]:
    assert rig.status("backup", {"options": LOCAL}) == 204
    rig.work_ends()
    yield
    rig.device.finish()
    yield
    rig.take_until(lambda: len(rig.states()) == 3)
    assert rig.states() == ["BACKUP_STARTED", "BACKUP_FINISHED", "BACKUP_FINISHED"]


def staging(rig: Rig) -> Iterator[None]:
    """Also gives up the oldest archive, as one may wait."""
    assert rig.status("backup") == 204
    rig.device.finish()
    assert rig.status("backup") == 204
    rig.work_ends()
    yield
    rig.device.finish()
    yield
    rig.take_until(lambda: rig.states(LAST_UPLOAD) == ["FAILED"])
    assert len(_requests(rig)) == 2


def a_trigger(rig: Rig) -> Iterator[None]:
    assert rig.status("backup") == 204
    rig.device.finish()
    yield
    assert rig.status("trigger", {"correlationId": "T"}) == 507
    yield
    assert rig.status("trigger", {"correlationId": "T"}) == 204
    assert _requests(rig)[-1] == "T#1"


def an_upload(rig: Rig) -> Iterator[None]:
    """Its start, and later its end: it is told SUCCESS only when the journal knows."""
    child = _staged(rig)
    yield
    assert rig.status("start", {"correlationId": child, "options": LOCAL}) == 507
    assert rig.states(LAST_UPLOAD) == []
    yield
    assert rig.status("start", {"correlationId": child, "options": LOCAL}) == 204
    rig.device.finish()
    assert rig.states(LAST_UPLOAD)[-1] == "SUCCESS"


def the_end_of_an_upload(rig: Rig) -> Iterator[None]:
    child = _staged(rig)
    assert rig.status("start", {"correlationId": child, "options": LOCAL}) == 204
    rig.work_ends()
    yield
    rig.device.finish()
    assert rig.states(LAST_UPLOAD)[-1] == "UPLOADING"
    yield
    rig.take_until(lambda: rig.states(LAST_UPLOAD)[-1] == "SUCCESS")


def a_failed_upload(rig: Rig) -> Iterator[None]:
    child = _staged(rig)
    options = {"storage.provider": "https", "https.url": "http://127.0.0.1:9/x"}
    assert rig.status("start", {"correlationId": child, "options": options}) == 204
    rig.work_ends()
    yield
    rig.device.finish()
    yield
    rig.take_until(lambda: rig.states(LAST_UPLOAD)[-1] == "FAILED")


def an_archive_that_is_given_up(rig: Rig) -> Iterator[None]:
    child = _staged(rig)
    yield
    assert rig.status("cancel", {"correlationId": child}) == 507
    yield
    assert rig.status("cancel", {"correlationId": child}) == 204
    assert rig.states(LAST_UPLOAD) == ["CANCELED"]


def archives_that_were_sent(rig: Rig) -> Iterator[None]:
    """Their files are removed when the journal has said so; what it could not note is removed again."""
    child = _staged(rig)
    sql(rig.device.journal.path, "INSERT INTO checkpoints VALUES ('staged-1', 'staged.unwanted', 'yes')")
    yield
    rig.device.service.engine.uploads.pending.remove_unwanted()
    yield
    rig.device.service.engine.uploads.pending.remove_unwanted()
    assert sql(rig.device.journal.path, "SELECT path FROM staged WHERE id = 1") == [], child


def a_connect(rig: Rig) -> Iterator[None]:
    """Pending uploads are asked for again, as soon as that can be noted."""
    _staged(rig)
    sql(rig.device.journal.path, "UPDATE children SET asked_boot = 'another'")
    yield
    rig.device.service.engine.announced()
    assert len(_requests(rig)) == 1
    yield
    rig.take_until(lambda: len(_requests(rig)) == 2)


def a_schedule(rig: Rig) -> Iterator[None]:
    yield
    assert rig.status("activate", {"from": "2020-01-01T00:00:00Z"}) == 507
    assert not rig.device.twin.frame.active
    yield
    assert rig.status("activate", {"from": "2020-01-01T00:00:00Z"}) == 204
    rig.device.finish()
    assert rig.device.twin.frame.active


def a_periodic_backup(rig: Rig) -> Iterator[None]:
    assert rig.status("activate", {"from": "2020-01-01T00:00:00Z"}) == 204
    rig.device.finish()
    before = len(rig.states())
    rig.note("schedule.settled", None)
    yield
    rig.device.service.identified()
    assert rig.device.service.engine.idle()
    yield
    rig.device.service.identified()
    rig.device.finish()
    assert rig.states()[before:] == ["BACKUP_STARTED", "BACKUP_FINISHED"]


def a_clock_that_went_back(rig: Rig) -> Iterator[None]:
    """The frame counts as set now, which is noted."""
    assert rig.status("activate", {"from": "2020-01-01T00:00:00Z"}) == 204
    rig.device.finish()
    rig.note("schedule.settled", "2099-01-01T00:00:00.000000Z")
    yield
    rig.device.service.identified()
    yield
    rig.device.service.identified()
    rig.take_until(lambda: (rig.device.journal.notes.read("schedule.settled") or "") < "2099")


def who_the_device_is(rig: Rig) -> Iterator[None]:
    """The frame of the settings and the id of the device are noted."""
    rig.note("schedule.frame", None)
    rig.note("device", None)
    yield
    rig.device.service.identified()
    yield
    rig.take_until(lambda: rig.device.journal.notes.read("device") is not None)


def the_id_of_the_device(rig: Rig) -> Iterator[None]:
    rig.note("device", None)
    yield
    rig.device.service.identified()
    yield
    rig.take_until(lambda: rig.device.journal.notes.read("device") is not None)


def an_id_of_its_own(rig: Rig) -> Iterator[None]:
    """An archive is made under no id that a restart would forget."""
    _lose_name(rig)
    yield
    assert rig.local_status("backup", {"options": LOCAL}) == 507
    yield
    assert rig.local_status("backup", {"options": LOCAL}) == 200
    rig.device.finish()
    rig.device.named = True


def the_end_of_a_backup_that_nobody_hears(rig: Rig) -> Iterator[None]:
    _lose_name(rig)
    assert rig.local_status("backup", {"options": LOCAL}) == 200
    rig.work_ends()
    yield
    rig.device.finish()
    yield
    outbox = rig.device.journal.outbox
    rig.take_until(lambda: outbox.last_values()["lastOperation"]["state"] == "BACKUP_FINISHED")
    rig.device.named = True


def a_prune(rig: Rig) -> Iterator[None]:
    """Its dates, and that it was begun."""
    dated = {"backup.retentionDate": "99999999999999"}
    assert rig.status("backup", {"options": LOCAL | dated}) == 204
    rig.device.finish()
    long_ago = format_time(datetime.now(UTC) - timedelta(days=9))
    rig.note("recurring.prune", long_ago)
    yield
    rig.device.service.identified()
    assert rig.local_status("prune", {"dryRun": True}) == 507
    assert rig.device.journal.notes.read("recurring.prune") == long_ago
    yield
    rig.device.service.identified()
    rig.device.finish()
    assert rig.device.journal.notes.read("recurring.prune") != long_ago


def the_end_of_a_prune(rig: Rig) -> Iterator[None]:
    asked = rig.device.locally("prune", {"dryRun": True})
    rig.work_ends()
    yield
    rig.device.finish()
    assert _status(asked) == 200
    yield
    asked = rig.device.locally("prune", {})
    rig.device.finish()
    assert _status(asked) == 200


def a_verify(rig: Rig) -> Iterator[None]:
    assert rig.status("verify", {"options": ARCHIVE}) == 204
    rig.work_ends()
    yield
    rig.device.finish()
    yield
    rig.take_until(lambda: rig.device.journal.notes.read("last_verified") is not None)


def a_preview(rig: Rig) -> Iterator[None]:
    """Its beginning, its end, that it is finalized or discarded."""
    preview = {"options": ARCHIVE | {"restore.preview": "true"}}
    yield
    assert rig.status("restore", preview) == 507
    yield
    assert rig.status("restore", preview) == 204
    rig.device.finish()
    assert rig.status("discard") == 204
    rig.device.finish()


def the_end_of_a_preview(rig: Rig) -> Iterator[None]:
    preview = {"options": ARCHIVE | {"restore.preview": "true"}}
    assert rig.status("restore", preview) == 204
    rig.work_ends()
    yield
    rig.device.finish()
    yield
    assert rig.status("restore", preview) == 204
    rig.device.finish()
    assert rig.status("finalize") == 204
    rig.device.finish()
    assert rig.states() == ["RESTORE_STARTED", "RESTORE_FINISHED"]


def finalize_and_discard(rig: Rig) -> Iterator[None]:
    assert rig.status("restore", {"options": ARCHIVE | {"restore.preview": "true"}}) == 204
    rig.device.finish()
    yield
    assert rig.status("finalize") == 507
    assert rig.status("discard") == 507
    assert rig.status("status") == 200
    yield
    assert rig.status("discard") == 204
    rig.device.finish()
    assert rig.states() == []


def the_end_of_a_discard(rig: Rig) -> Iterator[None]:
    assert rig.status("restore", {"options": ARCHIVE | {"restore.preview": "true"}}) == 204
    rig.device.finish()
    assert rig.status("discard") == 204
    rig.work_ends()
    yield
    rig.device.finish()
    yield
    assert rig.status("restore", {"options": ARCHIVE | {"restore.preview": "true"}}) == 204
    rig.device.finish()


def a_commit_confirmed_restore(rig: Rig) -> Iterator[None]:
    """How much time is left, a cancel, and the confirmation."""
    value = {"correlationId": "T", "options": ARCHIVE | {"restore.confirmWithin": "10m"}}
    assert rig.status("restore", value) == 204
    rig.take_until(rig.on_trial)
    yield
    assert rig.status("confirm") == 507
    assert rig.status("cancel", {"correlationId": "T"}) == 507
    rig.take_some()  # among them the note of how much time is left
    assert rig.on_trial()
    yield
    assert rig.status("confirm") == 204
    rig.device.finish()
    assert rig.states() == ["RESTORE_STARTED", "RESTORE_FINISHED"]


def a_restore_that_the_journal_lost(rig: Rig) -> Iterator[None]:
    """Its working directory knows; a start that cannot keep it leaves it to the next one."""
    value = {"correlationId": "T", "options": ARCHIVE | {"restore.confirmWithin": "10m"}}
    assert rig.status("restore", value) == 204
    rig.take_until(rig.on_trial)
    rig.device.service.engine.interrupt("killed")
    rig.take_until(rig.device.service.engine.idle)
    for table in ("jobs", "checkpoints"):
        sql(rig.device.journal.path, f"DELETE FROM {table}")
    rig.note("lost_restores_looked_for", None)
    yield
    rig.device.restart()
    assert rig.device.journal.jobs.unfinished() == []
    yield
    rig.device.restart()
    rig.take_until(lambda: rig.states()[-1] == "RESTORE_FAILED")
    assert (rig.device.data / "file").read_text() == "content"


def a_start_after_a_crash(rig: Rig) -> Iterator[None]:
    """An earlier run left a backup, an upload, a preview, a restore, and an archive that nobody knows."""
    child = _staged(rig)
    rows = [("b", "backup", "STARTED"), ("p", "restore", "PREVIEW"), ("r", "restore", "STARTED")]
    for job_id, kind, state in rows:
        _left(rig, job_id, kind, state)
    note = '{"id": "p", "correlation_id": "p", "started": "", "roots": [["/nowhere", null]], "made": [],'
    note += ' "mode": "merge", "confirm_within_s": null, "stand": "running", "code": "", "message": "",'
    rig.note("preview", note + ' "facts": {}, "countdown": null}')
    began = format_time(datetime.now(UTC))
    sql(rig.device.journal.path, "INSERT INTO uploads VALUES ('Z', ?, '{}', 9)", [began])
    backups = rig.disk.path / "backups"
    write_zip(backups / "unknown.zip", {"file": File(b"content")})
    yield
    rig.device.restart()
    rig.device.service.engine.begin()
    rig.take_until(rig.device.service.engine.idle)
    yield
    rig.take_until(lambda: "BACKUP_FAILED" in rig.states() and "FAILED" in rig.states(LAST_UPLOAD))
    rig.take_until(lambda: len(sql(rig.device.journal.path, "SELECT 1 FROM staged")) == 2)
    assert child


def a_late_recovery(rig: Rig) -> Iterator[None]:
    """A restore was cut off on a disk that comes later: its end is told when it is put right and kept."""
    plugged_in = rig.work / "stick"
    working = json.dumps([[0, str(plugged_in / "data"), str(plugged_in)]])
    _left(rig, "r", "restore", "STARTED")
    rig.device.journal.checkpoints.keep("r", WORKING, working)
    rig.device.restart()
    with real_disk("tmpfs", plugged_in):
        while WORKING in rig.device.journal.checkpoints.of("r"):
            rig.device.take()
            rig.work_ends()
        yield
        rig.take_some()
        yield
        rig.take_until(lambda: rig.states() == ["RESTORE_FAILED"])


def messages_that_arrived(rig: Rig) -> Iterator[None]:
    """The journal forgets with the next message those that it could not forget before."""
    rig.device.patient = False
    rig.device.outbox.keep(EVENTS, _message("other"), "autoUpload")
    yield
    with pytest.raises(Exception, match="full"):
        rig.device.outbox.sent(rig.device.wire.unacknowledged.pop(0))
    yield
    rig.device.outbox.say(EVENTS, _message("other"))


def too_many_messages(rig: Rig) -> Iterator[None]:
    """The oldest are given up in memory, and in the journal after the next start."""
    rig.device.wire.online = False
    rig.device.outbox.keep(EVENTS, _message("other"))
    yield
    for _ in range(outbox_module.MAX_WAITING + 1):
        rig.device.outbox.say(EVENTS, _message("other"))
    yield
    rig.device.wire.online = True


def _lose_name(rig: Rig) -> None:
    """As if nobody had ever told the device who it is."""
    rig.note("device", None)
    rig.device.named = False
    rig.device.restart()


def _left(rig: Rig, job_id: str, kind: str, state: str) -> None:
    """Put a job that did not end into the journal."""
    values = [job_id, kind, job_id, format_time(datetime.now(UTC)), b"/nowhere", "[]", state, NEVER]
    sql(rig.device.journal.path, "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', '', '{}')", values)


def _staged(rig: Rig) -> str:
    """The id of an archive that waits for its upload."""
    assert rig.status("backup", {"correlationId": "X"}) == 204
    rig.device.finish()
    return "X#1"


def _requests(rig: Rig) -> list[str]:
    return [value["correlationId"] for value in rig.device.values(f"{FEATURE}/outbox/messages/request")]


SCENARIOS: list[Scenario] = [
    a_command, the_local_socket, the_end_of_a_backup, staging, a_trigger, an_upload, the_end_of_an_upload,
    a_failed_upload, an_archive_that_is_given_up, archives_that_were_sent, a_connect, a_schedule,
    a_periodic_backup, a_clock_that_went_back, who_the_device_is, the_id_of_the_device,
    an_id_of_its_own, the_end_of_a_backup_that_nobody_hears, a_prune, the_end_of_a_prune, a_verify,
    a_preview, the_end_of_a_preview, finalize_and_discard, the_end_of_a_discard,
    a_commit_confirmed_restore, a_restore_that_the_journal_lost, a_start_after_a_crash, a_late_recovery,
    messages_that_arrived, too_many_messages,
]  # fmt: skip


def tried(scenario: Scenario, work: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Go through a scenario; the sites that came by while the disk was full."""
    with real_disk("tmpfs", work / "storage") as disk, ExitStack() as closing:
        rig = Rig(disk, work)
        closing.callback(rig.close)
        steps = scenario(rig)
        next(steps)
        with seen_sites(monkeypatch) as sites_seen:
            rig.fill()
            next(steps)
        rig.make_room()
        assert next(steps, "the end") == "the end"
        rig.check_nothing_is_lost()
    return sites_seen


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let retries come at once, and few messages wait."""
    monkeypatch.setattr(recorder, "AGAIN_S", 0.05)
    monkeypatch.setattr(restore_recovery, "AGAIN_S", 0.05)
    monkeypatch.setattr(change_detection, "SETTLED_NS", 0)
    monkeypatch.setattr(confirmation, "note_interval_s", lambda _limit_s: 0.2)
    monkeypatch.setattr(outbox_module, "MAX_WAITING", 20)


SEEN: dict[Scenario, set[str]] = {}
"""The sites that came by in each scenario, for the last test."""
AT_THE_FIRST_START = {"faces/ditto/redelivery:Redeliveries.__init__", "service:Service._broker"}
"""They keep what is made once, with the journal itself: without room for that no agent starts."""


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_full_disk_costs_an_answer_and_nothing_else(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SEEN[scenario] = tried(scenario, tmp_path, monkeypatch)


@pytest.mark.usefixtures("quick")
def test_every_place_that_changes_the_journal_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The places are looked up in the source: whoever adds one has to try it here."""
    untried = sites() - AT_THE_FIRST_START
    assert len(untried) > 40
    for scenario in SCENARIOS:
        if scenario not in SEEN:
            SEEN[scenario] = tried(scenario, tmp_path / scenario.__name__, monkeypatch)
        untried -= SEEN[scenario]
    assert untried == set()
