"""Data sets, single assets and what cannot leave the device, over a real broker."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.local_agent import LocalAgent, LocalBackend
from tests.support.local_agent import run as cli
from tests.support.trees import contents

LOCAL = {"storage.provider": "local"}


@pytest.fixture
def house(device: LocalAgent, backend: LocalBackend) -> LocalAgent:
    """A device with two data sets in directories of their own, and rules; its agent runs."""
    for name in ("net/eth0", "net/old.bak", "keys/tpm.key", "keys/cert.pem", "hosts", "motd", "other"):
        (device.work / "etc" / name).parent.mkdir(parents=True, exist_ok=True)
        (device.work / "etc" / name).write_text(name)
    etc = f"{device.work}/etc"
    device.settings |= {
        "mode": "strict",
        "dataSets": {
            "network": {"paths": [f"{etc}/net", f"{etc}/hosts"], "exclude": "*.bak"},
            "keys": {"paths": f"{etc}/keys"},
            "more": {"paths": f"{etc}/motd"},
        },
        "unexportable": ["*.key"],
        "strictBackup": True,
    }
    device.start()
    backend.announced()
    return device


def run(backend: LocalBackend, operation: str, correlation_id: str, **options: Any) -> dict[str, Any]:
    """How the job ended. Option `restore__paths` is `restore.paths`."""
    given = LOCAL | {key.replace("__", "."): value for key, value in options.items()}
    answer = backend.ask(
        operation, {"correlationId": correlation_id, "options": given}, request_id=correlation_id
    )
    assert answer["status"] == 204, answer
    return backend.ended(correlation_id)


def command_line(agent: LocalAgent, *arguments: str) -> str:
    """Return the output of a command, which has to succeed."""
    done = cli(agent, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def archived(agent: LocalAgent) -> list[str]:
    (archive,) = (agent.storage / "archives").glob("*.zip")
    with zipfile.ZipFile(io.BytesIO(archive.read_bytes())) as opened:
        return sorted(opened.namelist())


def test_data_sets_go_into_one_archive_and_rules_are_no_failure(
    house: LocalAgent, backend: LocalBackend
) -> None:
    ended = run(backend, "backup", "one", backup__dataTypes="network,keys")
    assert (ended["state"], ended["message"]) == (
        "BACKUP_FINISHED",
        "1 entry skipped: 1 unexportable by the device's settings",
    )
    etc = str(house.work / "etc")
    assert archived(house) == [
        f"keys{etc}/keys/", f"keys{etc}/keys/cert.pem",
        f"network{etc}/", f"network{etc}/hosts", f"network{etc}/net/", f"network{etc}/net/eth0",
    ]  # fmt: skip
    described = backend.ask("describe", {"correlationId": "one"})["value"]
    withheld = {"name": f"keys{etc}/keys/tpm.key", "reason": "unexportable by the device's settings"}
    assert (described["unexportable"], described["leftOut"]) == (1, [withheld])
    assert backend.ask("history")["value"]["entries"][0]["unexportable"] == 1
    command_line(
        house, "backup", "--data-type", "network", "--path", f"{etc}/hosts", "--output", f"{house.work}/a.zip"
    )
    with zipfile.ZipFile(house.work / "a.zip") as opened:
        assert sorted(opened.namelist()) == [f"network{etc}/", f"network{etc}/hosts"]
    shown = command_line(house, "show", "one")
    assert f"  {withheld['name']}: {withheld['reason']}" in shown.splitlines()


def test_several_data_sets_come_back_at_once_each_to_its_place(
    house: LocalAgent, backend: LocalBackend
) -> None:
    """Two of them have files in one directory; what lies beside stays as it is."""
    etc = house.work / "etc"
    run(backend, "backup", "one", backup__dataTypes="network,keys,more")
    saved = contents(etc)
    for name in ("net/eth0", "keys/cert.pem", "hosts", "motd"):
        (etc / name).unlink()
    for name in ("net/new", "keys/new", "new"):
        (etc / name).write_text("new")
    options = {"restore__dataTypes": "network,keys,more", "restore__mode": "replace"}
    assert run(backend, "restore", "two", **options)["state"] == "RESTORE_FINISHED"
    found = contents(etc)
    # What the backup's patterns had excluded stays; what a rule withheld is in no archive, and goes.
    assert set(found) == set(saved) - {"keys/tpm.key"} | {"new"}
    assert {name for name in set(saved) & set(found) if saved[name] != found[name]} <= {"net", "keys"}


def test_replacing_one_file_leaves_all_others_in_its_directory(
    house: LocalAgent, backend: LocalBackend
) -> None:
    run(backend, "backup", "one", backup__dataTypes="network")
    etc = house.work / "etc"
    (etc / "hosts").write_text("damaged")
    before = contents(etc)
    options = {"restore__dataTypes": "network", "restore__paths": f"{etc}/hosts", "restore__mode": "replace"}
    assert run(backend, "restore", "two", **options)["state"] == "RESTORE_FINISHED"
    after = contents(etc)
    assert (etc / "hosts").read_text() == "hosts"
    assert {name for name in before if before[name] != after.get(name)} == {"hosts"}
    assert set(before) == set(after)


def test_single_assets_are_saved_and_restored_alone(house: LocalAgent, backend: LocalBackend) -> None:
    assert run(backend, "backup", "one", backup__paths="config,start.sh")["state"] == "BACKUP_FINISHED"
    assert {name.split("/")[0] for name in archived(house)} == {"config", "start.sh"}
    saved = contents(house.data)
    (house.data / "config/app.json").write_text("damaged")
    (house.data / "start.sh").write_text("damaged")
    options = {"restore__paths": f"{house.data}/config/app.json", "restore__mode": "replace"}
    assert run(backend, "restore", "two", **options)["state"] == "RESTORE_FINISHED"
    assert contents(house.data)["config/app.json"] == saved["config/app.json"]
    assert (house.data / "start.sh").read_text() == "damaged"
    assert set(contents(house.data)) == set(saved)


def test_what_the_archive_does_not_hold_ends_the_restore_before_the_target_is_touched(
    house: LocalAgent, backend: LocalBackend
) -> None:
    run(backend, "backup", "one", backup__dataTypes="network")
    before = contents(house.work / "etc")
    ended = run(backend, "restore", "two", restore__dataTypes="keys")
    assert (ended["state"], ended["statusCode"]) == ("RESTORE_FAILED", "not-found")
    assert ended["message"].startswith(
        "nothing restored: no archive of data sets keys is here, only of data sets"
    )
    before_data = contents(house.data)
    ended = run(backend, "restore", "four", restore__mode="replace")
    assert ended["statusCode"] == "not-found"
    assert f"no archive of '{house.data}' is here, only of data sets network" in ended["message"]
    (archive,) = (house.storage / "archives").iterdir()
    named = run(backend, "restore", "six", restore__mode="replace", local__name=archive.name)
    assert (named["statusCode"], named["message"]) == (
        "not-found",
        "nothing restored: the archive holds data sets (network): name some in 'restore.dataTypes'",
    )
    assert (contents(house.data), contents(house.work / "etc")) == (before_data, before)
    run(backend, "backup", "three")
    ended = run(backend, "restore", "five", restore__paths="no/such")
    assert (ended["statusCode"], ended["message"]) == (
        "not-found",
        "nothing restored: the archive does not hold 'no/such'",
    )
    assert (contents(house.data), contents(house.work / "etc")) == (before_data, before)


def test_a_rule_is_no_failure_but_what_cannot_be_saved_is(house: LocalAgent, backend: LocalBackend) -> None:
    (house.work / "etc/hosts").unlink()
    ended = run(backend, "backup", "one", backup__dataTypes="network")
    assert (ended["state"], ended["statusCode"]) == ("BACKUP_FAILED", "incomplete")
    assert "1 missing" in ended["message"]
    assert list((house.storage / "archives").iterdir()) == []


def test_where_the_device_s_own_command_collects_there_is_nothing_to_choose(
    device: LocalAgent, backend: LocalBackend, tmp_path: Path
) -> None:
    device.settings |= {
        "backupCmd": "true",
        "restoreCmd": "true",
        "dataSets": {"a": {"paths": str(tmp_path)}},
    }
    device.start()
    backend.announced()
    for operation in ("backup", "restore"):
        for option in ("dataTypes", "paths"):
            options = LOCAL | {f"{operation}.{option}": "a"}
            answer = backend.ask(operation, {"options": options}, request_id=operation + option)
            assert answer["status"] == 400
            assert f"no option '{operation}.{option}' here" in answer["value"]["message"]


def test_info_says_what_would_be_saved_and_makes_nothing(house: LocalAgent, backend: LocalBackend) -> None:
    etc = str(house.work / "etc")
    value = backend.ask("info")["value"]
    assert value["complete"]
    assert value["dataSets"] == {
        "network": {"files": 2, "bytes": 13, "excluded": 1, "unexportable": 0},
        "keys": {"files": 1, "bytes": 13, "excluded": 0, "unexportable": 1},
        "more": {"files": 1, "bytes": 4, "excluded": 0, "unexportable": 0},
    }
    assert value["directory"]["files"] == 4
    assert value["targets"]["device"]["present"]
    assert value["leftOut"] == [
        {"name": f"keys{etc}/keys/tpm.key", "reason": "unexportable by the device's settings"}
    ]
    assert json.loads(command_line(house, "info", "--json")).keys() == value.keys()
    lines = command_line(house, "info").splitlines()
    assert "data set keys: 1 file, 13 B, 1 unexportable" in lines
    assert f"  skipped: keys{etc}/keys/tpm.key (unexportable by the device's settings)" in lines
    assert list((house.storage / "archives").iterdir()) == []
    narrowed = backend.ask("info", {"options": {"backup.dataTypes": "keys"}}, request_id="r")["value"]
    assert (narrowed["files"], "directory" in narrowed) == (1, False)
    refused = backend.ask("info", {"options": {"backup.dataTypes": "modem"}}, request_id="s")
    assert refused["status"] == 400
