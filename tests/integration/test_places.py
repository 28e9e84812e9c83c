"""Places of the device: stores that a command names, and old archives that go."""

import json
from pathlib import Path

import pytest

from tests.contract import place_aws
from tests.integration.test_questions import run
from tests.support.agent_process import AgentProcess
from tests.support.backend import Backend


def place_names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_store_in_a_bucket_with_credentials_from_a_file(
    device: AgentProcess, backend: Backend, tmp_path: Path
) -> None:
    """Backup, restore and retention without a credential in any command, in the log or in the journal."""
    with place_aws.serve_rclone(tmp_path / "store") as make:
        place = make()
        options = place.options("")
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
        older, newer = place.names()
        would = json.loads(run(device, "prune", "--dry-run", "--json").stdout)
        assert [each["removed"] for each in would["places"]] == [[], [older]]
        assert place.names() == [older, newer]
        done = run(device, "prune")
        assert f"store cloud: removed 1, 1 stay\n  {older}\n" in done.stdout
        assert place.names() == [newer]
        device.wait_for_log("old archive removed", place="store cloud", archive=older)
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
