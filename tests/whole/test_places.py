"""Places of the device: stores that a command names, and old archives that go."""

import json
import re
from pathlib import Path
from typing import Any

from tests.contract import place_aws
from tests.support.backend import FEATURE, Message
from tests.support.hung_disk import hung_disk
from tests.support.local_agent import LocalAgent, LocalBackend, run
from tests.support.settings_files import private_file
from tests.support.stalling import stalling
from tests.support.waiting import wait_until

LOCAL = {"storage.provider": "local"}


def place_names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_store_in_a_bucket_with_credentials_from_a_file(
    device: LocalAgent, backend: LocalBackend, tmp_path: Path
) -> None:
    """Backup, restore and retention without a credential in any command, in the log or in the journal."""
    with place_aws.serve_rclone(tmp_path / "store") as make:
        destination = make()
        options = destination.options("")
        del options["aws.object.key"]
        secrets = {key: options.pop(key) for key in ("aws.access.key.id", "aws.secret.access.key")}
        file = tmp_path / "cloud.json"
        private_file(file, json.dumps(secrets))
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
        assert re.search(rf"store cloud: removed 1, 1 stay, [0-9.]+ KiB freed\n  {older}\n", done.stdout)
        assert destination.names() == [newer]
        device.wait_for_log("old archive removed", destination="store cloud", archive=older)
        assert backend.ask("describe", {"correlationId": "two"})["value"]["store"] == "cloud"
        secret = secrets["aws.secret.access.key"]
        written = [path for path in device.storage.rglob("*") if path.is_file()]
        assert not [path for path in written if secret.encode() in path.read_bytes()]


def test_prune_is_no_command_of_the_wire(agent: LocalAgent, backend: LocalBackend) -> None:
    """Whoever may send commands cannot make a device forget its backups."""
    assert backend.ask("prune", {"dryRun": False})["status"] == 400


def test_a_target_that_does_not_answer_holds_up_no_other(device: LocalAgent, backend: LocalBackend) -> None:
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
        assert re.search(rf"target b: removed 1, 1 stay, [0-9.]+ KiB freed\n  {older}\n", done.stdout)
        assert "target a: target 'a' does not answer: is its file server there?\n" in done.stdout
    assert place_names(near) == [newer]


# -- verify


def verified(backend: LocalBackend, correlation_id: str, options: dict[str, str]) -> dict[str, Any]:
    """Return the history's entry of this verification, when it has ended."""
    answer = backend.ask("verify", {"correlationID": correlation_id, "options": options})
    assert answer["status"] == 204, answer
    return ended(backend, correlation_id)


def ended(backend: LocalBackend, correlation_id: str) -> dict[str, Any]:
    wait_until(lambda: backend.ask("status")["value"]["job"] is None, what="the end of the job")
    return dict(backend.ask("describe", {"correlationId": correlation_id})["value"])


def test_verify_says_what_it_found_in_the_history_and_in_the_health(
    agent: LocalAgent, backend: LocalBackend
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


def test_verify_is_a_job_like_others(agent: LocalAgent, backend: LocalBackend) -> None:
    """409 for a second one, seen by `status`, ended by `cancel`."""
    with stalling() as destination:
        options = {"https.url": destination.url}
        assert backend.ask("verify", {"correlationID": "V", "options": options})["status"] == 204
        assert destination.reached.wait(60)
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


def test_verify_by_hand_with_a_secret_from_a_file(agent: LocalAgent, backend: LocalBackend) -> None:
    secret = agent.work / "passcode"
    secret.write_text("correct horse battery\n")
    by_hand = ("-o", "storage.provider=local", "--secret")
    assert run(agent, "backup", *by_hand, f"backup.passcode=@{secret}").returncode == 0
    good = run(agent, "verify", *by_hand, f"restore.passcode=@{secret}")
    assert (good.returncode, good.stdout.startswith("verify finished: 4 files, ")) == (0, True), good
    secret.write_text("another one, and wrong\n")
    wrong = run(agent, "verify", *by_hand, f"restore.passcode=@{secret}")
    assert (wrong.returncode, "(wrong-key)" in wrong.stderr) == (1, True), wrong
