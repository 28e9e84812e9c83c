"""A disk that is really full, at every place where the agent changes its journal.

Nothing is told that the journal does not hold, no message that was kept is lost, and the agent goes on when
there is room again.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.base.times import format_time
from agent.formats import entries
from agent.jobs import confirmation, foundation, restore_recovery
from agent.mqtt import outbox as outbox_module
from agent.mqtt.hono import EVENTS
from tests.support.fakes import LAST_UPLOAD
from tests.support.full_disk import (
    LOCAL,
    Rig,
    Scenario,
    a_message,
    http_status,
    lose_name,
    staged_archive,
    upload_requests,
)
from tests.support.full_disk_restores import (
    a_commit_confirmed_restore,
    a_late_recovery,
    a_preview,
    a_restore_that_the_journal_lost,
    a_start_after_a_crash,
    a_verify,
    finalize_and_discard,
    the_end_of_a_discard,
    the_end_of_a_preview,
)
from tests.support.journal_sites import seen_sites, sites
from tests.support.journals import sql
from tests.support.real_disks import real_disk


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
    assert len(upload_requests(rig)) == 2


def a_trigger(rig: Rig) -> Iterator[None]:
    assert rig.status("backup") == 204
    rig.device.finish()
    yield
    assert rig.status("trigger", {"correlationId": "T"}) == 507
    yield
    assert rig.status("trigger", {"correlationId": "T"}) == 204
    assert upload_requests(rig)[-1] == "T#1"


def an_upload(rig: Rig) -> Iterator[None]:
    """Its start, and later its end: it is told SUCCESS only when the journal knows."""
    child = staged_archive(rig)
    yield
    assert rig.status("start", {"correlationId": child, "options": LOCAL}) == 507
    assert rig.states(LAST_UPLOAD) == []
    yield
    assert rig.status("start", {"correlationId": child, "options": LOCAL}) == 204
    rig.device.finish()
    assert rig.states(LAST_UPLOAD)[-1] == "SUCCESS"


def the_end_of_an_upload(rig: Rig) -> Iterator[None]:
    child = staged_archive(rig)
    assert rig.status("start", {"correlationId": child, "options": LOCAL}) == 204
    rig.work_ends()
    yield
    rig.device.finish()
    assert rig.states(LAST_UPLOAD)[-1] == "UPLOADING"
    yield
    rig.take_until(lambda: rig.states(LAST_UPLOAD)[-1] == "SUCCESS")


def a_failed_upload(rig: Rig) -> Iterator[None]:
    child = staged_archive(rig)
    options = {"storage.provider": "https", "https.url": "http://127.0.0.1:9/x"}
    assert rig.status("start", {"correlationId": child, "options": options}) == 204
    rig.work_ends()
    yield
    rig.device.finish()
    yield
    rig.take_until(lambda: rig.states(LAST_UPLOAD)[-1] == "FAILED")


def an_archive_that_is_given_up(rig: Rig) -> Iterator[None]:
    child = staged_archive(rig)
    yield
    assert rig.status("cancel", {"correlationId": child}) == 507
    yield
    assert rig.status("cancel", {"correlationId": child}) == 204
    assert rig.states(LAST_UPLOAD) == ["CANCELED"]


def archives_that_were_sent(rig: Rig) -> Iterator[None]:
    """Their files are removed when the journal has said so; what it could not note is removed again."""
    child = staged_archive(rig)
    sql(rig.device.journal.path, "INSERT INTO checkpoints VALUES ('staged-1', 'staged.unwanted', 'yes')")
    yield
    rig.device.service.engine.uploads.pending.remove_unwanted()
    yield
    rig.device.service.engine.uploads.pending.remove_unwanted()
    assert sql(rig.device.journal.path, "SELECT path FROM staged WHERE id = 1") == [], child


def a_connect(rig: Rig) -> Iterator[None]:
    """Pending uploads are asked for again, as soon as that can be noted."""
    staged_archive(rig)
    sql(rig.device.journal.path, "UPDATE children SET asked_boot = 'another'")
    yield
    rig.device.service.engine.announced()
    assert len(upload_requests(rig)) == 1
    yield
    rig.take_until(lambda: len(upload_requests(rig)) == 2)


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
    lose_name(rig)
    yield
    assert rig.local_status("backup", {"options": LOCAL}) == 507
    yield
    assert rig.local_status("backup", {"options": LOCAL}) == 200
    rig.device.finish()
    rig.device.named = True


def the_end_of_a_backup_that_nobody_hears(rig: Rig) -> Iterator[None]:
    lose_name(rig)
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
    assert http_status(asked) == 200
    yield
    asked = rig.device.locally("prune", {})
    rig.device.finish()
    assert http_status(asked) == 200


def messages_that_arrived(rig: Rig) -> Iterator[None]:
    """The journal forgets with the next message those that it could not forget before."""
    rig.device.patient = False
    rig.device.outbox.keep(EVENTS, a_message("other"), "autoUpload")
    yield
    with pytest.raises(Exception, match="full"):
        rig.device.outbox.sent(rig.device.wire.unacknowledged.pop(0))
    yield
    rig.device.outbox.say(EVENTS, a_message("other"))


def too_many_messages(rig: Rig) -> Iterator[None]:
    """The oldest are given up in memory, and in the journal after the next start."""
    rig.device.wire.online = False
    rig.device.outbox.keep(EVENTS, a_message("other"))
    yield
    for _ in range(outbox_module.MAX_WAITING + 1):
        rig.device.outbox.say(EVENTS, a_message("other"))
    yield
    rig.device.wire.online = True


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
    monkeypatch.setattr(foundation, "AGAIN_S", 0.05)
    monkeypatch.setattr(restore_recovery, "AGAIN_S", 0.05)
    monkeypatch.setattr(entries, "TICK_NS", 0)
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
