"""The traps of the original, Eclipse Kanto's file backup: each has a test, and this table says which.

| trap | test |
|---|---|
| a restore while busy is answered with 204 | test_one_job.py::test_second_backup_and_restore_are_refused_with_409_while_one_runs |
| transport errors are swallowed on download | here::test_a_download_that_fails_fails_the_restore_and_changes_nothing |
| zip-slip | here::test_no_archive_writes_outside_of_the_directory |
| directory entries `dir\\` | here::test_directories_of_an_archive_of_kanto_are_directories |
| credentials in the log | tests/system/test_secrets.py, all of it |
| a symbolic link walks out of the scope | test_bad_input.py::test_a_directory_outside_the_scope_missing_or_no_directory_gets_a_400 |
| `lastOperation` stuck at STARTED after a restart | test_survival.py::test_kill_in_mid_backup_is_reported_as_interrupted_and_leaves_no_file, ::test_kill_in_mid_restore_leaves_the_old_data_and_is_reported |
| the first twin update comes before the reply | test_transcripts.py::test_a_backup_and_a_restore_say_exactly_this |
| a panic when the first send fails | here::test_a_connection_that_breaks_with_the_answer_costs_nothing |
| a panic on `"response-required":"true"` | here::test_what_made_the_original_panic_is_a_good_command |
| a panic on a numeric correlation id | here::test_what_made_the_original_panic_is_a_good_command |
| a panic on `activate {}` | test_periodic.py::test_activate_without_a_frame_backs_up_at_once_and_deactivate_ends_it |
| no time-out on downloads | here::test_a_download_from_a_server_that_never_answers_ends |
| deaf after a broker restart | test_survival.py::test_the_agent_answers_after_a_broker_restart_between_jobs |
| exit status 0 when the broker is absent | test_service.py::test_an_absent_broker_is_waited_for |
| partial archives stay in staging | test_survival.py::test_kill_in_mid_backup_is_reported_as_interrupted_and_leaves_no_file |
| partial archives are offered by `trigger` | test_handover.py::test_archives_that_nobody_knows_are_offered_and_fragments_are_not |
| a FIFO hangs the agent | test_one_job.py::test_what_cannot_be_saved_is_counted_and_does_not_fail_the_backup |
| a link to a directory fails the backup | here::test_links_to_directories_and_to_nothing_come_back_as_links |
| a dangling link fails the backup | here::test_links_to_directories_and_to_nothing_come_back_as_links |
| `backup.dir` that is a file gives an empty archive and success | test_bad_input.py::test_a_directory_outside_the_scope_missing_or_no_directory_gets_a_400 |
| `backup.dir` that is a link gives an empty archive and success | here::test_a_backup_dir_that_is_a_link_saves_what_it_leads_to |
| storage inside the source swallows itself | here::test_storage_inside_the_source_is_skipped |
| an unreadable file fails everything | here::test_an_unreadable_file_is_skipped_and_the_rest_is_saved |
| modes and times are lost | test_transcripts.py::test_a_backup_and_a_restore_say_exactly_this |
| a half-written target after a bad archive | test_one_job.py::test_a_damaged_archive_leaves_the_target_untouched |
| a cancelled upload still sends everything | here::test_a_cancelled_upload_sends_no_more |
"""  # noqa: E501

import json
import os
import re
import shutil
import socket
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from providers.testing.faultproxy import FaultProxy
from tests.support.agent_process import AgentProcess
from tests.support.archives import Crafted, crafted, deflated
from tests.support.backend import DEVICE, LAST_UPLOAD, Backend
from tests.support.http_server import HttpServer, Say
from tests.support.mosquitto import Mosquitto
from tests.support.require import require
from tests.support.trees import differences
from tests.support.waiting import wait_until

from .conftest import contents

TESTS = Path(__file__).parents[1]
LOCAL = {"storage.provider": "local", "local.name": "golden.zip"}
DOS = 0
"""Go's archive/zip calls the system that made an archive 0 unless it is told a mode."""


def start(device: AgentProcess, backend: Backend, **settings: Any) -> None:
    device.settings |= settings
    device.start()
    backend.announced()


def restore_from(backend: Backend, url: str) -> dict[str, Any]:
    return backend.run("restore", f"from {url}", {"https.url": url})


