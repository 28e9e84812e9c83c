"""Situations from public trackers of the field, played with the installed program.

Each names the report that it comes from; a hostile neighbour or an ordinary device brings them about.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.formats.archive_names import parse_archive_name
from tests.support.agent_process import AgentProcess, with_constants
from tests.support.backend import Backend
from tests.support.mosquitto import Mosquitto
from tests.support.require import possible, require
from tests.support.stalling import stalling
from tests.support.trees import contents
from tests.support.unmounting import unmount
from tests.support.waiting import wait_until

from .conftest import Started

LOCAL = {"storage.provider": "local", "local.name": "it.zip"}


def test_two_devices_with_one_client_id_say_so_and_take_breaks(
    agent: AgentProcess, broker: Mosquitto, tmp_path: Path
) -> None:
    """MQTT.js#1585, pubsubclient#129: of a cloned image, each takes the connection of the other, for ever."""
    agent.stop()
    agent.settings["clientId"] = "cloned"
    second = AgentProcess(tmp_path / "second", broker.port, clientId="cloned")
    agent.start()
    with second:
        told = "connections end soon after being made: does another client use this client id?"
        wait_until(lambda: agent.count_log(told) or second.count_log(told), what="the reason", timeout_s=60)


@pytest.mark.slow
def test_a_broker_that_says_nothing_any_more_is_left_and_found_again(
    agent: AgentProcess, backend: Backend, broker: Mosquitto
) -> None:
    """hivemq-mqtt-client-dotnet#357: a half-open connection looked connected for half an hour."""
    agent.stop()
    agent.start(*with_constants("agent.mqtt.link.KEEP_ALIVE_S = 5"))
    agent.wait_for_log("connected")
    wait_until(lambda: agent.count_log("connected") == 2, what="the second start")
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        agent.wait_for_log("disconnected", reason="the broker is silent")
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    assert backend.run("backup", "X", LOCAL)["state"] == "BACKUP_FINISHED"


def test_a_log_that_grows_meanwhile_is_saved_as_it_was_at_some_moment(
    agent: AgentProcess, backend: Backend
) -> None:
    """restic#604, #689: it was zeroed, or not saved at all."""
    log = agent.data / "logs/app.log"
    writer = subprocess.Popen(
        ["sh", "-c", 'i=0; while :; do i=$((i+1)); echo "line $i" >> "$0"; done', log],
        stderr=subprocess.DEVNULL,
    )
    try:
        for number in range(5):
            before = log.stat().st_size
            ended = backend.run("backup", f"X{number}", LOCAL | {"local.name": f"{number}.zip"})
            assert ended["state"] == "BACKUP_FINISHED"
            after = log.stat().st_size
    finally:
        writer.kill()
        writer.wait(60)
    lines = log.read_bytes()
    assert backend.run("restore", "R", LOCAL | {"local.name": "4.zip"})["state"] == "RESTORE_FINISHED"
    restored = log.read_bytes()
    assert lines.startswith(restored)
    assert before <= len(restored) <= after


@pytest.fixture
def nobody(device: AgentProcess) -> tuple[str, ...]:
    """Runs the program as a user without rights, who owns the device's files."""
    require(os.geteuid() == 0, "root, to become another user")
    for path in [device.work, *device.work.rglob("*")]:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    for parent in device.work.parents:
        if parent.stat().st_uid == 0 and parent.stat().st_mode & 0o777 == 0o700:
            parent.chmod(0o711)
    return ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def test_what_is_read_only_is_restored_over_what_is_read_only(
    device: AgentProcess, backend: Backend, nobody: tuple[str, ...]
) -> None:
    """restic#656, kopia#4742: the owner cannot write to files that are there, or to their directories."""
    for path in (device.data / "config", device.data / "empty"):
        path.chmod(0o555)
    (device.data / "config/app.json").chmod(0o400)
    before = contents(device.data)
    device.start(*nobody)
    backend.announced()
    assert backend.run("backup", "X", LOCAL)["state"] == "BACKUP_FINISHED"
    (device.data / "config").chmod(0o755)
    (device.data / "config/app.json").chmod(0o644)
    (device.data / "config/app.json").write_text("changed")
    (device.data / "config/app.json").chmod(0o400)
    (device.data / "config/current").unlink()
    (device.data / "config").chmod(0o555)
    assert backend.run("restore", "Y", LOCAL | {"restore.mode": "exact"})["state"] == "RESTORE_FINISHED"
    assert contents(device.data) == before


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    require(os.geteuid() == 0, "root, to mount")
    subprocess.run(["mount", "--bind", path, path], check=True)
    mounted = subprocess.run(["mount", "-o", "remount,bind,ro", path], check=False)
    try:
        possible(mounted.returncode == 0, "mount read-only")
        yield
    finally:
        unmount(path)


