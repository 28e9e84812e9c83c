"""Credentials stay where they belong: every operation runs with marked secrets, and all is searched for them.

All is: the log at its most talkative, standard error, the journal with its write-ahead log, everything else
in the storage directory, the command lines of the agent and its children, the children's environment, and
every message on the broker but the commands that carried the secrets in.
"""

import base64
import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.contract.places import all_places
from tests.integration.conftest import SAMPLE
from tests.support.age import age_key, private_key
from tests.support.agent_process import AgentProcess
from tests.support.backend import REQUEST
from tests.support.http_server import HttpServer, Received, Say
from tests.support.mosquitto import mosquitto
from tests.support.ports import free_port
from tests.support.require import require
from tests.support.stalling import stalling
from tests.support.trees import make_tree
from tests.support.waiting import wait_until

from .watching import Commanding, Secrets, Watched, listening, processes

PLACES = all_places()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """The broker wants a password; the agent logs everything and gives up soon."""
    require(shutil.which("mosquitto_passwd") is not None, "mosquitto_passwd (Debian package mosquitto)")
    marked, port = Secrets(), free_port()
    password, file = marked.make(), tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", file, "agent", password], check=True)
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous false", f"password_file {file}"]
    with mosquitto(tmp_path / "mosquitto", lines, port):
        backend = Commanding(port)
        backend.client.username_pw_set("agent", password)
        device = AgentProcess(tmp_path / "device", port, **SETTINGS, username="agent", password=password)
        make_tree(device.data, SAMPLE)
        with backend, listening(port, "agent", password) as heard:
            try:
                yield Watched(device, backend, heard, marked)
            finally:
                if device.process and device.process.poll() is None:
                    device.kill()


SETTINGS = {
    "storage.maxStaged": 1000,
    "transfer.attempts": 1,
    "transfer.connectTimeout": "2s",
    "transfer.readTimeout": "20s",
}

# Options with credentials, for each way to give them. All go to a server on this port.

Options = Callable[[int, Secrets], dict[str, str]]


def https_by_header(port: int, marked: Secrets) -> dict[str, str]:
    return {
        "https.url": f"http://127.0.0.1:{port}/archive.zip",
        "https.header.Authorization": f"Bearer {marked.make()}",
        "https.header.X-Api-Key": marked.make(),
        "https.header.Cookie": f"session={marked.make()}",
    }


def https_by_url(port: int, marked: Secrets) -> dict[str, str]:
    user, signature = quote(marked.make(), safe=""), quote(marked.make(), safe="")
    return {"https.url": f"http://user:{user}@127.0.0.1:{port}/archive.zip?se=2100&sig={signature}"}


def aws(port: int, marked: Secrets) -> dict[str, str]:
    return {
        "storage.provider": "aws",
        "aws.endpoint.url": f"http://127.0.0.1:{port}",
        "aws.region": "eu-central-1",
        "aws.s3.bucket": "bucket",
        "aws.object.key": "archive.zip",
        "aws.access.key.id": marked.make(),
        "aws.secret.access.key": marked.make(),
        "aws.session.token": marked.make(),
    }


def azure(port: int, marked: Secrets) -> dict[str, str]:
    signature = quote(marked.make(), safe="")
    return {
        "storage.provider": "azure",
        "azure.storage.endpoint": f"http://127.0.0.1:{port}/account",
        "azure.shared.access.signature": f"?sv=2024-11-04&sp=rcwl&se=2100-01-01T00:00:00Z&sig={signature}",
        "azure.blob.container": "container",
        "azure.blob.name": "archive.zip",
    }


WAYS: list[Options] = [https_by_header, https_by_url, aws, azure]


def all_that_was_said(requests: Iterable[Received]) -> bytes:
    return "\n".join(f"{one.method} {one.target} {one.headers}" for one in requests).encode()


