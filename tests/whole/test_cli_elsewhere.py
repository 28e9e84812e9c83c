"""The command line beside an agent, and at the URL of one: what it says when there is no answer."""

import io
import json
import ssl
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import trustme

from agent.cli import main
from tests.support.http_server import HttpServer, Received, Say
from tests.support.local_agent import LocalAgent, edge_backup, run

IDLE = Say(body=b'{"job": null, "last": null}', headers={"Content-Type": "application/json"})
TOKEN = "token-3f7a"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return file


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer(lambda _: IDLE) as server:
        yield server


@pytest.mark.parametrize("content", [f"{TOKEN}\n", f"\ufeff{TOKEN}\r\n"])
def test_a_device_elsewhere_is_asked_with_its_token(
    server: HttpServer, token_file: Path, tmp_path: Path, content: str
) -> None:
    """No settings of this machine are needed, nor an agent. Editors of Windows may write the file."""
    token_file.write_text(content, "utf-8", newline="")
    told = edge_backup(tmp_path, "status", "--url", server.url, "--token-file", str(token_file))
    assert (told.returncode, told.stdout, told.stderr) == (0, "idle\n", "")
    (request,) = server.requests
    assert (request.method, request.target) == ("GET", "/api/v1/status")
    assert request.headers["authorization"] == f"Bearer {TOKEN}"


def test_a_certificate_of_an_own_authority_is_checked(token_file: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with HttpServer(lambda _: IDLE, context) as server:
        arguments = ["status", "--url", server.url, "--token-file", str(token_file)]
        refused = edge_backup(tmp_path, *arguments)
        assert refused.returncode == 3
        assert refused.stderr.startswith(f"no agent answers at '{server.url}': ")
        assert server.requests == [], "the token is not sent"
        trusted = edge_backup(tmp_path, *arguments, "--ca-file", str(tmp_path / "ca.pem"))
        assert (trusted.returncode, trusted.stdout) == (0, "idle\n")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--url", "device:8765"], 2, "--url 'device:8765' must be like https://device:8765"),
        (["--url", "http://u:p@device"], 2, "must be like https://device:8765"),
        (["--url", "http://device:port"], 2, "must be like"),
        (
            ["--url", "http://127.0.0.1:9", "--config", "x.json"],
            2,
            "--config says which agent of this device",
        ),
        (["--url", "http://127.0.0.1:9"], 3, "no agent answers at 'http://127.0.0.1:9': Connection refused"),
        (["--token-file", "x"], 2, "--token-file and --ca-file go with --url"),
        (
            ["--url", "http://127.0.0.1:9", "--token-file", "/no/such"],
            2,
            "'/no/such' cannot be read: No such",
        ),
        (["--url", "http://127.0.0.1:9", "--token-file", "/dev/null"], 2, "must have a token in it"),
        (
            ["--url", "https://127.0.0.1:9", "--ca-file", "/dev/null"],
            2,
            "has no certificates that can be read",
        ),
    ],
)
def test_what_cannot_be_asked_is_said(tmp_path: Path, arguments: list[str], status: int, says: str) -> None:
    told = edge_backup(tmp_path, "status", *arguments)
    assert (told.returncode, told.stdout) == (status, "")
    assert says in told.stderr


@pytest.mark.parametrize(
    "answer",
    [Say(hang_up=True), Say(raw=b"nonsense\r\n\r\n"), Say(body=b"no JSON"), Say(body=b"{}", cut_after=1)],
)
def test_an_answer_that_is_none_is_an_agent_that_went_away(
    server: HttpServer, tmp_path: Path, answer: Say
) -> None:
    server.answer = lambda _: answer
    told = edge_backup(tmp_path, "status", "--url", server.url)
    assert (told.returncode, told.stderr) == (3, "the agent went away\n")


def test_a_refusal_is_told_in_the_agent_s_words_on_one_line(server: HttpServer, tmp_path: Path) -> None:
    """The other side may be hostile: its words do not steer the terminal."""
    server.answer = lambda _: Say(403, body=b'{"detail": "not you\\u001b[2J"}')
    told = edge_backup(tmp_path, "status", "--url", server.url)
    assert (told.returncode, told.stderr) == (1, "not you\\x1b[2J\n")
    server.answer = lambda _: Say(502, body=b"<html>")
    told = edge_backup(tmp_path, "status", "--url", server.url)
    assert (told.returncode, told.stderr) == (1, "the agent answers with status 502\n")


