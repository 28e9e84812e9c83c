"""Places of the device: stores that a command names, and old archives that go."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.base.job import format_time
from tests.contract import place_aws
from tests.integration.test_questions import run
from tests.support.agent_process import AgentProcess
from tests.support.backend import FEATURE, Backend, Message
from tests.support.hung_disk import hung_disk
from tests.support.stalling import stalling
from tests.support.waiting import wait_until

LOCAL = {"storage.provider": "local"}


def place_names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_store_in_a_bucket_with_credentials_from_a_file(
    device: AgentProcess, backend: Backend, tmp_path: Path
) -> None:
    """Backup, restore and retention without a credential in any command, in the log or in the journal."""
    with place_aws.serve_rclone(tmp_path / "store") as make:
        destination = make()
        options = destination.options("")
        del options["aws.object.key"]
        secrets = {key: options.pop(key) for key in ("aws.access.key.id", "aws.secret.access.key")}
        file = tmp_path / "cloud.json"
        file.write_text(json.dumps(secrets))
        file.chmod(0o600)
        device.settings["stores"] = {
            "cloud": {"provider": "aws", "options": options, "credentials": str(file)}
        }
        device.settings["retention.keepLast"] = 1
        device.start()
        backend.announced()
        for correlation_id in ("one", "two"):
            assert (
                backend.run("backup", correlation_id, {"backup.store": "cloud"})["state"] == "BACKUP_FINISHED"
            )
        (device.data / "start.sh").unlink()
        assert backend.run("restore", "back", {"restore.store": "cloud"})["state"] == "RESTORE_FINISHED"
        assert (device.data / "start.sh").exists()
        older, newer = destination.names()
        would = json.loads(run(device, "prune", "--dry-run", "--json").stdout)
        assert [each["removed"] for each in would["places"]] == [[], [older]]
        assert destination.names() == [older, newer]
        done = run(device, "prune")
        assert f"store cloud: removed 1, 1 stay\n  {older}\n" in done.stdout
        assert destination.names() == [newer]
        device.wait_for_log("old archive removed", destination="store cloud", archive=older)
        assert backend.ask("describe", {"correlationId": "two"})["value"]["store"] == "cloud"
        secret = secrets["aws.secret.access.key"]
        written = [path for path in device.storage.rglob("*") if path.is_file()]
        assert not [path for path in (*written, device.log) if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("operation", "options", "status", "says"),
    [
        ("backup", {"backup.store": "nix"}, 400, "must be one of: stick"),
        ("restore", {"restore.store": "nix"}, 400, "must be one of: stick"),
        ("backup", {"backup.store": "stick", "storage.provider": "local"}, 400, "not both"),
        ("backup", {"backup.store": "stick", "local.target": "device"}, 400, "contradicts store 'stick'"),
        ("backup", {"backup.store": "stick"}, 400, "target 'usb' is not there"),
        ("restore", {"restore.store": "stick"}, 400, "target 'usb' is not there"),
    ],
)
def test_a_store_that_cannot_be_meant_or_used_is_refused_before_any_work(
    device: AgentProcess, backend: Backend, operation: str, options: dict[str, str], status: int, says: str
) -> None:
    device.settings["targets"] = {
        "device": {"path": str(device.work / "archives")},
        "usb": {"path": "/media/no"},
    }
    device.settings["stores"] = {"stick": {"provider": "local", "options": {"local.target": "usb"}}}
    device.start()
    backend.announced()
    answer = backend.ask(operation, {"correlationID": "X", "options": options})
    assert (answer["status"], says in answer["value"]["message"]) == (status, True), answer
    assert backend.values() == []


def test_periodic_backups_go_to_the_store_of_the_schedule(device: AgentProcess, backend: Backend) -> None:
    stick = device.work / "stick"
    stick.mkdir()
    device.settings["targets"] = {"usb": {"path": str(stick)}}
    device.settings["stores"] = {"stick": {"provider": "local", "options": {"local.target": "usb"}}}
    device.settings |= {"schedule.store": "stick", "period": "1h", "active": True}
    device.start()
    backend.announced()
    backend.wait(lambda message: message[1].get("value", {}).get("state") == "BACKUP_FINISHED", "its end")
    assert len(place_names(stick)) == 1


def test_prune_is_no_command_of_the_wire(agent: AgentProcess, backend: Backend) -> None:
    """Whoever may send commands cannot make a device forget its backups."""
    assert backend.ask("prune", {"dryRun": False})["status"] == 400


def test_a_target_that_does_not_answer_holds_up_no_other(device: AgentProcess, backend: Backend) -> None:
    far, near = device.work / "far", device.work / "near"
    far.mkdir()
    device.settings["targets"] = {"a": {"path": str(far)}, "b": {"path": str(near)}}
    device.settings["retention.keepLast"] = 1
    near.mkdir()
    device.start()
    backend.announced()
    for number in ("one", "two"):
        backend.run("backup", number, LOCAL | {"local.target": "b"})
    older, newer = place_names(near)
    with hung_disk(far):
        done = run(device, "prune")
        assert f"target b: removed 1, 1 stay\n  {older}\n" in done.stdout
        assert "target a: target 'a' does not answer: is its file server there?\n" in done.stdout
    assert place_names(near) == [newer]


# -- verify


def verified(backend: Backend, correlation_id: str, options: dict[str, str]) -> dict[str, Any]:
    """What the history says of this verification, when it has ended."""
    answer = backend.ask("verify", {"correlationID": correlation_id, "options": options})
    assert answer["status"] == 204, answer
    return ended(backend, correlation_id)


def ended(backend: Backend, correlation_id: str) -> dict[str, Any]:
    wait_until(lambda: backend.ask("status")["value"]["job"] is None, what="the end of the job")
    return dict(backend.ask("describe", {"correlationId": correlation_id})["value"])


def test_verify_says_what_it_found_in_the_history_and_in_the_health(
    agent: AgentProcess, backend: Backend
) -> None:
    """And Kanto's feature hears nothing of it: no third `lastOperation`."""
    backend.run("backup", "made", LOCAL)
    whole = verified(backend, "V", LOCAL)
    assert (whole["kind"], whole["state"], whole["files"]) == ("verify", "FINISHED", 4)

    def in_health(message: Message) -> bool:
        if message[1]["path"] != f"{FEATURE}Status":
            return False
        health = message[1]["value"]["properties"].get("health", {})
        return bool(health.get("lastVerified") == whole["endTime"])

    backend.wait(in_health, "the time in the health")
    archive = next((agent.storage / "archives").iterdir())
    archive.write_bytes(archive.read_bytes()[:-1] + b"!")
    damaged = verified(backend, "W", LOCAL)
    assert (damaged["state"], damaged["statusCode"]) == ("FAILED", "corrupted")
    assert [value["state"] for value in backend.values()] == ["BACKUP_STARTED", "BACKUP_FINISHED"]
    assert list((agent.storage / "downloads").iterdir()) == []


