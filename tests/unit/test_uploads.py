"""From a staged archive to its place: what the backend sees, seen as it sees it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes import FEATURE, LAST_UPLOAD, Device
from tests.support.journals import unwritable
from tests.support.stalling import stalling
from tests.support.waiting import wait_until

LOCAL = {"storage.provider": "local"}


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("content")
    device = Device(tmp_path)
    yield device
    device.close()


def stage(device: Device, correlation_id: str, number: int = 1) -> Path:
    """Back up without a destination; where the archive waits, under the child id with this number."""
    request_id = f"{correlation_id[:9]}-{number}"
    said = device.command("backup", {"correlationID": correlation_id}, request_id=request_id)
    assert said[0][1]["status"] == 204
    device.finish()
    (*_, request) = (
        message["value"]
        for _, message in device.wire.sent
        if message["path"] == f"{FEATURE}/outbox/messages/request"
    )
    assert request["correlationId"] == f"{correlation_id}#{number}"
    return Path(request["options"]["file.path"])


def start(device: Device, child_id: str, request_id: str = "s", **options: str) -> dict[str, Any]:
    """The answer to `start` with a local destination."""
    value = {"correlationID": child_id, "options": LOCAL | options}
    return device.command("start", value, request_id=request_id)[0][1]


def states(device: Device) -> list[tuple[str, str]]:
    return [(value["correlationId"], value["state"]) for value in device.values(LAST_UPLOAD)]


def stored(device: Device) -> list[str]:
    return sorted(path.name for path in (device.settings.storage / "archives").iterdir())


def test_a_staged_archive_is_stored_and_removed_and_told_under_the_parent_s_id(device: Device) -> None:
    """WIRE section 2: `start` names the child, `lastUpload` the parent."""
    archive = stage(device, "X")
    assert start(device, "X#1", **{"info.k": "v"})["status"] == 204
    device.finish()
    assert states(device) == [("X", "UPLOADING"), ("X", "SUCCESS")]
    first, last = device.values(LAST_UPLOAD)
    assert (first["progress"], last["progress"]) == (0, 100)
    assert first["info"] == last["info"] == {"k": "v"}
    assert stored(device) == [archive.name]
    assert not archive.exists()
    assert start(device, "X#1", "again")["status"] == 404


def test_an_uploaded_archive_can_be_kept(tmp_path: Path) -> None:
    device = Device(tmp_path, {"keepUploaded": "true"})
    archive = stage(device, "X")
    start(device, "X#1")
    device.finish()
    assert archive.exists()
    device.close()


def test_an_upload_that_fails_can_be_started_again(device: Device) -> None:
    """The archive waits on, and the same id starts it."""
    archive = stage(device, "X")
    refused = {"storage.provider": "generic", "https.url": "http://127.0.0.1:9/x"}
    start(device, "X#1", "one", **refused)
    device.finish()
    assert states(device)[-1] == ("X", "FAILED")
    assert device.values(LAST_UPLOAD)[-1]["statusCode"] == "unreachable"
    assert archive.exists()
    assert start(device, "X#1", "two")["status"] == 204
    device.finish()
    assert states(device)[-1] == ("X", "SUCCESS")


def test_the_same_upload_cannot_run_twice(device: Device) -> None:
    stage(device, "X")
    start(device, "X#1", "one")
    assert start(device, "X#1", "two")["status"] == 409


def test_further_uploads_wait_in_line_beside_a_job(device: Device) -> None:
    """One upload at a time, in the order of their `start`; a backup runs meanwhile."""
    for name in ("X", "Y"):
        stage(device, name)
    assert start(device, "X#1", "one")["status"] == 204
    assert start(device, "Y#1", "two")["status"] == 204
    said = device.command("backup", {"correlationID": "Z", "options": LOCAL}, request_id="three")
    assert said[0][1]["status"] == 204
    device.finish()
    ends = [state for state in states(device) if state[1] != "UPLOADING"]
    assert ends == [("X", "SUCCESS"), ("Y", "SUCCESS")]


def test_an_upload_of_options_that_cannot_be_used_is_refused(device: Device) -> None:
    """400, where Kanto says 500; nothing is told to the twin."""
    stage(device, "X")
    answer = start(device, "X#1", **{"local.target": "nowhere"})
    assert (answer["status"], answer["value"]["error"]) == (400, "messages:parameter.invalid")
    assert states(device) == []


def test_an_id_of_the_longest_length_can_be_started(device: Device) -> None:
    """WIRE section 1: ids up to 256 bytes; the child's has `#1` behind it."""
    identifier = "x" * 256
    stage(device, identifier)
    assert start(device, f"{identifier}#1")["status"] == 204
    device.finish()
    assert states(device)[-1] == (identifier, "SUCCESS")


