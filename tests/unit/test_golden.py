"""Files of an agent of an earlier release are read as they were meant (tests/data/README.md)."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.base.clock import BootClock
from agent.base.job import STOPPED, WORKING, Kind, State
from agent.jobs.last_archives import LastArchives
from agent.jobs.preview_record import PreviewNotes, PreviewState
from agent.journal import DEVICE, LAST_SUCCESS, Journal
from agent.journal.commands import CommandId
from agent.restore.memory import read_working
from tests.support.fakes import Device

DATA = Path(__file__).parents[1] / "data"
LOCAL = {"storage.provider": "local"}
LAST_KEY = "c5e46e1434ddb10490a76d357d69bc9730ba412adf2c09d19917e5fa92384d54"


@pytest.fixture
def golden(tmp_path: Path) -> Iterator[Journal]:
    shutil.copy(DATA / "journal.db", tmp_path)
    journal = Journal(tmp_path / "journal.db")
    yield journal
    journal.close()
    assert not list(tmp_path.glob("*.corrupt-*"))


def test_jobs_of_each_kind_and_state_are_in_the_history(golden: Journal) -> None:
    ended = [(job.correlation_id, job.kind, job.state) for job in golden.jobs.ended_before(None)]
    assert ended == [
        ("unheard", "backup", "FINISHED"),
        ("staged", "backup", "FINISHED"),
        ("back", "restore", "FINISHED"),
        ("looked", "verify", "FINISHED"),
        ("nowhere", "backup", "FAILED"),
        ("sets", "backup", "FINISHED"),
        ("sealed", "backup", "FINISHED"),
        ("plain", "backup", "FINISHED"),
    ]
    plain = next(golden.jobs.ended_with_id("plain"))
    assert (plain.facts["name"], plain.facts["place"]) == ("named", "local:device/plain.zip")
    assert plain.directory == Path("/golden/data")
    assert golden.skipped.of(next(golden.jobs.ended_with_id("staged")).id) == [("pipe", "FIFO")]
    failed = next(golden.jobs.ended_with_id("nowhere"))
    assert failed.status_code == "unreachable"


def test_what_was_cut_off_is_found(golden: Journal) -> None:
    left = {each.job.correlation_id: each for each in golden.jobs.unfinished()}
    assert {name: (each.job.kind, each.job.state) for name, each in left.items()} == {
        "cut-backup": (Kind.BACKUP, State.STARTED),
        "cut-restore": (Kind.RESTORE, State.STARTED),
        "shown": (Kind.RESTORE, State.PREVIEW),
    }
    restore = left["cut-restore"]
    assert restore.made == [Path("/golden/data/made")]
    (working,) = read_working(restore.working)
    assert (working.number, working.directory) == (0, Path("/golden/target"))
    assert set(golden.checkpoints.of(restore.job.id)) == {WORKING, STOPPED}
    assert [upload.parent_id for upload in golden.uploads.all()] == ["staged"]


def test_a_staged_archive_waits_under_both_of_its_ids(golden: Journal) -> None:
    first, second = golden.staged.child("staged#1"), golden.staged.child("asked#1")
    assert first
    assert second
    assert first.staged == second.staged
    assert first.staged.options == {"k": "v"}
    assert golden.staged.newest_children() == [second]
    (further,) = golden.staged.requested("staged", [first.staged])
    assert further.child_id == "staged#2"


def test_messages_commands_and_notes_are_there(golden: Journal) -> None:
    states = [json.loads(payload)["value"]["state"] for _, _, payload, _ in golden.outbox.kept()]
    assert states == ["BACKUP_STARTED", "BACKUP_FINISHED"]
    assert set(golden.outbox.last_values()) == {"lastOperation"}
    seen = golden.commands.seen(CommandId("edge:device", "r0", "backup", "r0"))
    ((command, runs),) = seen
    assert (command.reply_topic, runs) == ("command//edge:device/res/r0/204", False)
    assert golden.notes.read(DEVICE) == "edge:device"
    assert golden.notes.read(LAST_SUCCESS)
    assert golden.notes.random("client_id") == "bb1a92f0163623b2"
    preview = PreviewNotes(golden, BootClock()).waiting
    assert preview
    assert (preview.correlation_id, preview.stand, preview.confirm_within_s) == (
        "shown",
        PreviewState.WAITING,
        600,
    )
    last = LastArchives(golden).last(LAST_KEY)
    assert last
    assert last.name == "plain.zip"


@pytest.mark.parametrize(
    ("archive", "options"),
    [("plain.zip", {}), ("sealed.zip.age", {"restore.passcode": "correct horse battery"})],
)
def test_an_archive_is_verified_and_restored(archive: str, options: dict[str, str], tmp_path: Path) -> None:
    device = Device(tmp_path)
    shutil.copy(DATA / archive, device.settings.storage / "archives")
    options = LOCAL | {"local.name": archive} | options
    _ends_well(device, "verify", options)
    _ends_well(device, "restore", options)
    data = device.data
    assert sorted(path.name for path in data.rglob("*")) == ["deep", "file", "link", "sub"]
    assert ((data / "file").read_text(), (data / "sub/deep").read_text()) == ("content", "deep")
    assert os.readlink(data / "link") == "file"
    assert (data / "sub").stat().st_mode & 0o777 == 0o750
    device.close()


def test_every_byte_of_an_archive_of_data_sets_is_verified(tmp_path: Path) -> None:
    """Its paths are those of that device: there alone it is restored."""
    device = Device(tmp_path)
    shutil.copy(DATA / "sets.zip", device.settings.storage / "archives")
    _ends_well(device, "verify", LOCAL | {"local.name": "sets.zip"})
    facts = next(device.journal.jobs.ended_with_id("verify")).facts
    assert (facts["files"], facts["content_bytes"]) == (2, len("recipe") + len("conf"))
    device.close()


def _ends_well(device: Device, operation: str, options: dict[str, str]) -> None:
    said = device.command(operation, {"correlationId": operation, "options": options}, request_id=operation)
    assert said[0][1]["status"] == 204, said
    device.finish()
    record = next(device.journal.jobs.ended_with_id(operation))
    assert (record.state, record.message) == ("FINISHED", "")
