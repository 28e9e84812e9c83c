"""Verifying: every byte is looked at, nothing is changed, and the verdict is kept."""

import json
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.base.sources import Verdicts
from agent.base.times import format_time, parse_time
from agent.jobs.verify import verdicts
from tests.support.fakes import Device
from tests.support.journals import sql
from tests.support.trees import snapshot

LOCAL = {"storage.provider": "local"}
PASSCODE = "correct horse battery"


@pytest.fixture
def settings() -> dict[str, str]:
    return {}


@pytest.fixture
def device(tmp_path: Path, settings: dict[str, str]) -> Iterator[Device]:
    archives = tmp_path / "archives"
    archives.mkdir()
    places = {"targets.device.path": str(archives), "stores.here.provider": "local"}
    device = Device(tmp_path, places | settings)
    (device.data / "small").write_text("content")
    (device.data / "large").write_bytes(bytes(range(256)) * 20_000)
    (device.data / "link").symlink_to("small")
    yield device
    device.close()


def backup(device: Device, **options: str) -> Path:
    """Make an archive; where it is."""
    device.command("backup", {"correlationId": "B", "options": LOCAL | options}, request_id="")
    device.finish()
    assert device.values()[-1]["state"] == "BACKUP_FINISHED", device.values()[-1]
    archives = Path(device.settings.targets["device"].path)
    return max(archives.iterdir(), key=lambda path: path.stat().st_mtime_ns)


def verify(device: Device, **options: str) -> dict[str, Any]:
    """Verify, and what the history says of it."""
    before = len(device.wire.sent)
    value = {"correlationId": "V", "options": LOCAL | options}
    (answer,) = device.command("verify", value, request_id="", header=f"v{before}")
    assert answer[1]["status"] == 204, answer
    device.finish()
    (described,) = device.command("describe", {"correlationId": "V"}, request_id="")
    return dict(described[1]["value"])


def noted(device: Device) -> dict[str, Any]:
    return dict(json.loads(device.journal.notes.read("last_verified") or "{}"))


def damage(archive: Path, at: int) -> None:
    with archive.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def forget(device: Device) -> None:
    """As for an archive that an earlier life of the device made."""
    sql(device.journal.path, "DELETE FROM jobs")


def test_a_whole_archive_is_said_to_be_whole_and_nothing_changes(device: Device) -> None:
    archive, before = backup(device), snapshot(device.data)
    told = len(device.values())
    ended = verify(device)
    assert (ended["kind"], ended["state"], ended["statusCode"]) == ("verify", "FINISHED", "")
    assert (ended["archive"], ended["place"]) == (archive.name, f"local:device/{archive.name}")
    assert (ended["files"], ended["archiveBytes"]) == (2, archive.stat().st_size)
    assert ended["contentBytes"] == len("content") + 256 * 20_000
    assert "directory" not in ended
    assert snapshot(device.data) == before
    assert len(device.values()) == told, "no lastOperation"
    assert list((device.settings.storage / "downloads").iterdir()) == []
    note = noted(device)
    assert (note["archive"], note["time"]) == (archive.name, ended["endTime"])
    assert verdicts(device.journal).of(archive.name, f"local:device/{archive.name}") is True


@pytest.mark.parametrize("known", [True, False], ids=["hash known", "hash unknown"])
@pytest.mark.parametrize("where", ["in a file", "in the directory"])
def test_one_altered_bit_is_found(device: Device, known: bool, where: str) -> None:
    """By the hash where the device has made the archive, else by its CRCs and records."""
    archive = backup(device)
    data = archive.read_bytes()
    damage(archive, data.index(b"content") if where == "in a file" else data.rindex(b"small"))
    if not known:
        forget(device)
    ended = verify(device)
    assert (ended["state"], ended["statusCode"]) == ("FAILED", "corrupted" if known else "archive-invalid")
    assert ended["archive"] == archive.name
    assert noted(device) == {}
    assert verdicts(device.journal).of(archive.name, f"local:device/{archive.name}") is False


def test_another_archive_under_the_name_is_found(device: Device) -> None:
    """A ZIP that is as good as any, but not what this device stored there."""
    archive = backup(device)
    with zipfile.ZipFile(archive, "w") as other:
        other.writestr("small", "something else")
    ended = verify(device)
    assert ended["statusCode"] == "corrupted"
    assert "its SHA-256 differs" in ended["message"]
    forget(device)
    assert verify(device)["state"] == "FINISHED"


def test_a_damaged_manifest_is_found(device: Device) -> None:
    archive = backup(device)
    forget(device)
    damage(archive, archive.read_bytes().index(b'"created"'))
    assert verify(device)["statusCode"] == "manifest-broken"
    assert verdicts(device.journal).of(archive.name, f"local:device/{archive.name}") is False


def cut(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-100])


def empty(archive: Path) -> None:
    archive.write_bytes(b"")


@pytest.mark.parametrize("spoil", [cut, empty])
def test_what_is_no_whole_archive_is_found(device: Device, spoil: Callable[[Path], None]) -> None:
    archive = backup(device)
    forget(device)
    spoil(archive)
    assert verify(device)["statusCode"] == "archive-invalid"