def test_one_id_for_every_backup_has_a_hand_over_of_its_own_each_time(device: Device) -> None:
    """`nightly` every night, as Kanto's backends do: each upload has its progress and its SUCCESS."""
    stage(device, "nightly")
    second = stage(device, "nightly", 2)
    assert start(device, "nightly#2", "one")["status"] == 204
    device.finish()
    assert states(device) == [("nightly", "UPLOADING"), ("nightly", "SUCCESS")]
    assert stored(device) == [second.name], "the first one waits on"
    assert start(device, "nightly#1", "two")["status"] == 204
    device.finish()
    stage(device, "nightly", 3)
    assert start(device, "nightly#3", "three")["status"] == 204
    device.finish()
    assert states(device) == [("nightly", "UPLOADING"), ("nightly", "SUCCESS")] * 3
    assert [value["progress"] for value in device.values(LAST_UPLOAD)] == [0, 100] * 3
    device.restart()
    stage(device, "nightly", 4)


def test_last_upload_belongs_to_the_newest_job_of_an_id(device: Device) -> None:
    """Else the end of yesterday's upload would be taken for that of today's."""
    stage(device, "nightly")
    stage(device, "nightly", 2)
    with stalling() as destination:
        start(device, "nightly#1", "one", **{"storage.provider": "generic", "https.url": destination.url})
        assert destination.reached.wait(20)
        start(device, "nightly#2", "two")
        started = [value["startTime"] for value in device.values(LAST_UPLOAD)]
        assert states(device) == [("nightly", "UPLOADING")] * 2
        destination.release.set()
        device.finish()
    assert states(device)[2:] == [("nightly", "SUCCESS")]
    assert device.values(LAST_UPLOAD)[2]["startTime"] == started[1] > started[0]


def test_an_older_upload_is_told_again_when_the_newer_one_of_its_id_is_cancelled(device: Device) -> None:
    stage(device, "nightly")
    stage(device, "nightly", 2)
    with stalling() as destination:
        start(device, "nightly#1", "one", **{"storage.provider": "generic", "https.url": destination.url})
        start(device, "nightly#2", "two")
        device.command("cancel", {"correlationID": "nightly#2"}, request_id="three")
        destination.release.set()
        device.finish()
    assert [state for _, state in states(device)] == ["UPLOADING"] * 2 + ["CANCELED", "UPLOADING", "SUCCESS"]


def test_a_trigger_whose_last_archive_goes_under_its_other_id_has_succeeded(device: Device) -> None:
    """All that it offered is stored, whichever id the backend used."""
    stage(device, "A")
    stage(device, "B")
    device.command("trigger", {"correlationID": "T"}, request_id="T")
    start(device, "T#1", "one")
    device.finish()
    start(device, "B#1", "two")
    device.finish()
    assert states(device)[-2:] == [("T", "SUCCESS"), ("B", "SUCCESS")]


def test_an_archive_that_is_given_up_says_nothing_of_a_newer_one_with_its_id(tmp_path: Path) -> None:
    device = Device(tmp_path, {"storage.maxStaged": "1"})
    stage(device, "nightly")
    stage(device, "nightly", 2)
    assert states(device) == []
    stage(device, "other")
    assert states(device) == [("nightly", "FAILED")]
    device.close()


def test_ids_are_looked_up_and_never_parsed(device: Device) -> None:
    """The API document's own id ends in `#n`."""
    stage(device, "upload-id-1704439450#n")
    assert start(device, "upload-id-1704439450#n#1")["status"] == 204
    device.finish()
    assert states(device)[-1] == ("upload-id-1704439450#n", "SUCCESS")