def test_the_search_finds_secrets_in_every_form() -> None:
    """Otherwise the other tests would prove nothing."""
    marked = Secrets()
    secret = marked.make()
    core = secret.removesuffix("/+=")
    for written in (
        secret,
        quote(secret, safe=""),
        quote(quote(secret, safe=""), safe=""),
        secret.upper(),
        json.dumps({"key": secret}),
        *(base64.b64encode(f"{'x' * n}{secret}".encode()).decode() for n in range(6)),
        base64.urlsafe_b64encode(f"user:{secret}".encode()).decode(),
        secret.encode().hex(),
    ):
        assert marked.found_in(f"before {written} after".encode()) == [core], written
    assert marked.found_in(b"nothing") == []


# Servers that refuse


def refused(request: Received) -> Say:
    """Everything that was sent comes back in the refusal, which nobody may repeat."""
    body = all_that_was_said([request])
    return Say(403, {"x-ms-error-code": "AuthenticationFailed", "X-Echo": request.target}, body)


def denied_in_xml(request: Received) -> Say:
    """As S3 and Azure say it."""
    detail = all_that_was_said([request]).decode().replace("&", "&amp;").replace("<", "&lt;")
    xml = f"<?xml version='1.0'?><Error><Code>SignatureDoesNotMatch</Code><Message>{detail}</Message></Error>"
    return Say(403, {"Content-Type": "application/xml"}, xml.encode())


def failed(request: Received) -> Say:
    return Say(500, {}, all_that_was_said([request]))


def redirected(request: Received) -> Say:
    return Say(307, {"Location": f"{request.target}{'&' if '?' in request.target else '?'}again=1"})


def garbage(request: Received) -> Say:
    """No HTTP at all: what a library puts into its error text."""
    return Say(raw=all_that_was_said([request]) + b"\r\n\r\n")


def broken_length(request: Received) -> Say:
    return Say(200, {"Content-Length": f"x{request.target}", "ETag": request.target})


@pytest.mark.parametrize("answer", [refused, denied_in_xml, failed, redirected, garbage, broken_length])
def test_a_server_that_refuses_and_repeats_all_it_was_told(
    watched: Watched, answer: Callable[[Received], Say]
) -> None:
    watched.start()
    with HttpServer(answer) as server:
        for way in WAYS:
            watched.run_all(way(server.port, watched.marked))
        assert len(watched.marked.found_in(all_that_was_said(server.requests))) >= 6, "they were really used"
    watched.assert_nothing_found()


def test_a_server_that_is_not_there(watched: Watched) -> None:
    watched.start()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # but nobody listens
        for way in WAYS:
            states = watched.run_all(way(taken.getsockname()[1], watched.marked))
            assert states == ["BACKUP_FAILED", "RESTORE_FAILED", "FAILED"]
    watched.assert_nothing_found()


@pytest.mark.parametrize("way", WAYS)
def test_a_proxy_with_credentials(watched: Watched, way: Options) -> None:
    """It refuses, and repeats what it was told."""

    def answer(request: Received) -> Say:
        return Say(407, {"X-Echo": str(request.headers)}, all_that_was_said([request]))

    with HttpServer(answer) as proxy:
        password = quote(watched.marked.make(), safe="")
        watched.start(**{"transfer.proxy": f"http://agent:{password}@127.0.0.1:{proxy.port}"})
        watched.run_all(way(free_port(), watched.marked))
        assert "proxy-authorization" in proxy.requests[0].headers
    watched.assert_nothing_found()


# Commands that are refused