def test_a_stream_that_breaks_off_is_an_agent_that_went_away(server: HttpServer, tmp_path: Path) -> None:
    job = b'{"id": "1", "correlationId": "c", "kind": "backup", "phase": "x", "percent": null, "bytes": 0,'
    job += b'"totalBytes": null, "bytesPerSecond": 0, "remainingSeconds": null}'

    def answer(request: Received) -> Say:
        if request.target.endswith("events"):
            return Say(body=b"id: a.1\n\n: nothing new\n\n", headers={"Content-Type": "text/event-stream"})
        return Say(body=b'{"job": %s, "last": null}' % job)

    server.answer = answer
    told = edge_backup(tmp_path, "status", "--follow", "--url", server.url)
    assert (told.returncode, told.stdout, told.stderr) == (3, "backup c: x\n", "the agent went away\n")


def test_info_says_how_many_names_are_missing_beside_those_of_the_agent_s_own(
    server: HttpServer, tmp_path: Path
) -> None:
    """Its directories are named like what is skipped, and counted as excluded: `-1 more` were missing."""
    info: dict[str, object] = {"complete": True, "files": 1, "bytes": 1, "excluded": 1, "unexportable": 0}
    info |= {"dataSets": {}, "targets": {}, "stores": [], "job": None}
    info["leftOut"] = [{"name": "storage", "reason": "the agent's own"}]
    for more, shown in (({}, ""), ({"leftOutMore": 5}, "  and 5 more\n")):
        body = json.dumps({**info, **more}).encode()
        server.answer = lambda _, body=body: Say(body=body)  # type: ignore[misc]
        told = edge_backup(tmp_path, "info", "--url", server.url)
        assert told.stdout == f"all: 1 file, 1 B, 1 excluded\n  skipped: storage (the agent's own)\n{shown}"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_how_far_a_job_has_come_in_one_line(server: HttpServer) -> None:
    stream = b'event: jobStarted\ndata: {"job": {"id": "1"}}\n\n'
    for phase, percent in (("archiving", 1), ("archiving", 50), ("uploading", 2)):
        job = {"phase": phase, "percent": percent, "bytes": 0, "totalBytes": 9, "remainingSeconds": None}
        stream += b"event: jobProgressed\ndata: %s\n\n" % json.dumps({"job": job}).encode()
    stream += b"event: end\ndata: {}\n\n"

    def answer(request: Received) -> Say:
        if request.target.endswith("events"):
            return Say(body=stream)
        return Say(body=b'{"id": "1", "kind": "backup", "state": "FINISHED", "message": ""}')

    server.answer = answer
    terminal = Terminal()
    with redirect_stdout(io.StringIO()), redirect_stderr(terminal):
        assert main(["backup", "--url", server.url]) == 0
    shown = terminal.getvalue()
    assert shown.split("\r\x1b[K") == ["", "archiving, 1 %", "archiving, 50 %", "uploading, 2 %", ""]


def test_a_job_is_waited_for_also_when_too_many_follow_the_events(
    server: HttpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script that makes a backup needs its exit status, whoever else looks on."""
    monkeypatch.setattr("agent.cli.follow.LOOK_AGAIN_S", 0.01)
    running, ended = b'{"id": "1", "phase": "x"}', b'{"kind": "backup", "state": "FINISHED", "message": ""}'
    jobs = iter([running, running, ended, ended])

    def answer(request: Received) -> Say:
        if request.method == "POST":
            return Say(202, body=running)
        if request.target.endswith("events"):
            return Say(503, body=b'{"detail": "too many clients follow the events"}')
        return Say(body=next(jobs))

    server.answer = answer
    told = edge_backup(tmp_path, "backup", "--url", server.url)
    assert (told.returncode, told.stdout) == (0, "backup finished: 0 B\n")


def test_without_an_agent_the_command_says_how_to_start_one(device: LocalAgent) -> None:
    device.start().stop()
    told = run(device, "status")
    assert told.returncode == 3
    assert told.stderr == (
        f"no agent runs with storage '{device.storage}': start it with 'systemctl start edge-backup'"
        " or 'edge-backup run'\n"
    )


def test_a_job_is_followed_on_the_command_line_until_nothing_runs(agent: LocalAgent) -> None:
    """From the agent's events: the last line says how it ended."""
    assert run(agent, "backup", "-o", "storage.provider=local", "--id", "one").returncode == 0
    lines = run(agent, "status", "--follow").stdout.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("idle; last: backup one finished 20")