def test_options_to_be_passed_on_are_in_the_request(device: Device) -> None:
    """Without their prefix; what is ours cannot be overwritten."""
    options = {"options.a": "1", "options.file.path": "/etc/passwd"}
    device.command("backup", {"correlationID": "X", "options": options})
    device.finish()
    passed_on = device.wire.sent[-1][1]["value"]["options"]
    assert passed_on["a"] == "1"
    assert passed_on["file.path"].startswith(str(device.settings.storage.absolute()))
    assert passed_on["storage.providers"] == "aws, azure, generic"


def test_options_that_make_the_request_too_long_are_refused_before_anything_runs(device: Device) -> None:
    options = {"options.a": "x" * 2000}
    ((_, message),) = device.command("backup", {"correlationID": "X", "options": options})
    assert (message["status"], message["value"]["error"]) == (400, "messages:parameter.invalid")
    assert device.values() == []


def test_after_a_crash_the_archive_waits_and_the_upload_has_failed(device: Device) -> None:
    archive = stage(device, "X")
    start(device, "X#1")
    wait_until(lambda: stored(device), what="the worker")
    device.restart()
    assert states(device)[-1] == ("X", "FAILED")
    assert device.values(LAST_UPLOAD)[-1]["statusCode"] == "interrupted"
    assert archive.exists()
    assert start(device, "X#1", "again")["status"] == 204
    device.finish()
    assert states(device)[-1] == ("X", "SUCCESS")


@pytest.mark.parametrize("how", ["moved", "named from the working directory"])
def test_archives_stay_known_when_the_storage_has_another_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """One that waited was requested twice, without a file under its first id; sent ones were sent again."""
    monkeypatch.chdir(tmp_path)
    before, after = {"moved": (f"{tmp_path}/storage", f"{tmp_path}/other")}.get(
        how, ("storage", f"{tmp_path}/storage")
    )
    settings = {"keepUploaded": "true"}
    device = Device(tmp_path, {**settings, "storage": before})
    stage(device, "sent")
    start(device, "sent#1")
    stage(device, "waits")
    device.close()
    Path(before).rename(after)
    device = Device(tmp_path, {**settings, "storage": after})
    with closing(device):
        device.service.engine.begin()
        assert [child.child_id for child in device.journal.staged.newest_children()] == ["waits#1"]
        assert start(device, "waits#1", "again")["status"] == 204


def test_a_waiting_upload_that_is_cancelled_ends_at_once(device: Device) -> None:
    """The upload before it may take hours, and goes on."""
    for name in ("X", "Y", "Z"):
        stage(device, name)
    with stalling() as destination:
        start(device, "X#1", "one", **{"storage.provider": "generic", "https.url": destination.url})
        start(device, "Y#1", "two")
        start(device, "Z#1", "three")
        assert device.command("cancel", {"correlationID": "Y"}, request_id="four")[0][1]["status"] == 204
        assert states(device)[-1] == ("Y", "CANCELED")
        destination.release.set()
        device.finish()
    ends = [state for state in states(device) if state[1] != "UPLOADING"]
    assert ends == [("Y", "CANCELED"), ("X", "SUCCESS"), ("Z", "SUCCESS")]
    assert start(device, "Y#1", "five")["status"] == 204


def test_after_a_crash_everything_that_stood_in_line_has_failed(device: Device) -> None:
    """Each was told to be UPLOADING, and each has one end; not only the newest."""
    for name in ("X", "Y", "Z"):
        stage(device, name)
    with stalling() as destination:
        start(
            device,
            "X#1",
            "one",
            **{"storage.provider": "generic", "https.url": destination.url, "info.k": "v"},
        )
        start(device, "Y#1", "two")
        assert destination.reached.wait(20)
        device.restart()
    assert states(device) == [("X", "UPLOADING"), ("Y", "UPLOADING"), ("X", "FAILED"), ("Y", "FAILED")]
    failed = device.values(LAST_UPLOAD)[2]
    assert (failed["statusCode"], failed["info"]) == ("interrupted", {"k": "v"})
    assert failed["startTime"] == device.values(LAST_UPLOAD)[0]["startTime"]
    device.restart()
    assert len(states(device)) == 4, "once"