def test_a_encrypted_archive_is_opened_by_its_key(device: Device) -> None:
    archive = backup(device, **{"backup.passcode": PASSCODE})
    forget(device)
    assert verify(device)["statusCode"] == "sealed"
    assert verify(device, **{"restore.passcode": "not the right one"})["statusCode"] == "wrong-key"
    assert verdicts(device.journal) == Verdicts(), "neither says anything about the archive"
    assert verify(device, **{"restore.passcode": PASSCODE})["files"] == 2
    damage(archive, archive.stat().st_size // 2)
    assert verify(device, **{"restore.passcode": PASSCODE})["statusCode"] == "seal-broken"
    assert verdicts(device.journal).of(archive.name, f"local:device/{archive.name}") is False


def test_without_a_key_the_outer_hash_is_compared(device: Device) -> None:
    """A device of a fleet cannot open its own archives, and can still say that one is what it stored."""
    archive = backup(device, **{"backup.passcode": PASSCODE})
    ended = verify(device)
    assert (ended["state"], "files" in ended) == ("FINISHED", False)
    assert ended["message"].startswith("only its hash was compared")
    damage(archive, archive.stat().st_size // 2)
    assert verify(device)["statusCode"] == "corrupted"


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"storage.provider": ""}, 400, "option 'storage.provider' is missing, and no store is named"),
        ({"local.target": "usb"}, 400, "option 'local.target' must be one of: device"),
        (
            {"storage.provider": "", "restore.store": "nix"},
            400,
            "option 'restore.store' must be one of: here",
        ),
        ({"restore.store": "here"}, 400, "not both"),
        ({"restore.passcode": "seven77"}, 400, "must have at least 8 characters"),
        ({"restore.identity": "no key"}, 400, "option 'restore.identity'"),
        ({"verify.store": "here", "restore.modes": "x"}, 400, "unknown option 'restore.modes'"),
    ],
)
def test_what_cannot_work_is_refused(
    device: Device, options: dict[str, str], status: int, message: str
) -> None:
    ((_, answer),) = device.command(
        "verify", {"correlationId": "V", "options": LOCAL | options}, request_id=""
    )
    assert (answer["status"], message in answer["value"]["message"]) == (status, True), answer
    assert device.service.engine.idle()


def test_one_job_at_a_time(device: Device) -> None:
    backup(device)
    device.command("verify", {"correlationId": "V", "options": LOCAL}, request_id="")
    ((_, answer),) = device.command(
        "backup", {"correlationId": "C", "options": LOCAL}, request_id="", header="c"
    )
    assert (answer["status"], answer["value"]["message"]) == (
        409,
        "Verify operation is currently in progress!",
    )
    device.finish()


# -- drills


@pytest.fixture
def weekly(settings: dict[str, str]) -> None:
    settings |= {"verify.period": "168h", "verify.store": "here"}


def let_it_be_due(device: Device) -> None:
    device.journal.notes.keep("recurring.verify", format_time(datetime.now(UTC) - timedelta(days=8)))
    device.service.identified()
    device.finish()


def verifications(device: Device) -> list[str]:
    rows = sql(device.journal.path, "SELECT state || ' ' || status_code FROM jobs WHERE kind = 'verify'")
    return [str(text) for (text,) in rows]


@pytest.mark.usefixtures("weekly")
def test_a_drill_verifies_the_newest_archive_of_the_store(device: Device) -> None:
    backup(device)
    newest = backup(device, **{"backup.exclude": "large"})
    let_it_be_due(device)
    assert verifications(device) == ["FINISHED "]
    assert (noted(device)["archive"], noted(device)["store"]) == (newest.name, "here")


@pytest.mark.usefixtures("weekly")
def test_a_drill_waits_for_its_time_and_for_a_running_job(device: Device) -> None:
    backup(device)
    device.service.identified()
    assert verifications(device) == [], "a period has to pass first"
    device.command("verify", {"correlationId": "V", "options": LOCAL}, request_id="")
    let_it_be_due(device)
    assert verifications(device) == ["FINISHED "], "the command's"
    assert device.service.engine.drills.drill()
    device.finish()
    assert len(verifications(device)) == 2


@pytest.fixture
def small(settings: dict[str, str], weekly: None) -> None:
    settings["verify.maxSize"] = "1000"


@pytest.mark.usefixtures("small")
def test_a_drill_fetches_nothing_that_is_larger_than_its_budget(device: Device) -> None:
    archive = backup(device)
    assert archive.stat().st_size > 1000
    let_it_be_due(device)
    assert verifications(device) == ["FAILED too-large"]
    assert verify(device)["state"] == "FINISHED", "a command may"


@pytest.fixture
def unreachable(settings: dict[str, str], weekly: None) -> None:
    url = {"https.url": "http://127.0.0.1:1/archive.zip"}
    settings |= {
        "stores.far.provider": "generic",
        "stores.far.options": json.dumps(url),
        "verify.store": "far",
    }


@pytest.mark.usefixtures("unreachable")
def test_a_drill_that_cannot_reach_the_store_is_due_again(device: Device) -> None:
    """The network may come later than the agent."""
    let_it_be_due(device)
    assert verifications(device) == ["FAILED unreachable"]
    last = parse_time(device.journal.notes.read("recurring.verify") or "")
    assert timedelta(days=7) <= datetime.now(UTC) - last < timedelta(days=7, minutes=1)


def test_without_a_period_there_are_no_drills(device: Device) -> None:
    let_it_be_due(device)
    assert verifications(device) == []
