"""`edge-backup send` as people and scripts use it: a process of its own, a real broker, a running agent."""

import contextlib
import json
import os
import pty
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.agent_process import PROGRAM, AgentProcess, with_constants
from tests.support.backend import Backend
from tests.support.http_server import HttpServer, Received, Say
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port
from tests.support.stalling import Stalling, stalling
from tests.support.waiting import wait_until

LOCAL = ("-o", "storage.provider=local")
MARK = "marked-secret-91c4"


class Sender:
    """Runs `edge-backup send` against one broker."""

    def __init__(self, port: int) -> None:
        self._common = ("--broker", f"tcp://127.0.0.1:{port}", "--device", "edge:device")
        self._environment = {key: value for key, value in os.environ.items() if "PROXY" not in key.upper()}

    def start(self, operation: str, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(PROGRAM), "send", operation, *self._common, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self._environment | environment,
        )  # fmt: skip

    def __call__(
        self, operation: str, *arguments: str, typed: str = "", **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run it to its end."""
        with self.start(operation, *arguments, **environment) as process:
            out, err = process.communicate(typed, timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def good(self, operation: str, *arguments: str, **environment: str) -> list[str]:
        """Run it, expect that all goes well; the lines of its output."""
        done = self(operation, *arguments, **environment)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout.splitlines()

    def bad(self, operation: str, *arguments: str, **environment: str) -> str:
        """Run it, expect that the device does not do it; what it says of that."""
        done = self(operation, *arguments, **environment)
        assert done.returncode == 1, done
        return done.stderr


@pytest.fixture
def send(broker: Mosquitto) -> Sender:
    return Sender(broker.port)


@contextmanager
def keeping() -> Iterator[HttpServer]:
    """A place behind HTTP that takes what is sent."""
    with HttpServer(lambda _request: Say(201)) as server:
        yield server


@contextmanager
def begun(send: Sender, destination: Stalling, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A backup that has reached its place."""
    with send.start("backup", *arguments, "-o", f"https.url={destination.url}") as process:
        assert destination.reached.wait(60)
        yield process


def test_backup_and_restore_are_followed_to_their_end(agent: AgentProcess, send: Sender) -> None:
    assert send.good("backup", "--correlation-id", "X", *LOCAL) == [
        "→ backup  X",
        "← 204",
        "← BACKUP_STARTED",
        "← BACKUP_FINISHED  100 %",
        "done",
    ]
    (agent.data / "start.sh").unlink()
    assert send.good("restore", "--request-id", "r7", "--dir", str(agent.data), *LOCAL)[1:] == [
        "← 204",
        "← RESTORE_STARTED",
        "← RESTORE_FINISHED  100 %",
        "done",
    ]
    assert (agent.data / "start.sh").exists()


def test_the_upload_request_is_answered_with_a_secret_https_destination(
    agent: AgentProcess, send: Sender, tmp_path: Path
) -> None:
    with keeping() as server:
        (tmp_path / "url").write_text(f"{server.url}/a.zip?signature={MARK}\n")
        lines = send.good("backup", "--answer-secret", f"https.url=@{tmp_path / 'url'}")
        assert server.requests[0].target == f"/a.zip?signature={MARK}"
        assert server.requests[0].body.startswith(b"PK")
    assert lines[-1] == "done"
    assert MARK not in "".join(lines)


def leaks(process: "subprocess.Popen[str]") -> list[str]:
    """Where others could read the secret: the command lines of the process and its children."""
    lines = [Path(f"/proc/{process.pid}/cmdline").read_bytes()]
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        lines += [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
    return [line.decode() for line in lines if MARK.encode() in line]


@pytest.mark.parametrize("output", [(), ("--json",)])
def test_secrets_reach_the_device_and_nobody_else(
    agent: AgentProcess, send: Sender, tmp_path: Path, output: tuple[str, ...]
) -> None:
    """From a file, standard input and the environment; never in `ps` or in what is printed."""
    received = threading.Event()
    answered = threading.Event()

    def answer(_request: Received) -> Say:
        received.set()
        assert answered.wait(60)
        return Say(201)

    with HttpServer(answer) as server:
        (tmp_path / "url").write_text(f"{server.url}/a.zip?sig={MARK}-1")
        secrets = (f"https.url=@{tmp_path / 'url'}", "https.header.X-Api-Key=-", "https.header.Cookie=env:C")
        arguments = [part for secret in secrets for part in ("--secret", secret)]
        with send.start("backup", *output, *arguments, C=f"{MARK}-3") as process:
            assert process.stdin
            process.stdin.write(f"{MARK}-2\n")
            process.stdin.flush()
            assert received.wait(60)
            assert leaks(process) == []
            answered.set()
            out, err = process.communicate(timeout=30)
        request = server.requests[0]
    assert process.returncode == 0, err
    assert request.target.endswith(f"{MARK}-1")
    assert (request.headers["x-api-key"], request.headers["cookie"]) == (f"{MARK}-2", f"{MARK}-3")
    assert MARK not in out + err


@contextmanager
def refusing_device(port: int) -> Iterator[None]:
    """Answers every command with an error that quotes its URL, as Kanto's agent does."""
    client, subscribed = Client(CallbackAPIVersion.VERSION2, "refusing-device"), threading.Event()

    def answer(_client: Client, _data: object, message: MQTTMessage) -> None:
        command = json.loads(message.payload)
        text = f"\x1b[2JPUT {command['value']['options']['https.url']} failed"
        reply = {
            "topic": command["topic"],
            "headers": {"correlation-id": command["headers"]["correlation-id"]},
            "path": command["path"].replace("inbox", "outbox"),
            "value": {"status": 500, "error": "messages:execution.failed", "message": text},
            "status": 500,
        }
        client.publish(message.topic.replace("/req/", "/res/"), json.dumps(reply), qos=1)

    client.on_message = answer
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", port)
    client.subscribe("command//+/req/#", 1)
    client.loop_start()
    try:
        assert subscribed.wait(60)
        yield
    finally:
        client.disconnect()
        client.loop_stop()


def test_a_device_that_echoes_a_secret_does_not_get_it_printed(broker: Mosquitto, send: Sender) -> None:
    """Kanto's agent reports a failed transfer with the whole URL; and nobody clears this terminal."""
    arguments = ("--secret", "https.url=-")
    with refusing_device(broker.port):
        plain = send("backup", *arguments, typed=f"https://host/a?sig={MARK}\n")
        as_json = send("backup", "--json", *arguments, typed=f"https://host/a?sig={MARK}\n")
    assert (plain.returncode, as_json.returncode) == (1, 1)
    assert plain.stderr == "edge-backup send: refused: 500 \\x1b[2JPUT *** failed\n"
    assert json.loads(as_json.stdout)["message"]["value"]["message"] == "\x1b[2JPUT *** failed"
    assert MARK not in plain.stdout + as_json.stdout + as_json.stderr


def test_no_answer_in_time_is_status_1_and_the_identity_is_left_to_the_connector(
    device: AgentProcess, send: Sender
) -> None:
    """Nobody tells this agent who it is: `send` must not, or it would be whatever somebody typed."""
    device.start()
    error = send.bad("backup", "--timeout", "1500ms", *LOCAL)
    assert error.startswith("edge-backup send: timed out: no answer from 'edge:device': ")
    assert "edge:device" not in device.log.read_text()


def test_a_restore_that_timed_out_does_not_run_when_the_agent_comes_back(
    agent: AgentProcess, send: Sender, backend: Backend
) -> None:
    """The broker keeps the command; its sender was told that nobody answered, and the data is newer."""
    send.good("backup", *LOCAL)
    assert agent.stop() == 0
    error = send.bad("restore", "--timeout", "1s", "--request-id", "late", *LOCAL)
    assert "timed out: no answer from 'edge:device'" in error
    (agent.data / "start.sh").write_text("newer\n")
    agent.start()
    answer = backend.wait(lambda message: "/res/late/" in message[0], "the answer to the late restore")[1]
    assert (answer["status"], answer["path"].rsplit("/")[-1]) == (408, "restore")
    assert (agent.data / "start.sh").read_text() == "newer\n"
    assert [value["state"] for value in backend.values()] == ["BACKUP_STARTED", "BACKUP_FINISHED"]


def test_a_broker_that_is_not_there_is_status_1_at_once() -> None:
    port = free_port()
    error = Sender(port).bad("backup", *LOCAL)
    assert f"failed: the broker at 127.0.0.1:{port} cannot be used: ConnectionRefusedError" in error


def test_a_broker_that_restarts_meanwhile_is_no_end(
    agent: AgentProcess, send: Sender, broker: Mosquitto
) -> None:
    """Both find back to it, and the end of the job is heard."""
    log = broker.work / "mosquitto.log"

    def connections() -> int:
        return log.read_text().count("Sending SUBACK to edge-backup-send-")

    with stalling() as destination, begun(send, destination) as process:
        assert connections() == 1
        broker.stop()
        broker.start()
        wait_until(lambda: connections() == 2, what="send to come back")
        destination.release.set()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.endswith("done\n")


def on_terminal(arguments: list[str], awaited: str, then: Callable[[], None]) -> tuple[int, str]:
    """Exit status and output of a program on a terminal; `then` is called once it has written `awaited`."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while part := os.read(ours, 1 << 16):
            shown += part
            if awaited.encode() in shown:
                then()
    os.close(ours)
    return process.wait(30), shown.decode()


def test_a_terminal_gets_one_line_that_moves_below_the_same_lines(
    device: AgentProcess, backend: Backend, broker: Mosquitto
) -> None:
    """The status feature tells what `lastOperation` does not, and nothing of it stays on the screen."""
    device.start(*with_constants("agent.faces.ditto.twin_updates.INTERVAL_S = 0.1"))
    backend.announced()
    address = ["--broker", f"tcp://127.0.0.1:{broker.port}", "--device", "edge:device"]
    with stalling() as destination:
        command = [str(PROGRAM), "send", "backup", *address, "-o", f"https.url={destination.url}"]
        status, shown = on_terminal(command, "← uploading", destination.release.set)
    assert status == 0, shown
    for line in ("← BACKUP_STARTED", "← BACKUP_FINISHED  100 %", "done"):
        assert f"{line}\r\n" in shown
    assert "\r\x1b[K← uploading" in shown
    assert shown.endswith("done\r\n")


def test_a_verification_is_followed_to_its_end(device: AgentProcess, backend: Backend, send: Sender) -> None:
    """`lastOperation` says nothing of it, and so `send` ended when it began."""
    device.start(*with_constants("agent.faces.ditto.twin_updates.INTERVAL_S = 0.1"))
    backend.announced()
    name = ("-o", "local.name=a.zip")
    send.good("backup", *LOCAL, *name)
    assert send.good("verify", *LOCAL, *name)[-1] == "done"
    (device.storage / "archives" / "a.zip").write_bytes(b"no archive")
    assert "failed: FAILED, " in send.bad("verify", *LOCAL, *name)


def test_a_local_command_on_a_terminal_keeps_one_line_up_to_date(agent: AgentProcess) -> None:
    config = ["--config", str(agent.work / "config.json")]
    with stalling() as destination:
        url = ["-o", f"https.url={destination.url}"]
        made = on_terminal([str(PROGRAM), "backup", *config, *url], "uploading", destination.release.set)
    assert made[0] == 0, made
    *moving, end = made[1].split("\r\x1b[K")
    assert "\n" not in "".join(moving)
    assert end.startswith("backup finished: ")


def test_following_the_status_on_a_terminal_keeps_one_line_up_to_date(
    agent: AgentProcess, send: Sender
) -> None:
    config = ["--config", str(agent.work / "config.json")]
    with stalling() as destination, begun(send, destination):
        command = [str(PROGRAM), "status", "--follow", *config]
        status, shown = on_terminal(command, ": uploading", destination.release.set)
    assert status == 0, shown
    *moving, end = shown.split("\r\x1b[K")
    assert "\n" not in "".join(moving)
    assert end.startswith("idle; last: backup ")


def test_output_that_nobody_reads_any_more_is_no_crash(agent: AgentProcess, send: Sender) -> None:
    """`edge-backup send … --json | head -1`."""
    with stalling() as destination, begun(send, destination, "--json") as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        destination.release.set()
        assert process.wait(30) == 1
        assert process.stderr.read() == ""