def test_every_trap_in_the_table_names_a_test_that_exists() -> None:
    assert __doc__
    rows = [line for line in __doc__.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 27
    for row in rows:
        where = row.split("|")[2].strip()
        file, _, _ = where.partition("::")
        if file.startswith("tests/"):
            assert (TESTS.parent / file.partition(",")[0]).is_file(), row
            continue
        text = (Path(__file__).parent / file.replace("here", Path(__file__).name)).read_text()
        names = re.findall(r"::(\w+)", where)
        assert names, row
        for name in names:
            assert f"def {name}(" in text, row


# Restores


@pytest.mark.parametrize(
    ("say", "code"),
    [
        (Say(500), "unreachable"),
        (Say(403), "access-denied"),
        (Say(404), "not-found"),
        (Say(hang_up=True), "unreachable"),
        (Say(200, body=b"x" * 100_000, cut_after=50_000), "unreachable"),
        (Say(200, {"Content-Length": "100000"}, body=b"x" * 50_000), "unreachable"),
        (Say(200, body=b"<html>sign in</html>"), "archive-invalid"),
    ],
    ids=["500", "403", "404", "no answer", "reset in the middle", "shorter than said", "no archive"],
)
def test_a_download_that_fails_fails_the_restore_and_changes_nothing(
    device: AgentProcess, backend: Backend, say: Say, code: str
) -> None:
    start(device, backend, **{"transfer.attempts": 1})
    before = contents(device.data)
    with HttpServer(lambda _: say) as server:
        failed = restore_from(backend, server.url)
    assert (failed["state"], failed["statusCode"]) == ("RESTORE_FAILED", code)
    assert failed["message"]
    assert differences(before, contents(device.data)) == []
    assert list((device.storage / "downloads").iterdir()) == []


def test_a_download_from_a_server_that_never_answers_ends(device: AgentProcess, backend: Backend) -> None:
    """Also when it falls silent in the middle. The agent is there for the next command."""
    start(device, backend, **{"transfer.attempts": 1, "transfer.readTimeout": "300ms"})
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel answers, and nobody else
        failed = restore_from(backend, f"http://127.0.0.1:{silent.getsockname()[1]}/archive.zip")
        assert (failed["state"], failed["statusCode"]) == ("RESTORE_FAILED", "unreachable")
    with falling_silent() as url:
        failed = restore_from(backend, url)
        assert (failed["state"], failed["statusCode"]) == ("RESTORE_FAILED", "unreachable")
    assert backend.run("backup", "next", LOCAL)["state"] == "BACKUP_FINISHED"


@contextmanager
def falling_silent() -> Iterator[str]:
    """The URL of a server that sends a thousandth of what it announces, and keeps the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
                done.wait(30)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/archive.zip"
        finally:
            done.set()


def hostile(outside: Path) -> dict[str, bytes]:
    """Archives of one harmless and one hostile entry, by what is wrong; all want to write to `outside`."""
    evil = outside.name.encode()
    link = Crafted(b"way-out", os.fsencode(outside.parent), mode=stat.S_IFLNK | 0o777)
    entries: dict[str, Sequence[Crafted]] = {
        "dots": [Crafted(b"../" + evil)],
        "dots inside": [Crafted(b"config/../../" + evil)],
        "absolute": [Crafted(os.fsencode(outside))],
        "backslashes": [Crafted(b"..\\" + evil, made_by=DOS)],
        "drive": [Crafted(b"C:\\" + evil, made_by=DOS)],
        "through a link of the archive": [link, Crafted(b"way-out/" + evil)],
        "other local name": [Crafted(b"harmless", local_name=b"../" + evil)],
    }
    good = Crafted(b"config/app.json", b"overwritten")
    return {what: crafted(good, *bad) for what, bad in entries.items()}


def test_no_archive_writes_outside_of_the_directory(agent: AgentProcess, backend: Backend) -> None:
    """Nor does its harmless part arrive: all or nothing."""
    outside = agent.data.parent / "evil"
    before = contents(agent.data)
    archives = hostile(outside)
    with HttpServer(
        lambda request: Say(200, body=archives[request.target[1:].replace("%20", " ")])
    ) as server:
        for what in archives:
            failed = restore_from(backend, f"{server.url}/{what.replace(' ', '%20')}")
            assert (failed["state"], failed["statusCode"]) == ("RESTORE_FAILED", "archive-invalid"), what
            assert not outside.exists(), what
            assert differences(before, contents(agent.data)) == [], what


def test_no_archive_writes_through_a_link_that_is_in_the_directory(
    agent: AgentProcess, backend: Backend
) -> None:
    """The link is replaced by a directory of the archive, or the archive is refused; never followed."""
    elsewhere = agent.work / "elsewhere"
    elsewhere.mkdir()
    (agent.data / "spool").symlink_to(elsewhere)
    with HttpServer(lambda _: Say(200, body=crafted(Crafted(b"spool/evil")))) as server:
        restore_from(backend, server.url)
    assert list(elsewhere.iterdir()) == []


def test_directories_of_an_archive_of_kanto_are_directories(agent: AgentProcess, backend: Backend) -> None:
    """Their entries end in a backslash, also those below, also without any file in them."""
    shutil.rmtree(agent.data / "config")
    text = b"made by Kanto\n" * 100
    archive = crafted(
        Crafted(b"dir\\", b"", made_by=DOS, mode=0),
        Crafted(b"dir/file.txt", text, DOS, 0, 8, 8, data=deflated(text)),
        Crafted(b"dir/sub\\", b"", made_by=DOS, mode=0),
        Crafted(b"dir/sub/empty\\", b"", made_by=DOS, mode=0),
        Crafted(b"dir/sub/file.txt", text, DOS, 0, 8, 8, data=deflated(text)),
    )
    with HttpServer(lambda _: Say(200, body=archive)) as server:
        assert restore_from(backend, server.url)["state"] == "RESTORE_FINISHED"
    found = {str(path.relative_to(agent.data)): path for path in (agent.data / "dir").rglob("*")}
    assert sorted(found) == ["dir/file.txt", "dir/sub", "dir/sub/empty", "dir/sub/file.txt"]
    assert (agent.data / "dir" / "sub" / "empty").is_dir()
    assert found["dir/file.txt"].read_bytes() == found["dir/sub/file.txt"].read_bytes() == text
    assert not [name for name in os.listdir(agent.data) if "\\" in name]


# Backups


def test_links_to_directories_and_to_nothing_come_back_as_links(
    agent: AgentProcess, backend: Backend
) -> None:
    (agent.data / "to-a-directory").symlink_to("config")
    (agent.data / "to-the-root").symlink_to("/")
    (agent.data / "to-nothing").symlink_to("no/such/place")
    (agent.data / "to-itself").symlink_to("to-itself")
    before = contents(agent.data)
    saved = backend.run("backup", "X", LOCAL)
    assert (saved["state"], saved["message"]) == ("BACKUP_FINISHED", "")
    for link in ("to-a-directory", "to-the-root", "to-nothing", "to-itself"):
        (agent.data / link).unlink()
    assert backend.run("restore", "Y", LOCAL)["state"] == "RESTORE_FINISHED"
    assert differences(before, contents(agent.data)) == []


def names_in(archive: Path) -> set[str]:
    with zipfile.ZipFile(archive) as opened:
        return set(opened.namelist())


def test_a_backup_dir_that_is_a_link_saves_what_it_leads_to(agent: AgentProcess, backend: Backend) -> None:
    (agent.data / "current").symlink_to("config")
    through = LOCAL | {"backup.dir": str(agent.data / "current")}
    assert backend.run("backup", "X", through)["state"] == "BACKUP_FINISHED"
    assert "app.json" in names_in(agent.storage / "archives" / "golden.zip")


@pytest.mark.parametrize("options", [LOCAL, {}], ids=["to a target", "staged"])
def test_storage_inside_the_source_is_skipped(
    device: AgentProcess, backend: Backend, options: dict[str, str]
) -> None:
    """Journal, staged archives and targets in it: none of them is saved, and nothing grows without end."""
    device.storage = device.data / "agent-storage"
    start(device, backend, storage=str(device.storage))
    for name in ("first", "second"):
        assert backend.run("backup", name, options)["message"] == ""
    archives = list(device.storage.rglob("*.zip"))
    assert archives
    for archive in archives:
        assert "start.sh" in names_in(archive)
        assert not [name for name in names_in(archive) if name.startswith("agent-storage")]


def test_an_unreadable_file_is_skipped_and_the_rest_is_saved(device: AgentProcess, backend: Backend) -> None:
    """Counted in the twin, named in the log."""
    (device.data / "config" / "app.json").chmod(0)
    prefix: list[str] = []
    if os.geteuid() == 0:  # who may read everything, unless this is taken away
        require(shutil.which("setpriv") is not None, "setpriv (Debian package util-linux)")
        prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    device.start(*prefix)
    backend.announced()
    saved = backend.run("backup", "X", LOCAL)
    assert (saved["state"], saved["message"]) == ("BACKUP_FINISHED", "1 entry skipped: 1 unreadable")
    assert device.wait_for_log("entry skipped")["file"] == "config/app.json"
    names = names_in(device.storage / "archives" / "golden.zip")
    assert "start.sh" in names
    assert "config/app.json" not in names


# Uploads


@dataclass
class Counting:
    """A server that takes a little of what is sent, then nothing until it is told, then all there is."""

    listener: socket.socket
    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    received_bytes: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/archive.zip"

    def serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            connection.settimeout(30)
            self.received_bytes += len(connection.recv(1 << 16))
            self.begun.set()
            self.go_on.wait(30)
            try:
                while piece := connection.recv(1 << 16):
                    self.received_bytes += len(piece)
            except OSError:
                pass
        self.ended.set()


@contextmanager
def counting() -> Iterator[Counting]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        destination = Counting(listener)
        threading.Thread(target=destination.serve, daemon=True).start()
        try:
            yield destination
        finally:
            destination.go_on.set()


def begin_upload(backend: Backend, url: str) -> None:
    backend.run("backup", "X", {})
    backend.ask("start", {"correlationID": "X#1", "options": {"https.url": url}})


def begin_backup(backend: Backend, url: str) -> None:
    backend.ask("backup", {"correlationID": "X", "options": {"https.url": url}})


@pytest.mark.parametrize("begin", [begin_upload, begin_backup])
def test_a_cancelled_upload_sends_no_more(
    device: AgentProcess, backend: Backend, begin: Callable[[Backend, str], None]
) -> None:
    """Not even what is left of the archive; only what the kernel had taken before is on its way."""
    size_bytes = 64 << 20
    (device.data / "random").write_bytes(os.urandom(size_bytes))
    start(device, backend, **{"archive.level": "store"})
    with counting() as destination:
        begin(backend, destination.url)
        assert destination.begun.wait(30)
        assert backend.ask("cancel", {"correlationID": "X"})["status"] == 204
        if begin is begin_upload:
            assert backend.ended("X", LAST_UPLOAD)["state"] == "CANCELED"
        else:
            assert backend.ended("X")["statusCode"] == "cancelled"
        destination.go_on.set()
        assert destination.ended.wait(30), "the connection is still open"
        assert destination.received_bytes < size_bytes // 2


# The wire


def test_a_connection_that_breaks_with_the_answer_costs_nothing(
    device: AgentProcess, broker: Mosquitto, backend: Backend
) -> None:
    """The command runs once; answer, STARTED and FINISHED arrive in their order, over a new connection."""
    with FaultProxy(("127.0.0.1", broker.port)) as proxy:
        host, port = proxy.address
        start(device, backend, broker=f"tcp://{host}:{port}")
        assert backend.ask("nothing")["status"] == 400
        proxy.reset_after = {"up": proxy.passed["up"] + 2}  # not even the acknowledgement gets through
        header = backend.send("backup", {"correlationID": "X", "options": LOCAL}, request_id="r")
        wait_until(lambda: device.count_log("disconnected"), what="the connection to break")
        proxy.reset_after = {}
        assert backend.answer(header)["status"] == 204
        assert backend.ended("X")["state"] == "BACKUP_FINISHED"
    assert [value["state"] for value in backend.values()] == ["BACKUP_STARTED", "BACKUP_FINISHED"]
    topics = [topic for topic, message in backend.messages if message["path"].count("/") > 2]
    assert topics.index(f"command//{DEVICE}/res/r/204") < topics.index("e")


@pytest.mark.parametrize(
    ("headers", "correlation_id"),
    [
        ({"response-required": "true", "correlation-id": "c"}, "X"),
        ({"response-required": True, "correlation-id": 42}, "X"),
        ({"response-required": True, "correlation-id": "c"}, 42),
    ],
    ids=["response-required as text", "numeric header", "numeric id"],
)
def test_what_made_the_original_panic_is_a_good_command(
    agent: AgentProcess, backend: Backend, headers: dict[str, Any], correlation_id: object
) -> None:
    envelope = {
        "topic": "edge/device/things/live/messages/backup",
        "headers": headers,
        "path": "/features/BackupAndRestore/inbox/messages/backup",
        "value": {"correlationID": correlation_id, "options": LOCAL},
    }
    backend.publish(f"command//{DEVICE}/req//backup", json.dumps(envelope))
    assert backend.answer(str(headers["correlation-id"]))["status"] == 204
    assert backend.ended(str(correlation_id))["state"] == "BACKUP_FINISHED"
