"""Encrypted archives over the wire: made, opened by the tool of the field, restored, refused."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from providers.testing.streams import content
from tests.support.age import age, age_key, private_key
from tests.support.backend import LAST_UPLOAD
from tests.support.http_server import keeping
from tests.support.local_agent import LocalAgent, LocalBackend
from tests.support.trees import contents, differences
from tests.support.waiting import wait_until

PASSCODE = "correct horse battery"
LOCAL = {"storage.provider": "local"}
SEAL, OPEN = {"backup.passcode": PASSCODE}, {"restore.passcode": PASSCODE}
NAMES = {"config/", "config/app.json", "config/current", "empty/", "logs/", "logs/app.log", "start.sh"}


def archives(agent: LocalAgent) -> list[Path]:
    """Return the archives in the local target, oldest first."""
    return sorted(path for path in (agent.storage / "archives").iterdir() if path.is_file())


def plain_on_disk(agent: LocalAgent) -> list[str]:
    """Files in the agent's storage that hold something of what was saved, as it is or as a ZIP."""
    return [
        str(path)
        for path in agent.storage.rglob("*")
        if path.is_file() and any(mark in path.read_bytes() for mark in (b"PK\x03\x04", b"interval"))
    ]


def check_opened_by_the_tool(file: bytes, work: Path) -> None:
    encrypted, opened = work / "check.zip.age", work / "check.zip"
    encrypted.write_bytes(file)
    age("-d", "-o", opened, encrypted, typed=f"{PASSCODE}\n")
    with zipfile.ZipFile(opened) as archive:
        assert archive.testzip() is None
        assert set(archive.namelist()) > NAMES


def check_restored(agent: LocalAgent, backend: LocalBackend, options: dict[str, str]) -> None:
    """A damaged directory comes back from there."""
    before = contents(agent.data)
    (agent.data / "config" / "app.json").write_text("damaged")
    (agent.data / "start.sh").unlink()
    assert backend.run("restore", "R", options)["state"] == "RESTORE_FINISHED"
    assert differences(before, contents(agent.data)) == []


def test_an_archive_that_is_streamed_is_encrypted_on_the_way(
    agent: LocalAgent, backend: LocalBackend, tmp_path: Path
) -> None:
    assert backend.run("backup", "B", LOCAL | SEAL)["state"] == "BACKUP_FINISHED"
    (archive,) = archives(agent)
    assert archive.name.endswith(".zip.age")
    check_opened_by_the_tool(archive.read_bytes(), tmp_path)
    check_restored(agent, backend, LOCAL | OPEN)
    assert plain_on_disk(agent) == []


def test_an_archive_whose_length_must_be_known_is_encrypted_before_it_is_on_the_disk(
    agent: LocalAgent, backend: LocalBackend, tmp_path: Path
) -> None:
    """The provider `generic` gets a file."""
    with keeping() as (url, kept):
        there = {"https.url": f"{url}/archive.zip.age"}
        assert backend.run("backup", "B", there | SEAL)["state"] == "BACKUP_FINISHED"
        check_opened_by_the_tool(kept["/archive.zip.age"].body, tmp_path)
        check_restored(agent, backend, there | OPEN)
        # A restore had invented a name, with the time of the restore in it.
        assert backend.ask("describe", {"correlationId": "R"})["value"]["archive"] == "archive.zip.age"
    assert plain_on_disk(agent) == []


def test_an_archive_for_a_hand_over_is_encrypted_when_it_is_made(
    agent: LocalAgent, backend: LocalBackend, tmp_path: Path
) -> None:
    """The backend that sends the credentials need not know the passcode; a restart changes nothing."""
    backend.run("backup", "B", SEAL)
    request = backend.requested("B#1")
    staged = Path(request["options"]["file.path"])
    assert staged.name.endswith(".zip.age")
    assert plain_on_disk(agent) == []
    agent.stop()
    agent.start()
    with keeping() as (url, kept):
        there = {"https.url": f"{url}/archive.zip.age"}
        assert backend.ask("start", {"correlationID": "B#1", "options": there})["status"] == 204
        assert backend.ended("B", LAST_UPLOAD)["state"] == "SUCCESS"
        check_opened_by_the_tool(kept["/archive.zip.age"].body, tmp_path)
        check_restored(agent, backend, there | OPEN)
    wait_until(lambda: not staged.exists(), what="the uploaded archive to be removed")


