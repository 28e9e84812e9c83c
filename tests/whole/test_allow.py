"""The settings `allow.*` forbid: a command is refused, or its job ends, and nothing leaves the device."""

from typing import Any

import pytest

from tests.support.backend import LAST_UPLOAD
from tests.support.local_agent import LocalAgent, LocalBackend

METADATA = "http://169.254.169.254/latest/meta-data/iam"
KEYS = {"aws.access.key.id": "key", "aws.secret.access.key": "secret", "aws.s3.bucket": "other"}
AWS = {"storage.provider": "aws", "aws.endpoint.url": "https://store.example", **KEYS}
AZURE = {
    "storage.provider": "azure",
    "azure.storage.endpoint": "https://store.example",
    "azure.shared.access.signature": "sig=x",
    "azure.blob.container": "other",
}


def started(device: LocalAgent, backend: LocalBackend, **allow: Any) -> None:
    device.settings["allow"] = allow
    device.settings["transfer.attempts"] = 1
    device.start()
    backend.announced()


def refused(backend: LocalBackend, operation: str, options: dict[str, str]) -> str:
    """The message of the 403 that this command gets."""
    answer = backend.ask(operation, {"correlationID": "X", "options": options})
    assert answer["status"] == 403, answer
    assert answer["value"]["error"] == "messages:execution.failed"
    return str(answer["value"]["message"])


def test_an_operation_that_is_not_allowed_gets_a_403(device: LocalAgent, backend: LocalBackend) -> None:
    """A device that only gives: whoever may send commands cannot change what is on it."""
    started(device, backend, operations=["backup", "start"])
    for operation in ("restore", "trigger", "cancel", "activate", "deactivate"):
        message = refused(backend, operation, {"storage.provider": "local"})
        assert message == f"operation '{operation}' is not allowed on this device (allow.operations)"
    assert backend.ask("unheard-of", {})["status"] == 400
    assert backend.values() == [], "no job was begun"
    assert backend.run("backup", "Y", {"storage.provider": "local"})["state"] == "BACKUP_FINISHED"


def test_a_command_cannot_make_the_device_ask_a_metadata_service(
    device: LocalAgent, backend: LocalBackend
) -> None:
    """By default, and before anything is done: not by an address, and not by another spelling of it."""
    started(device, backend)
    backend.run("backup", "staged", {})
    before = len(backend.values())
    for url in (METADATA, "http://2852039166/", "http://[::ffff:a9fe:a9fe]/"):
        for options in (
            {"https.url": url},
            AWS | {"aws.endpoint.url": url.partition("/latest")[0].rstrip("/")},
            AZURE | {"azure.storage.endpoint": url.partition("/latest")[0].rstrip("/")},
        ):
            for operation in ("backup", "restore", "verify"):
                assert "link-local" in refused(backend, operation, options)
    start = {"correlationID": "staged#1", "options": {"https.url": METADATA}}
    assert backend.ask("start", start)["status"] == 403
    assert (len(backend.values()), backend.values(LAST_UPLOAD)) == (before, []), "no job was begun"


@pytest.mark.parametrize("options", [AWS, AZURE], ids=["aws", "azure"])
def test_a_bucket_that_is_not_listed_gets_a_403(
    device: LocalAgent, backend: LocalBackend, options: dict[str, str]
) -> None:
    started(device, backend, buckets=["ours", "site-*"])
    assert "'other'" in refused(backend, "backup", options)
    assert "allow.buckets" in refused(backend, "backup", {"https.url": "https://store.example/other/a.zip"})


def test_the_agents_own_storage_is_no_directory_for_a_command(
    device: LocalAgent, backend: LocalBackend
) -> None:
    """Whoever could restore into it could write the journal, and have any file of the device sent away."""
    device.storage = device.data / "agent-storage"
    device.settings["storage"] = str(device.storage)
    started(device, backend)
    local = {"storage.provider": "local", "local.name": "a.zip"}
    backend.run("backup", "X", local)
    for destination in (device.storage, device.storage / "backups", device.storage / "not-there"):
        for operation in ("backup", "restore"):
            options = local | {"backup.dir": str(destination)}
            answer = backend.ask(operation, {"correlationID": "Y", "options": options})
            assert answer["status"] == 400, answer
    end = backend.run("restore", "Z", local | {"restore.mode": "replace"})
    assert end["state"] == "RESTORE_FINISHED", end
    assert (device.storage / "journal.db").exists()
