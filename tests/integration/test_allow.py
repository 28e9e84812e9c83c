"""What the settings `allow.*` forbid is refused over the wire, or ends the job, and goes nowhere."""

from typing import Any

import pytest

from tests.contract import place_aws
from tests.support.agent_process import AgentProcess
from tests.support.backend import LAST_UPLOAD, Backend
from tests.support.http_server import HttpServer, Say

METADATA = "http://169.254.169.254/latest/meta-data/iam"
KEYS = {"aws.access.key.id": "key", "aws.secret.access.key": "secret", "aws.s3.bucket": "other"}
AWS = {"storage.provider": "aws", "aws.endpoint.url": "https://store.example", **KEYS}
AZURE = {
    "storage.provider": "azure",
    "azure.storage.endpoint": "https://store.example",
    "azure.shared.access.signature": "sig=x",
    "azure.blob.container": "other",
}


def started(device: AgentProcess, backend: Backend, **allow: Any) -> None:
    device.settings["allow"] = allow
    device.settings["transfer.attempts"] = 1
    device.start()
    backend.announced()


def refused(backend: Backend, operation: str, options: dict[str, str]) -> str:
    """The message of the 403 that this command gets."""
    answer = backend.ask(operation, {"correlationID": "X", "options": options})
    assert answer["status"] == 403, answer
    assert answer["value"]["error"] == "messages:execution.failed"
    return str(answer["value"]["message"])


def test_an_operation_that_is_not_allowed_gets_a_403(device: AgentProcess, backend: Backend) -> None:
    """A device that only gives: whoever may send commands cannot change what is on it."""
    started(device, backend, operations=["backup", "start"])
    for operation in ("restore", "trigger", "cancel", "activate", "deactivate"):
        message = refused(backend, operation, {"storage.provider": "local"})
        assert message == f"operation '{operation}' is not allowed on this device (allow.operations)"
    assert backend.ask("unheard-of", {})["status"] == 400
    assert backend.values() == [], "no job was begun"
    assert backend.run("backup", "Y", {"storage.provider": "local"})["state"] == "BACKUP_FINISHED"


def test_a_command_cannot_make_the_device_ask_a_metadata_service(
    device: AgentProcess, backend: Backend
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


def test_a_redirect_to_a_metadata_service_ends_the_job(device: AgentProcess, backend: Backend) -> None:
    started(device, backend)
    with HttpServer(lambda _: Say(307, {"Location": METADATA})) as server:
        for operation in ("backup", "restore"):
            end = backend.run(operation, operation, {"https.url": f"{server.url}/a.zip"})
            assert (end["state"], end["statusCode"]) == (f"{operation.upper()}_FAILED", "not-allowed")
            assert "169.254.169.254" in end["message"]


def test_a_name_of_the_device_itself_ends_the_job(device: AgentProcess, backend: Backend) -> None:
    """A name is accepted, because it says nothing; what counts is the address that it turns out to have."""
    started(device, backend, loopback=False)
    with HttpServer(lambda _: Say(201)) as server:
        assert "allow.loopback" in refused(backend, "backup", {"https.url": f"{server.url}/a.zip"})
        end = backend.run("backup", "Y", {"https.url": f"http://localhost:{server.port}/a.zip"})
        assert (end["state"], end["statusCode"]) == ("BACKUP_FAILED", "not-allowed")
        backend.run("backup", "Z", {})
        backend.requested("Z#1")
        options = {"https.url": f"http://localhost:{server.port}/a.zip"}
        assert backend.ask("start", {"correlationID": "Z#1", "options": options})["status"] == 204
        assert backend.ended("Z", LAST_UPLOAD)["statusCode"] == "not-allowed"
    assert server.requests == []


def test_only_listed_hosts_by_https_only(device: AgentProcess, backend: Backend) -> None:
    started(device, backend, hosts=["*.backup.example", "10.0.0.0/8"], plainHttp=False)
    assert "allow.plainHttp" in refused(backend, "backup", {"https.url": "http://a.backup.example/x"})
    assert "allow.hosts" in refused(backend, "backup", {"https.url": "https://192.0.2.1/x"})
    assert "allow.hosts" in refused(backend, "restore", AWS | {"aws.endpoint.url": "https://11.0.0.1"})
    assert "allow.hosts" in refused(
        backend, "restore", AZURE | {"azure.storage.endpoint": "https://11.0.0.1"}
    )


@pytest.mark.parametrize("options", [AWS, AZURE], ids=["aws", "azure"])
def test_a_bucket_that_is_not_listed_gets_a_403(
    device: AgentProcess, backend: Backend, options: dict[str, str]
) -> None:
    started(device, backend, buckets=["ours", "site-*"])
    assert "'other'" in refused(backend, "backup", options)
    assert "allow.buckets" in refused(backend, "backup", {"https.url": "https://store.example/other/a.zip"})


def test_a_listed_host_and_bucket_work(device: AgentProcess, backend: Backend, tmp_path: Any) -> None:
    with place_aws.serve_rclone(tmp_path / "store") as make:
        destination = make()
        options = destination.options("a.zip") | {"storage.provider": "aws"}
        started(device, backend, hosts=["127.0.0.1"], buckets=[options["aws.s3.bucket"]])
        assert backend.run("backup", "X", options)["state"] == "BACKUP_FINISHED"
        assert destination.names() == ["a.zip"]


def test_the_agents_own_storage_is_no_directory_for_a_command(device: AgentProcess, backend: Backend) -> None:
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