def test_commands_that_are_refused_or_cannot_be_read(watched: Watched) -> None:
    """The answer names what is wrong, and no value."""
    watched.start()
    make = watched.marked.make
    for options in (
        {"storage.provider": "aws", "aws.secret.access.kye": make(), "aws.session.token": make()},
        {"storage.provider": "azure", "azure.shared.access.signature": make()},
        {"storage.provider": "azure", "azure.storage.endpoint": f"https://user:{make()}@host/?sig={make()}"},
        {"storage.provider": "floppy", "floppy.password": make()},
        {"https.url": f"ftp://user:{make()}@host/?sig={make()}"},
        {"https.url": f"http://user:{make()}@:0:0/?sig={make()}"},
        {"https.url": "http://host/", "https.header.Authorization": f"Bearer {make()}\r\nX: {make()}"},
        {"https.url": "http://host/", "https.method": make()},
        {"https.url": "http://host/", "https.header.Authorization": {"nested": make()}},
        [make()],
    ):
        for operation in ("backup", "restore"):
            answer = watched.backend.ask(operation, {"correlationID": watched.new_id(), "options": options})
            assert answer["status"] == 400, options
    topic = "command//edge:device/req//backup"
    secret = f'"https.header.Authorization":"{make()}"'
    for payload in (
        f'{{"value":{{"options":{{{secret}',
        f'{{"topic":{{{secret}}},"path":[{secret}]}}',
        f'{{"topic":"a/b/things/live/messages/backup","path":"/features/X/inbox/messages/x","value":{{{secret}}}}}',
        f"{{{secret}}}{'x' * (300 << 10)}",
    ):
        watched.backend.publish(topic, payload)
    watched.backend.publish(topic, f'{{"topic":"x","value":{{{secret}}}}}', retain=True)
    assert watched.backend.ask("nothing", {"options": {"https.header.Cookie": make()}})["status"] == 400
    watched.backend.publish(topic, b"", retain=True)
    watched.assert_nothing_found()


# Servers that work


def test_a_server_that_stores(watched: Watched) -> None:
    kept: dict[str, Received] = {}

    def answer(request: Received) -> Say:
        if request.method != "PUT":
            return Say(200, {"ETag": '"1"'}, kept[request.target].body)
        kept[request.target] = request
        return Say(201, {"ETag": '"1"', "Location": request.target})

    watched.start(keepUploaded=True, checksum=True)
    with HttpServer(answer) as server:
        for way in (https_by_header, https_by_url):
            states = watched.run_all(way(server.port, watched.marked))
            assert states == ["BACKUP_FINISHED", "RESTORE_FINISHED", "SUCCESS"]
    watched.assert_nothing_found()


@pytest.mark.parametrize("name", ["aws-moto", "aws-rclone", "azure-azurite"])
def test_a_real_store(watched: Watched, tmp_path: Path, name: str) -> None:
    work = tmp_path / "store"
    work.mkdir()
    with PLACES[name](work) as fresh:
        destination = fresh()
        options = destination.options("archive.zip") | {"storage.provider": destination.factory.kind}
        for secret in destination.secrets:
            watched.marked.add(secret)
        watched.start()
        assert watched.run_all(options) == ["BACKUP_FINISHED", "RESTORE_FINISHED", "SUCCESS"]
        assert destination.read("archive.zip")
    watched.assert_nothing_found()


# In the middle


@pytest.mark.parametrize("way", WAYS)
def test_in_the_middle_of_a_transfer_after_a_cancel_and_after_a_crash(watched: Watched, way: Options) -> None:
    watched.start()
    for operation in ("backup", "restore", "start"):
        with stalling() as destination:
            correlation_id = watched.begin(operation, way(destination.port, watched.marked))
            assert destination.reached.wait(60)
            watched.assert_nothing_found()
            assert watched.backend.ask("cancel", {"correlationID": correlation_id})["status"] == 204
            watched.ended(operation, correlation_id)
        watched.assert_nothing_found()
        with stalling() as destination:
            correlation_id = watched.begin(operation, way(destination.port, watched.marked))
            assert destination.reached.wait(60)
            watched.device.kill()
        watched.assert_nothing_found()
        watched.device.start()
        assert watched.ended(operation, correlation_id)["statusCode"] == "interrupted"
        watched.assert_nothing_found()