def test_an_upload_that_takes_too_long_has_failed_and_can_be_started_again(tmp_path: Path) -> None:
    """Nobody asked for it: FAILED, not CANCELED."""
    device = Device(tmp_path, {"jobTimeout": "200ms"})
    stage(device, "X")
    with stalling() as destination:
        start(device, "X#1", "one", **{"storage.provider": "generic", "https.url": destination.url})
        device.finish()
    failed = device.values(LAST_UPLOAD)[-1]
    assert (failed["state"], failed["statusCode"]) == ("FAILED", "deadline-exceeded")
    assert "200ms" in failed["message"]
    assert start(device, "X#1", "two")["status"] == 204
    device.finish()
    assert states(device)[-1] == ("X", "SUCCESS")
    device.close()


def test_another_identity_does_not_make_a_running_upload_interrupted(device: Device) -> None:
    """Interrupted is what an earlier run of the agent did not finish, not this one's work."""
    stage(device, "X")
    start(device, "X#1")
    device.service.engine.earlier_run.report()
    device.finish()
    assert states(device) == [("X", "UPLOADING"), ("X", "SUCCESS")]


def test_an_end_that_cannot_be_written_does_not_block_the_uploads_after_it(device: Device) -> None:
    stage(device, "X")
    stage(device, "Y")
    start(device, "X#1", "one")
    start(device, "Y#1", "two")
    with unwritable(device.journal.path):
        while device.service.engine.uploads.running("X#1"):
            device.take()
    device.finish()
    assert states(device)[-1] == ("Y", "SUCCESS")


def test_an_archive_that_waits_is_given_up_by_a_cancel(device: Device) -> None:
    """As Kanto says: 204, and CANCELED. Ours also removes the file."""
    archive = stage(device, "X")
    value = {"correlationID": "X#1", "statusCode": "obsolete", "message": "a newer one is there"}
    assert device.command("cancel", value, request_id="c")[0][1]["status"] == 204
    device.finish()
    (ended,) = device.values(LAST_UPLOAD)
    assert (ended["correlationId"], ended["state"]) == ("X", "CANCELED")
    assert (ended["statusCode"], ended["message"]) == ("obsolete", "a newer one is there")
    assert not archive.exists()
    assert start(device, "X#1")["status"] == 404
    assert device.command("cancel", value, request_id="d")[0][1]["status"] == 404


def test_all_archives_that_a_trigger_offered_are_given_up_with_one_word(device: Device) -> None:
    first, second = stage(device, "A"), stage(device, "B")
    device.command("trigger", {"correlationID": "T"}, request_id="t")
    assert device.command("cancel", {"correlationID": "T"}, request_id="c")[0][1]["status"] == 204
    device.finish()
    assert states(device) == [("T", "CANCELED")]
    assert [first.exists(), second.exists()] == [False, False]


def test_a_cancelled_archive_can_be_kept(tmp_path: Path) -> None:
    device = Device(tmp_path, {"keepUploaded": "true"})
    archive = stage(device, "X")
    device.command("cancel", {"correlationID": "X"}, request_id="c")
    assert states(device) == [("X", "CANCELED")]
    assert archive.exists()
    device.close()


_AS_BEFORE = """
    CREATE TABLE offers (
        parent_id TEXT PRIMARY KEY, total_bytes INTEGER NOT NULL, sent_bytes INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO offers SELECT parent_id, total_bytes, sent_bytes FROM upload_groups;
    DROP TABLE upload_groups;
    DROP TABLE upload_ids;
    DROP TABLE archives;
    ALTER TABLE children DROP COLUMN group_id;
    ALTER TABLE uploads DROP COLUMN group_id;
    PRAGMA user_version=4;
"""
"""Turns a journal into one from before groups and numbers were kept."""


def test_a_journal_of_an_earlier_release_keeps_what_waits(device: Device) -> None:
    archive = stage(device, "nightly")
    with closing(sqlite3.connect(device.settings.storage / "journal.db")) as db:
        db.executescript(_AS_BEFORE)
    device.restart()
    stage(device, "nightly", 2)
    assert start(device, "nightly#1")["status"] == 204
    device.finish()
    assert states(device) == [("nightly", "UPLOADING"), ("nightly", "SUCCESS")]
    assert stored(device) == [archive.name]