def test_from_a_store_that_is_read_only_everything_but_writing_works(
    started: Started, backend: Backend, tmp_path: Path
) -> None:
    """borg#2771, nextcloud/vm#2427: listing and extracting wanted to write a lock there."""
    (tmp_path / "stick").mkdir()
    device = started(targets={"stick": {"path": str(tmp_path / "stick")}})
    stick = LOCAL | {"local.target": "stick"}
    assert backend.run("backup", "X", stick)["state"] == "BACKUP_FINISHED"
    before = contents(device.data)
    (device.data / "start.sh").unlink()
    with read_only(tmp_path / "stick"):
        assert backend.run("restore", "Y", stick)["state"] == "RESTORE_FINISHED"
        assert backend.ask("verify", {"correlationId": "V", "options": stick})["status"] == 204
        device.wait_for_log("verify finished", correlation_id="V")
        answer = backend.ask("backup", {"correlationID": "Z", "options": stick | {"local.name": "2.zip"}})
        assert (answer["status"], "read-only" in answer["value"]["message"]) == (400, True)
    assert contents(device.data) == before


def test_a_stop_in_the_middle_of_a_transfer_leaves_no_lock(
    started: Started, backend: Backend, broker: Mosquitto
) -> None:
    """restic#3732, borg#519, NethServer#8077: later backups failed until somebody removed the lock."""
    device = started(stopTimeout="100ms")
    with stalling() as destination:
        backend.ask("backup", {"correlationID": "long", "options": {"https.url": destination.url}})
        assert destination.reached.wait(60)
        assert device.stop() == 0
    device.start()
    assert backend.run("backup", "next", LOCAL)["state"] == "BACKUP_FINISHED"


def test_a_lock_file_of_a_boot_before_is_no_lock(device: AgentProcess, backend: Backend) -> None:
    """LinuxGSM#2916: the file was there for two months, and no backup was made."""
    device.start()
    backend.announced()
    device.kill()
    assert (device.storage / "lock").exists()
    (device.storage / "lock").write_text(f"{os.getpid()}\n")
    device.start()
    assert backend.run("backup", "next", LOCAL)["state"] == "BACKUP_FINISHED"


def test_an_error_is_told_whole(agent: AgentProcess, backend: Backend) -> None:
    """backrest#981: the message ended before the name of what failed."""
    (agent.storage / "archives/it.zip").write_bytes(b"PK no archive")
    ended = backend.run("restore", "Y", LOCAL)
    assert ended["state"] == "RESTORE_FAILED"
    assert "'it.zip'" in ended["message"] or "archive" in ended["message"]
    assert not ended["message"].endswith(("...", "\u2026"))


def test_a_signal_of_a_terminal_that_is_gone_ends_nothing(device: AgentProcess, backend: Backend) -> None:
    """borg#1656: systemd sends SIGHUP beside SIGTERM; `nohup` and a closed terminal do, too."""
    device.settings["stopTimeout"] = "10s"
    device.start()
    backend.announced()
    with stalling() as destination:
        backend.ask("backup", {"correlationID": "long", "options": {"https.url": destination.url}})
        assert destination.reached.wait(60)
        for number in (signal.SIGHUP, signal.SIGCONT, signal.SIGPIPE, signal.SIGHUP):
            os.kill(device.pid, number)
        device.wait_for_log("log file reopened; settings are not read again")
        destination.release.set()
        assert backend.ended("long")["state"] == "BACKUP_FINISHED"
    assert device.stop() == 0


def test_no_time_of_the_agent_depends_on_the_zone(device: AgentProcess, backend: Backend) -> None:
    """xen-orchestra#4024, duplicati#2069: when summer time ended, hours and names came twice or never."""
    device.environment["TZ"] = "Pacific/Kiritimati"  # 14 hours ahead
    device.settings |= {"active": True, "period": "24h", "schedule": {"store": "here"}}
    device.settings["stores"] = {"here": {"provider": "local"}}
    device.start()
    backend.announced()
    finished = device.wait_for_log("backup finished")
    (due,) = [line["due"] for line in device.log_lines() if line["event"] == "periodic backup begins"]
    (archive,) = (device.storage / "archives").iterdir()
    named = parse_archive_name(archive.name)
    assert named
    now = datetime.now(UTC)
    for told in (due, finished["time"], named.made.isoformat()):
        assert abs(now - datetime.fromisoformat(told)) < timedelta(hours=1)


def test_owners_that_a_container_without_rights_refuses_are_counted(
    agent: AgentProcess, backend: Backend
) -> None:
    """podman#7106, #8592: its root may change owners, but to its own ids alone. Nobody was told."""
    alone = ["unshare", "--user", "--map-root-user"]
    made = subprocess.run([*alone, "true"], check=False, capture_output=True)
    require(made.returncode == 0, "user namespaces")
    for name in ("config/app.json", "config/current", "empty"):
        os.chown(agent.data / name, 1234, 1234, follow_symlinks=False)
    assert backend.run("backup", "saved", LOCAL)["state"] == "BACKUP_FINISHED"
    agent.stop()
    agent.start(*alone)
    restored = backend.run("restore", "back", LOCAL)
    assert restored["message"].startswith("entries with another owner than in the archive: 3;"), restored