def test_a_crash_in_a_download_that_was_to_be_continued(watched: Watched) -> None:
    """The journal knows how far it came and of which version it was, and nothing more."""
    begun: list[str] = []

    def answer(request: Received) -> Say:
        begun.append(request.target)
        again = len(begun) > 1
        return Say(
            200, {"ETag": '"version-1"'}, b"x" * 1_000_000, cut_after=None if again else 500_000, hang=again
        )

    watched.start(**{"transfer.attempts": 3})
    with HttpServer(answer) as server:
        correlation_id = watched.begin("restore", https_by_url(server.port, watched.marked))
        wait_until(lambda: len(begun) > 1, what="the download to be continued")
        watched.assert_nothing_found()
        watched.device.kill()
        journal = b"".join(path.read_bytes() for path in watched.device.storage.glob("journal.db*"))
        assert b"version-1" in journal, "there is a checkpoint to look into"
        watched.assert_nothing_found()
    watched.device.start()
    assert watched.ended("restore", correlation_id)["statusCode"] == "interrupted"
    watched.assert_nothing_found()


def test_the_children_of_the_agent_know_nothing(watched: Watched) -> None:
    """A hook that runs for a job with credentials, under an agent with a password in its environment."""
    hook = watched.device.work / "hook.sh"
    hook.write_text("#!/bin/sh\nenv\nset\ntouch running\nsleep 600\n")
    hook.chmod(0o755)
    password = watched.device.settings.pop("password")
    watched.device.environment |= {
        "EDGE_BACKUP_PASSWORD": password,
        "AWS_SECRET_ACCESS_KEY": watched.marked.make(),
    }
    watched.start(backupCmd=str(hook))
    options = aws(free_port(), watched.marked)
    correlation_id = watched.begin("backup", options)
    wait_until(lambda: list(watched.device.storage.glob("work-*/running")), what="the hook to run")
    assert len(processes(watched.device.pid)) >= 3, "agent and hook were looked at"
    watched.assert_nothing_found()
    assert watched.backend.ask("cancel", {"correlationID": correlation_id})["status"] == 204
    watched.ended("backup", correlation_id)
    watched.assert_nothing_found()


def test_credentials_that_expire_are_asked_for_and_not_repeated(watched: Watched) -> None:
    """The new request names the archive and what was passed on, none of the old credentials."""

    def answer(request: Received) -> Say:
        text = all_that_was_said([request]).decode()
        body = f"<Error><Code>AccessDenied</Code><Message>Request has expired {text}</Message></Error>"
        return Say(403, body=body.encode())

    watched.start()
    with HttpServer(answer) as server:
        correlation_id = watched.begin("start", https_by_url(server.port, watched.marked))
        child = f"{correlation_id}#1"

        def asked(_: object) -> bool:
            messages = [
                message for _, message in list(watched.backend.messages) if message["path"] == REQUEST
            ]
            return [message["value"]["correlationId"] for message in messages].count(child) > 1

        watched.backend.wait(asked, "a second request")
    watched.assert_nothing_found()


def test_what_seals_and_opens_an_archive(watched: Watched, tmp_path: Path) -> None:
    """A passcode that is right, wrong or refused, and a private key: gone with the job."""
    watched.start()
    passcode, local = watched.marked.make(), {"storage.provider": "local"}
    key = {"backup.passcode": passcode, "restore.passcode": passcode}
    assert watched.run_all(local | key) == ["BACKUP_FINISHED", "RESTORE_FINISHED", "SUCCESS"]
    assert watched.run("restore", local | {"restore.passcode": watched.marked.make()}) == "RESTORE_FAILED"
    age_key(tmp_path / "key")
    identity = private_key(tmp_path / "key")
    watched.marked.add(identity)
    assert watched.run("restore", local | {"restore.identity": identity}) == "RESTORE_FAILED"
    for refused_options in (
        {"restore.identity": watched.marked.make()},
        {"restore.identity": identity, "restore.passcode": passcode},
    ):
        value = {"correlationID": watched.new_id(), "options": local | refused_options}
        assert watched.backend.ask("restore", value)["status"] == 400
    watched.assert_nothing_found()
