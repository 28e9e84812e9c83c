"""`check-config --connect` and `inspect --store` reach stores and the broker, and write nothing anywhere."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_server
from typing import Any

from tests.support.agent_process import PROGRAM, AgentProcess
from tests.support.backend import Backend
from tests.support.mosquitto import Mosquitto, forbid_commands, mosquitto
from tests.support.settings_files import private_file
from tests.support.stores import Server, aws_client, rclone, rclone_rest


def connected(work: Path, broker: str, stores: dict[str, Any]) -> tuple[int, list[str]]:
    """The exit status and the lines on stderr."""
    config = work / "config.json"
    settings = {"storage": str(work / "st"), "broker": broker, "stores": stores, "deviceId": "edge:device"}
    settings["transfer"] = {"readTimeout": "2s"}
    config.write_text(json.dumps(settings))
    command = [str(PROGRAM), "check-config", "--connect", "--config", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return ended.returncode, ended.stderr.splitlines()


def credentials(work: Path, name: str, secrets: dict[str, str]) -> str:
    return private_file(work / name, json.dumps(secrets))


@contextmanager
def bucket(work: Path) -> Iterator[Server]:
    (work / "s3").mkdir()
    with rclone(work / "s3") as server:
        aws_client(server).create_bucket(Bucket="fleet")
        yield server


def in_s3(work: Path, server: Server, secret: str, name: str = "fleet", **more: str) -> dict[str, Any]:
    """The store in a bucket; with a `password`, it keeps a repository."""
    options = {"aws.s3.bucket": name, "aws.endpoint.url": server.url, "aws.region": "us-east-1"}
    secrets = {"aws.access.key.id": server.user, "aws.secret.access.key": secret, **more}
    return {
        "format": "repository" if more else "zip",
        "provider": "aws",
        "options": options,
        "credentials": credentials(work, f"{secret}{len(more)}.json", secrets),
    }


def at_rest(work: Path, server: Server) -> dict[str, Any]:
    url = f"http://{server.user}:{server.secret}@127.0.0.1:{server.port}/"
    secrets = {"https.url": url, "password": "of-the-repository"}
    return {"provider": "generic", "format": "repository", "credentials": credentials(work, "r", secrets)}


def test_everything_that_works_is_named_with_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "st" / "archives").mkdir(parents=True)
    (tmp_path / "rest").mkdir()
    with mosquitto(tmp_path / "mq") as broker, bucket(tmp_path) as s3, rclone_rest(tmp_path / "rest") as rest:
        before = sorted(tmp_path.glob("s*/**"))
        stores = {
            "cloud": in_s3(tmp_path, s3, s3.secret),
            "disk": {"provider": "local"},
            "deep": at_rest(tmp_path, rest),
            "web": {"provider": "https", "options": {"https.url": f"{s3.url}/fleet/none.zip"}},
        }
        status, lines = connected(tmp_path, f"tcp://127.0.0.1:{broker.port}", stores)
        assert sorted(tmp_path.glob("s*/**")) == before
    assert lines == [
        f"broker tcp://127.0.0.1:{broker.port}: good: connected, and may subscribe to commands",
        "stores.cloud: good: 0 archives of this device",
        "stores.disk: good: 0 archives of this device",
        "stores.deep: good: it answers, and has nothing yet",
        f"stores.web: failed: GET {s3.url}/fleet/none.zip: HTTP 400",
    ]
    assert status == 1


def test_what_does_not_work_is_named_with_its_reason(tmp_path: Path) -> None:
    """Wrong keys, a repository of another password, a server that is silent, a broker that refuses."""
    with bucket(tmp_path) as s3, create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        lost = Mosquitto(tmp_path).port
        stores = {
            "cloud": in_s3(tmp_path, s3, "another-secret"),
            "stick": {"provider": "local"},
            "web": {"provider": "https", "options": {"https.url": f"http://127.0.0.1:{port}/x"}},
            "nowhere": in_s3(tmp_path, s3, s3.secret, "nowhere"),
            "packs": in_s3(tmp_path, s3, s3.secret, "nowhere", password="of-the-repository"),
        }
        status, lines = connected(tmp_path, f"tcp://127.0.0.1:{lost}", stores)
    assert status == 1
    assert lines[0].startswith(f"broker tcp://127.0.0.1:{lost}: failed: ConnectionRefusedError")
    assert lines[1].startswith("stores.cloud: failed: ")
    assert lines[2].startswith("stores.stick: failed: ")
    assert lines[3].startswith("stores.web: failed: ")
    assert lines[4] == "stores.nowhere: failed: s3://nowhere: the bucket does not exist"
    assert lines[5].startswith("stores.packs: failed: s3://nowhere")
    assert lines[5].endswith("the bucket does not exist")
    assert "another-secret" not in "".join(lines)


def test_a_broker_that_forbids_to_hear_commands_is_named(tmp_path: Path) -> None:
    """Without a subscription the agent would be online, and deaf."""
    broker = Mosquitto(tmp_path)
    forbid_commands(broker)
    with mosquitto(tmp_path, broker.lines, broker.port):
        status, lines = connected(tmp_path, f"tcp://127.0.0.1:{broker.port}", {})
    assert status == 1
    assert lines == [
        f"broker tcp://127.0.0.1:{broker.port}: failed: it does not allow to subscribe to command//+/req/#"
    ]


def looked_at(device: AgentProcess, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The device as a person sees it who is not the service."""
    command = [str(PROGRAM), *arguments, "--config", str(device.work / "config.json")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_an_archive_is_looked_into_with_the_credentials_of_the_service(
    device: AgentProcess, backend: Backend
) -> None:
    """systemd gives them to the service alone: `inspect` failed for want of an access key."""
    with bucket(device.work) as server:
        store = in_s3(device.work, server, server.secret)
        given = device.work / "credentials"
        given.mkdir()
        Path(store.pop("credentials")).rename(given / "store-cloud")
        device.settings |= {"stores": {"cloud": store}}
        device.environment["CREDENTIALS_DIRECTORY"] = str(given)
        device.start()
        backend.announced()
        options = {"backup.store": "cloud", "backup.passcode": "correct horse"}
        assert backend.run("backup", "X", options)["state"] == "BACKUP_FINISHED"
        (device.work / "key").write_text("correct horse")
        key = ["--secret", f"restore.passcode=@{device.work / 'key'}"]
        shown = looked_at(device, "inspect", "--store", "cloud", "--files", "--json", *key)
        assert (shown.returncode, shown.stderr) == (0, "")
        manifest, *files = map(json.loads, shown.stdout.splitlines())
        assert manifest["manifest"]["correlationId"] == "X"
        found = {each["name"]: each for each in files}
        assert found["config/app.json"]["crc32"]
        read = looked_at(device, "extract", str(device.data / "config/app.json"), "--store", "cloud", *key)
        assert (read.returncode, read.stdout) == (0, (device.data / "config/app.json").read_text())
        device.stop()
        alone = looked_at(device, "inspect", "--store", "cloud", *key)
    assert (alone.returncode, "'aws.access.key.id' is missing" in alone.stderr) == (1, True)


def test_what_init_writes_is_accepted(tmp_path: Path) -> None:
    """A new user's first two commands, with a bucket that is there."""
    key = tmp_path / "key"
    with mosquitto(tmp_path / "mq") as broker, bucket(tmp_path) as s3:
        key.write_text(f"{s3.secret}\n")
        options = {"s3.bucket": "fleet", "endpoint.url": s3.url, "access.key.id": s3.user}
        given = [part for name, text in options.items() for part in ("-o", f"aws.{name}={text}")]
        secret = ["--secret", f"aws.secret.access.key=@{key}"]
        told = (
            f"--dir {tmp_path} --provider aws --broker tcp://127.0.0.1:{broker.port} --device-id edge:device"
        )
        for command in (["init", *told.split(), *given, *secret], ["check-config", "--connect"]):
            argv = [str(PROGRAM), *command, "--config", str(tmp_path / "config.json")]
            ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
            assert ended.returncode == 0, ended.stderr
            assert s3.secret not in ended.stdout + ended.stderr
    assert "stores.backups: good: 0 archives of this device" in ended.stderr
    assert s3.secret not in (tmp_path / "config.json").read_text()