def test_a_encrypted_archive_that_nobody_knows_is_offered(device: LocalAgent, backend: LocalBackend) -> None:
    """A crash between the archive's last byte and the journal; what is not encrypted at all is left alone."""
    staging = device.storage / "backups"
    staging.mkdir(parents=True)
    encrypted = staging / "backup-2026-01-01-00.00.00.000-0a1b2c3d.zip.age"
    (device.work / "plain").write_bytes(b"content")
    age("-r", age_key(device.work / "key"), "-o", encrypted, device.work / "plain")
    (staging / "backup-2026-01-02-00.00.00.000-0a1b2c3d.zip.age").write_bytes(b"PK\x03\x04 is no encrypt")
    device.start()
    backend.announced()
    assert backend.requested("backup-2026-01-01-00.00.00.000-0a1b2c3d#1")
    device.wait_for_log(
        "file ignored: not an archive", file="backup-2026-01-02-00.00.00.000-0a1b2c3d.zip.age"
    )


def test_a_device_of_a_fleet_cannot_open_its_own_archives(
    device: LocalAgent, backend: LocalBackend, tmp_path: Path
) -> None:
    """`encryption.recipients`: a thief reads nothing old. The operator's key comes with the restore."""
    device.settings["encryption.recipients"] = [age_key(tmp_path / "first"), age_key(tmp_path / "second")]
    agent = device.start()
    backend.announced()
    assert backend.run("backup", "B", LOCAL)["state"] == "BACKUP_FINISHED"
    (archive,) = archives(agent)
    for name in ("first", "second"):
        age("-d", "-i", tmp_path / name, "-o", tmp_path / f"{name}.zip", archive)
        assert zipfile.ZipFile(tmp_path / f"{name}.zip").testzip() is None
    check_restored(agent, backend, LOCAL | {"restore.identity": private_key(tmp_path / "second")})
    age_key(tmp_path / "other")
    other = {"restore.identity": private_key(tmp_path / "other")}
    assert backend.run("restore", "W", LOCAL | other)["statusCode"] == "wrong-key"
    answer = backend.ask("backup", {"options": LOCAL | SEAL})
    assert (answer["status"], answer["value"]["error"]) == (400, "messages:parameter.invalid")
    assert plain_on_disk(agent) == []


def altered_in_the_middle(file: bytes) -> bytes:
    return file[: len(file) // 2] + bytes([file[len(file) // 2] ^ 1]) + file[len(file) // 2 + 1 :]


@pytest.mark.parametrize(
    ("spoil", "options", "code"),
    [
        (bytes, {}, "sealed"),
        (bytes, {"restore.passcode": "correct horse batterx"}, "wrong-key"),
        (altered_in_the_middle, OPEN, "seal-broken"),
        (lambda file: file[:-1], OPEN, "seal-broken"),
        (lambda file: file[: -(len(file) // 3)], OPEN, "seal-broken"),
        (lambda file: file.replace(b" 14\n", b" 18\n", 1), OPEN, "seal-too-hard"),
        (lambda _file: b"PK\x05\x06" + bytes(18), OPEN, "not-sealed"),
    ],
    ids=["no key", "wrong passcode", "altered", "a byte cut", "a third cut", "too hard", "not encrypted"],
)
def test_what_cannot_be_opened_has_a_code_and_changes_nothing(
    agent: LocalAgent,
    backend: LocalBackend,
    spoil: Callable[[bytes], bytes],
    options: dict[str, str],
    code: str,
) -> None:
    (agent.data / "blob").write_bytes(content(1 << 20))
    backend.run("backup", "B", LOCAL | SEAL)
    (archive,) = archives(agent)
    archive.write_bytes(spoil(archive.read_bytes()))
    (agent.data / "start.sh").unlink()
    before = contents(agent.data)
    failed = backend.run("restore", "R", LOCAL | options)
    assert (failed["state"], failed["statusCode"]) == ("RESTORE_FAILED", code)
    assert differences(before, contents(agent.data)) == []
