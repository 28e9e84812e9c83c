"""A device that nobody names, and a feature that somebody deletes in the twin."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from agent.faces.ditto import mqtt_session
from agent.jobs.device import UNIDENTIFIED
from tests.support.backend import DEVICE, FEATURE, THING
from tests.support.local_agent import LocalAgent, LocalBackend, run
from tests.support.waiting import wait_until

TARGET = ("-o", "storage.provider=local")


@pytest.fixture
def unanswered(device: LocalAgent, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> LocalAgent:
    """A device whose broker has no connector, and that soon stops waiting for it; not yet started."""
    monkeypatch.setattr(mqtt_session, "UNANSWERED_S", 0.05)
    backend.device_id = ""
    return device


def history(device: LocalAgent) -> list[dict[str, Any]]:
    printed = run(device, "history", "--json").stdout
    return [json.loads(line) for line in printed.splitlines()]


def name_it(backend: LocalBackend) -> dict[str, Any]:
    """The connector says who the device is; the announcement that follows."""
    backend.device_id = DEVICE
    backend.answer_identity()
    return backend.announced()


def test_a_device_that_nobody_names_says_what_is_missing(unanswered: LocalAgent) -> None:
    """In the log and in `status`, with what to do about it."""
    unanswered.start()
    said = unanswered.wait_for_log(UNIDENTIFIED)
    assert (said["log_level"], said["asked_on"]) == ("warning", "edge/thing/request")
    assert "'deviceId'" in UNIDENTIFIED
    assert run(unanswered, "status").stdout == f"idle\n{UNIDENTIFIED}\n"
    assert json.loads(run(unanswered, "status", "--json").stdout)["problem"] == UNIDENTIFIED


def test_systemctl_status_says_what_is_missing(
    unanswered: LocalAgent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        unanswered.start()
        wanted = f"STATUS=idle; connected, but {UNIDENTIFIED}"
        while manager.recv(4096).decode() != wanted:
            pass


def test_nothing_is_amiss_once_it_is_named(unanswered: LocalAgent, backend: LocalBackend) -> None:
    unanswered.start()
    unanswered.wait_for_log(UNIDENTIFIED)
    name_it(backend)
    assert run(unanswered, "status").stdout == "idle\n"


def test_periodic_backups_are_made_without_an_identity(unanswered: LocalAgent, backend: LocalBackend) -> None:
    """And offered when it comes: until then nobody could have been told."""
    unanswered.settings |= {"active": True, "period": "1h"}
    unanswered.start()
    wait_until(lambda: len(history(unanswered)) == 1, what="a periodic backup")
    (made,) = history(unanswered)
    assert made["state"] == "FINISHED"
    assert backend.messages == []
    last = name_it(backend)["value"]["properties"]["lastOperation"]
    assert (last["correlationId"], last["state"]) == (made["correlationId"], "BACKUP_FINISHED")
    assert backend.requested(f"{made['correlationId']}#1")


def test_nothing_is_told_of_a_thing_that_does_not_exist(
    unanswered: LocalAgent, backend: LocalBackend
) -> None:
    unanswered.start()
    assert run(unanswered, "backup", *TARGET, "--id", "early").returncode == 0
    assert run(unanswered, "prune").returncode == 0
    name_it(backend)
    backend.run("backup", "late", {"storage.provider": "local"})
    assert {envelope["topic"].partition("/things/")[0] for _, envelope in backend.messages} == {THING}
    states = [(value["correlationId"], value["state"]) for value in backend.values()]
    assert states == [("late", "BACKUP_STARTED"), ("late", "BACKUP_FINISHED")]


@pytest.mark.parametrize("restarted", [False, True])
def test_what_was_saved_before_the_identity_came_is_restored_after_it(
    unanswered: LocalAgent, backend: LocalBackend, restarted: bool
) -> None:
    """Without a name and with one, by the backend: the archive is none of another device."""
    unanswered.start()
    assert run(unanswered, "backup", *TARGET).returncode == 0
    if restarted:
        unanswered.stop()
        unanswered.start()
    name_it(backend)
    (archive,) = (unanswered.storage / "archives").iterdir()
    for number, named in enumerate(({}, {"local.name": archive.name})):
        (unanswered.data / "start.sh").write_text("changed")
        options = {"storage.provider": "local", **named}
        assert backend.run("restore", f"r{number}", options)["state"] == "RESTORE_FINISHED"
        assert (unanswered.data / "start.sh").read_bytes() == b"#!/bin/sh\nexec ./app\n"


def test_inspect_finds_the_newest_archive_without_a_device_id(
    unanswered: LocalAgent, backend: LocalBackend
) -> None:
    """By what the agent knows, which may run or not, before the device is named and after it."""
    unanswered.start()
    assert run(unanswered, "backup", *TARGET, "--id", "first").returncode == 0
    name_it(backend)

    def newest() -> tuple[str, str]:
        manifest = json.loads(run(unanswered, "inspect", "--json", *TARGET).stdout)["manifest"]
        return manifest["device"].partition(":")[0], manifest["correlationId"]

    assert newest() == ("unnamed", "first")
    assert run(unanswered, "backup", *TARGET, "--id", "second").returncode == 0
    assert newest() == ("edge", "second")
    unanswered.stop()
    before = set(unanswered.storage.iterdir())
    assert newest() == ("edge", "second")
    assert set(unanswered.storage.iterdir()) == before
    (unanswered.storage / "journal.db").rename(unanswered.storage / "lost")
    lost = run(unanswered, "inspect", *TARGET)
    assert (lost.returncode, lost.stderr.partition("?")[0]) == (2, "which archive")


def test_after_a_restart_the_last_identity_counts_until_it_is_said_again(
    unanswered: LocalAgent, backend: LocalBackend
) -> None:
    """Every state of an operation arrives, also when the connector starts long after the agent."""
    backend.device_id = DEVICE
    unanswered.start()
    backend.announced()
    unanswered.stop()
    backend.device_id = ""
    backend.messages.clear()
    unanswered.start()
    assert run(unanswered, "backup", *TARGET, "--id", "alone").returncode == 0
    assert backend.messages == []
    name_it(backend)
    assert backend.ended("alone")["state"] == "BACKUP_FINISHED"
    assert [value["state"] for value in backend.values()] == ["BACKUP_STARTED", "BACKUP_FINISHED"]


def announcements(backend: LocalBackend) -> int:
    return sum(envelope["path"] == FEATURE for _, envelope in list(backend.messages))


@pytest.mark.parametrize("path", ["/", "/features", FEATURE])
def test_a_deleted_feature_is_announced_at_once(
    agent: LocalAgent, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Where the connector passes on the twin's events."""
    monkeypatch.setattr(mqtt_session, "ANNOUNCE_SOON_S", 0.01)
    before = announcements(backend)
    for thing, where in ((THING, f"{FEATURE}Status"), ("edge/other", path), (THING, path)):
        event = {"topic": f"{thing}/things/twin/events/deleted", "headers": {}, "path": where}
        backend.publish(f"command//{DEVICE}/req//event", json.dumps(event))
    wait_until(lambda: announcements(backend) > before, what="another announcement")
    assert announcements(backend) == before + 1