def test_verify_is_a_job_like_others(agent: AgentProcess, backend: Backend) -> None:
    """409 for a second one, seen by `status`, ended by `cancel`."""
    with stalling() as destination:
        options = {"https.url": destination.url}
        assert backend.ask("verify", {"correlationID": "V", "options": options})["status"] == 204
        assert destination.reached.wait(20)
        job = backend.ask("status")["value"]["job"]
        assert (job["kind"], job["phase"], job["correlationId"]) == ("verify", "fetching", "V")
        busy = backend.ask("restore", {"correlationID": "R", "options": LOCAL})
        assert (busy["status"], busy["value"]["message"]) == (
            409,
            "Verify operation is currently in progress!",
        )
        assert backend.ask("cancel", {"correlationID": "V"})["status"] == 204
        assert ended(backend, "V")["statusCode"] == "cancelled"
    assert backend.values() == []


def test_a_verification_that_a_crash_interrupts_is_in_the_history(
    device: AgentProcess, backend: Backend
) -> None:
    device.start()
    backend.announced()
    with stalling() as destination:
        backend.ask("verify", {"correlationID": "V", "options": {"https.url": destination.url}})
        assert destination.reached.wait(20)
        device.kill()
    backend.messages.clear()
    device.start()
    backend.announced()
    assert ended(backend, "V")["statusCode"] == "interrupted"
    assert list((device.storage / "downloads").iterdir()) == []
    assert backend.values() == []


def test_verify_by_hand_with_a_secret_from_a_file(agent: AgentProcess, backend: Backend) -> None:
    secret = agent.work / "passcode"
    secret.write_text("correct horse battery\n")
    by_hand = ("-o", "storage.provider=local", "--secret")
    assert run(agent, "backup", *by_hand, f"backup.passcode=@{secret}").returncode == 0
    good = run(agent, "verify", *by_hand, f"restore.passcode=@{secret}")
    assert (good.returncode, good.stdout.startswith("verify finished: 4 files, ")) == (0, True), good
    secret.write_text("another one, and wrong\n")
    wrong = run(agent, "verify", *by_hand, f"restore.passcode=@{secret}")
    assert (wrong.returncode, "(wrong-key)" in wrong.stderr) == (1, True), wrong


def test_a_drill_is_due_by_the_journal_also_after_restarts(device: AgentProcess, backend: Backend) -> None:
    device.settings["stores"] = {"here": {"provider": "local"}}
    device.settings["verify"] = {"period": "24h", "store": "here"}
    device.start()
    backend.announced()
    backend.run("backup", "made", LOCAL)
    assert device.count_log("verify started") == 0
    device.stop()
    yesterday = format_time(datetime.now(UTC) - timedelta(days=1))
    with closing(sqlite3.connect(device.storage / "journal.db")) as journal, journal:
        journal.execute("UPDATE meta SET value = ? WHERE key = 'recurring.verify'", (yesterday,))
    device.start()
    device.wait_for_log("verify finished", store="here")
