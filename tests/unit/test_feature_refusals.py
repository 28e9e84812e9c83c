"""Commands that are refused: the answer says why, and nothing runs."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.journal import schema
from tests.support.fakes import DEVICE, Device, command, status_of
from tests.support.journals import unwritable

LOCAL = {"storage.provider": "local"}


def test_a_second_job_is_refused_while_one_runs(device: Device) -> None:
    """One at a time, also for a restore, where Kanto wrongly says 204."""
    device.command("backup", {"options": LOCAL}, request_id="1")
    for number, operation in enumerate(("backup", "restore"), 2):
        ((_, message),) = device.command(operation, {"options": LOCAL}, request_id=str(number))
        assert message["status"] == 409
        assert message["value"]["error"] == "messages:execution.failed"
        assert message["value"]["message"] == "Backup operation is currently in progress!"
    device.finish()
    assert status_of(device.command("backup", {"options": LOCAL}, request_id="4")) == 204


@pytest.mark.parametrize(
    ("operation", "options", "code"),
    [
        ("backup", {"storage.provider": "nowhere"}, "messages:parameter.invalid"),
        ("backup", {"https.url": "ftp://h/x"}, "messages:parameter.invalid"),
        ("backup", {"storage.provider": "local", "local.target": "usb"}, "messages:parameter.invalid"),
        ("backup", {"backup.passcode": "x"}, "messages:parameter.invalid"),
        ("backup", {"backup.exclude": "!"}, "messages:parameter.invalid"),
        ("backup", {"backup.dir": "/nowhere"}, "messages:execution.failed"),
        ("restore", {}, "messages:parameter.invalid"),
        ("restore", {"restore.mode": "wipe", **LOCAL}, "messages:parameter.invalid"),
        ("restore", {"backup.dir": "/etc", **LOCAL}, "messages:execution.failed"),
    ],
)
def test_what_the_device_knows_to_be_wrong_is_refused_at_once(
    device: Device, operation: str, options: dict[str, str], code: str
) -> None:
    """400, and nothing has begun."""
    ((_, message),) = device.command(operation, {"options": options})
    assert (message["status"], message["value"]["error"]) == (400, code)
    assert device.values() == []


def test_an_unknown_archive_cannot_be_started(device: Device) -> None:
    ((_, message),) = device.command("start", {"correlationID": "X#1", "options": LOCAL})
    assert (message["status"], message["value"]["error"]) == (404, "messages:parameter.invalid")


def test_a_refusal_is_cut_to_fit_into_a_message(device: Device) -> None:
    """Hono drops what is longer; 400 letters of four bytes each are 1600 bytes, twice is too much."""
    long = "\U0001f600" * 370
    payload = command("LONG", {}).replace(b"LONG", b"x", 1).replace(b"LONG", long.encode())
    ((_, message),) = device.receive(f"command//{DEVICE}/req/r/x", payload)
    assert message["value"]["message"].startswith("Unsupported operation")


def test_an_option_that_is_nested_too_deep_is_no_internal_error(device: Device) -> None:
    """Lists become text again, which takes more of the stack than reading them did."""
    for depth in range(700, 1100, 20):
        nested = '{"options":{"x":' + "[" * depth + "]" * depth + "}}"
        payload = command("backup", "VALUE").replace(b'"VALUE"', nested.encode())
        for message in device.receive(f"command//{DEVICE}/req/{depth}/backup", payload):
            assert message[1].get("status") != 500, depth
        device.finish()


# A journal that cannot be written


def test_without_a_journal_a_command_is_refused_and_nothing_runs(device: Device) -> None:
    """A command that cannot be remembered would run twice."""
    with unwritable(device.journal.path):
        ((_, message),) = device.command("backup", {"options": LOCAL})
        assert message["status"] == 507
        assert device.values() == []
    assert status_of(device.command("backup", {"options": LOCAL})) == 204


def test_a_journal_that_is_locked_is_no_reason_to_go_deaf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unacknowledged commands fill the broker's window of 20, and then nothing comes any more."""
    monkeypatch.setattr(schema, "LOCKED_S", 0)
    device = Device(tmp_path)
    with closing(sqlite3.connect(device.journal.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ((_, message),) = device.command("backup", {"options": LOCAL})
    assert message["status"] == 507
    device.close()


def test_a_job_whose_end_cannot_be_written_is_told_all_the_same(device: Device) -> None:
    device.command("backup", {"correlationID": "X", "options": LOCAL})
    with unwritable(device.journal.path):
        device.finish()
        assert device.values()[-1]["state"] == "BACKUP_FINISHED"


def test_no_secret_and_no_payload_is_in_the_storage(device: Device) -> None:
    options = {"https.url": "http://127.0.0.1:9/x?sig=hunter2", "https.header.Authorization": "hunter2"}
    device.command("backup", {"options": options})
    device.finish()
    assert device.values()[-1]["state"] == "BACKUP_FAILED"
    assert "hunter2" not in str(device.wire.sent)
    for file in device.settings.storage.glob("journal.db*"):
        assert b"hunter2" not in file.read_bytes()
