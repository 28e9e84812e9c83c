"""The question `archives` over the wire, and `edge-backup archives`."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.backend import DEVICE
from tests.support.local_agent import LocalAgent, LocalBackend, run
from tests.support.repositories import stores_on_a_stick
from tests.support.waiting import wait_until

from .conftest import Started

OLD = "edge:old"


@pytest.fixture
def shelf(tmp_path: Path) -> dict[str, Any]:
    data_sets = {"logs": {"paths": str(tmp_path / "device/data/logs")}}
    return {**stores_on_a_stick(tmp_path), "dataSets": data_sets}


@pytest.fixture(params=["zips", "snapshots"])
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def asked(backend: LocalBackend, **options: str) -> dict[str, Any]:
    answer = backend.ask("archives", {"options": options})
    assert answer["status"] == 200, answer
    return dict(answer["value"])


def listed(agent: LocalAgent, *arguments: str) -> list[dict[str, Any]]:
    done = run(agent, "archives", "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def on_new_hardware(agent: LocalAgent, backend: LocalBackend) -> None:
    """Start again with an empty storage, as another device."""
    agent.stop()
    shutil.rmtree(agent.storage)
    backend.device_id = DEVICE
    agent.start()
    backend.wait(lambda message: message[1]["topic"].startswith("edge/device/things/twin"), "the new device")


def test_a_backend_lists_archives_page_by_page(
    started: Started, backend: LocalBackend, shelf: dict[str, Any], store: str
) -> None:
    """A page is what fits into one message of Hono."""
    started(**shelf)
    for number in range(6):
        backend.run("backup", f"b{number}", {"backup.store": store, "backup.name": f"n{number}"})
    found, options = [], {"restore.store": store}
    while True:
        page = asked(backend, **options)
        found += page["archives"]
        if "next" not in page:
            break
        options["archives.after"] = page["next"]
    assert [each["label"] for each in found] == [f"n{number}" for number in reversed(range(6))]
    assert found[0].keys() == found[-1].keys()
    assert asked(backend, **{"restore.store": store, "archives.after": "gone"})["code"] == "not-found"


def test_the_journal_says_what_an_archive_is_of(
    started: Started, backend: LocalBackend, shelf: dict[str, Any], store: str
) -> None:
    agent = started(**shelf)
    backend.run("backup", "one", {"backup.store": store, "backup.retentionDate": "2999-01-01T00:00:00Z"})
    backend.run("backup", "two", {"backup.store": store, "backup.dataTypes": "logs"})
    assert run(agent, "verify", "--store", store).returncode == 0
    logs, everything = asked(backend, **{"restore.store": store})["archives"]
    assert (everything["directory"], everything["dataSets"]) == (str(agent.data), [])
    assert (everything["files"], everything["verified"]) == (4, None)
    assert everything["retentionDate"] == "2999-01-01T00:00:00.000000Z"
    assert (logs["directory"], logs["dataSets"], logs["verified"]) == (None, ["logs"], True)
    assert logs["encrypted"] is (store == "snapshots")


def test_archives_of_another_device_are_listed_and_their_manifests_say_more(
    started: Started, backend: LocalBackend, shelf: dict[str, Any], store: str
) -> None:
    """Replacement hardware has no journal that knows them."""
    backend.device_id = OLD
    agent = started(**shelf)
    made = run(agent, "backup", "--store", store, "--retention-date", "2999-01-01T00:00:00Z")
    assert made.returncode == 0
    on_new_hardware(agent, backend)
    assert listed(agent, "--store", store) == []
    (plain,) = listed(agent, "--store", store, "--device", OLD)
    assert (plain["source"], plain["files"], plain["retentionDate"]) == (None, None, None)
    (detailed,) = listed(agent, "--store", store, "--device", OLD, "--details")
    assert (detailed["directory"], detailed["files"]) == (str(agent.data), 4)
    assert detailed["retentionDate"] == "2999-01-01T00:00:00.000000Z"
    options = {"restore.store": store, "restore.fromDevice": OLD, "archives.details": "true"}
    answer = backend.ask("archives", {"options": options})
    assert {"store": store, **answer["value"]["archives"][0]} == detailed


def test_every_store_is_listed_once_and_one_that_is_absent_is_only_named(
    started: Started, backend: LocalBackend, shelf: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "archives").mkdir()
    shelf["targets"] |= {
        "device": {"path": str(tmp_path / "archives")},
        "absent": {"path": str(tmp_path / "absent"), "mount": True},
    }
    agent = started(**shelf)
    for options in ({"backup.store": "zips"}, {"backup.store": "snapshots"}, {"storage.provider": "local"}):
        assert backend.run("backup", str(options), options)["state"] == "BACKUP_FINISHED"
    done = run(agent, "archives", "--json")
    assert done.returncode == 0
    assert [json.loads(line)["store"] for line in done.stdout.splitlines()] == ["snapshots", "zips", "device"]
    assert "store absent: " in done.stderr
    assert run(agent, "archives", "--store", "absent").returncode == 1
    told = run(agent, "archives", "--store", "device")
    assert told.stdout.splitlines()[0] == "device:"
    assert f"'{agent.data}'" in told.stdout
    unknown = run(agent, "archives", "--store", "nix")
    assert (unknown.returncode, unknown.stderr) == (
        1,
        "no store 'nix': the device has snapshots, zips, absent, device, usb\n",
    )


def test_a_store_that_cannot_be_read_says_why(
    started: Started, backend: LocalBackend, shelf: dict[str, Any], tmp_path: Path
) -> None:
    started(**shelf)
    assert asked(backend, **{"restore.store": "snapshots"}) == {"archives": []}  # no backup has made it yet
    backend.run("backup", "one", {"backup.store": "snapshots"})
    (key,) = (tmp_path / "usb/snapshots/keys").iterdir()
    key.chmod(0o600)
    key.write_text("{}")
    closed = asked(backend, **{"restore.store": "snapshots"})
    assert closed == {"archives": [], "code": "wrong-key", "message": "the repository has no key"}
    refused = backend.ask("archives", {"options": {"https.url": "https://store.example/x.zip"}})
    assert (refused["status"], "has no list" in refused["value"]["message"]) == (400, True)


# Choosing one


@pytest.fixture
def saved(started: Started, shelf: dict[str, Any], store: str) -> LocalAgent:
    """A device with two archives of its data, `first` and `second`, and one of another directory between."""
    agent = started(**shelf, mode="lax")
    other = agent.work / "other"
    other.mkdir()
    (other / "what").write_text("other")
    for label, directory in (("first", agent.data), ("between", other), ("second", agent.data)):
        (agent.data / "start.sh").write_text(label)
        made = run(agent, "backup", "--store", store, "--name", label, "--dir", str(directory))
        assert made.returncode == 0, made.stderr
    (agent.data / "start.sh").write_text("changed")
    return agent


def labelled(agent: LocalAgent, store: str) -> dict[str, dict[str, Any]]:
    return {each["label"]: each for each in listed(agent, "--store", store)}


def test_one_archive_is_named_as_it_is_listed(saved: LocalAgent, store: str) -> None:
    name = labelled(saved, store)["first"]["name"]
    done = run(saved, "restore", "--store", store, "--archive", name)
    assert (done.returncode, name in done.stdout) == (0, True), done.stderr
    assert (saved.data / "start.sh").read_text() == "first"
    for option, text in (("before", "2027-01-01T00:00:00Z"), ("source", "/srv")):
        both = run(saved, "restore", "--store", store, "--archive", name, f"--{option}", text)
        assert (both.returncode, both.stderr) == (
            1,
            f"option 'restore.{option}' chooses among archives, and the request names one: leave one out\n",
        )


def test_the_newest_from_before_a_time_is_taken_and_told(saved: LocalAgent, store: str) -> None:
    """A backup that has begun by then and still reads does not count: it may have read what came after."""
    second = datetime.fromisoformat(labelled(saved, store)["second"]["made"])
    # Within a second of the one before, a snapshot would have a later time than its own.
    wait_until(lambda: datetime.now(UTC) > second + timedelta(seconds=1), what="another second")
    assert run(saved, "backup", "--store", store, "--name", "third").returncode == 0
    found = labelled(saved, store)
    just_begun = datetime.fromisoformat(found["third"]["made"]) + timedelta(microseconds=1)
    done = run(saved, "restore", "--store", store, "--before", just_begun.isoformat())
    assert (done.returncode, f"'{found['second']['name']}' was chosen" in done.stdout) == (0, True), (
        done.stderr
    )
    assert (saved.data / "start.sh").read_text() == "second"
    early = run(saved, "restore", "--store", store, "--before", found["first"]["made"])
    assert (early.returncode, (saved.data / "start.sh").read_text()) == (1, "second")
    first = datetime.fromisoformat(found["first"]["made"]).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert early.stderr == (
        f"restore failed: there is no archive of this device from before {first}:"
        f" the oldest is '{found['first']['name']}' of {first} (not-found)\n"
    )


def test_an_archive_of_another_directory_is_restored_where_it_is_wanted(
    saved: LocalAgent, store: str
) -> None:
    target = saved.work / "elsewhere"
    arguments = ("restore", "--store", store, "--dir", str(target), "--source")
    done = run(saved, *arguments, f"{saved.work}/other/")
    assert (done.returncode, (target / "what").read_text()) == (0, "other"), done.stderr
    absent = run(saved, *arguments, "/srv/nix")
    assert absent.returncode == 1
    assert absent.stderr.startswith(
        f"restore failed: nothing restored: no archive of '/srv/nix' is here, only of '{saved.data}' ("
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--before", "yesterday"], "option 'restore.before': expected an RFC 3339 time"),
        (["--source", "srv"], "option 'restore.source' must be the absolute path"),
        (["--source", "/srv", "--data-type", "logs"], "option 'restore.source' is for a directory"),
    ],
)
def test_a_description_that_says_nothing_is_refused(
    started: Started, shelf: dict[str, Any], arguments: list[str], says: str
) -> None:
    refused = run(started(**shelf), "restore", "--store", "zips", *arguments)
    assert (refused.returncode, says in refused.stderr) == (1, True), refused.stderr


def test_verify_inspect_and_extract_choose_as_restore_does(saved: LocalAgent, store: str) -> None:
    found = labelled(saved, store)
    arguments = ("--store", store, "--before", found["second"]["made"], "--source", str(saved.data))
    verified = run(saved, "verify", *arguments, "--json")
    assert json.loads(verified.stdout)["archive"] == found["first"]["name"], verified.stderr
    shown = run(saved, "inspect", *arguments, "--json")
    assert json.loads(shown.stdout)["manifest"]["name"] == "first"
    for path in ("config/app.json", str(saved.data / "config/app.json"), "./config//app.json"):
        done = run(saved, "extract", path, *arguments)
        assert (done.returncode, done.stdout) == (0, '{"interval": 30}\n'), done.stderr
    for path, says in (("nix", "'nix' is not in the archive"), ("config", "'config' is a directory")):
        none = run(saved, "extract", path, *arguments)
        assert (none.returncode, none.stdout, says in none.stderr) == (1, "", True)


# Replacement hardware, in short; tests/system has the story


def test_only_archives_of_the_device_that_was_named_are_restored(
    started: Started, backend: LocalBackend, shelf: dict[str, Any], store: str
) -> None:
    backend.device_id = OLD
    agent = started(**shelf)
    assert run(agent, "backup", "--store", store).returncode == 0
    on_new_hardware(agent, backend)
    (agent.data / "start.sh").unlink()
    none = run(agent, "restore", "--store", store)
    assert (none.returncode, "; of other devices there are '" in none.stderr) == (1, True)
    assert f"of '{OLD}' (not-found)" in none.stderr
    wrong = run(agent, "restore", "--store", store, "--from-device", "edge:nix")
    assert "there is no archive of device 'edge:nix' at " in wrong.stderr
    name = listed(agent, "--store", store, "--device", OLD)[0]["name"]
    foreign = run(agent, "restore", "--store", store, "--archive", name, "--from-device", "edge:nix")
    assert foreign.stderr.startswith(f"restore failed: the archive is of device '{OLD}', not of 'edge:nix'")
    assert not (agent.data / "start.sh").exists()
    done = run(agent, "restore", "--store", store, "--from-device", OLD)
    assert (done.returncode, f"'{name}' was chosen" in done.stdout) == (0, True), done.stderr
    assert (agent.data / "start.sh").exists()


def test_a_target_is_listed_beside_a_store_in_a_directory_of_it(
    started: Started, shelf: dict[str, Any]
) -> None:
    """Such a store sees its directory alone: the archives at the top of the target are nobody else's."""
    shelf["stores"]["zips"]["options"]["local.directory"] = "{device}"
    agent = started(**shelf)
    done = run(agent, "backup", "-o", "storage.provider=local", "-o", "local.target=usb")
    assert done.returncode == 0, done.stderr
    assert [each["store"] for each in listed(agent)] == ["usb"]


def test_a_directory_for_each_device_is_that_of_the_device_that_was_named(
    started: Started, backend: LocalBackend, shelf: dict[str, Any]
) -> None:
    """A repository's prefix has its test in `tests/integration`; here are archives."""
    shelf["stores"]["zips"]["options"]["local.directory"] = "{device}"
    backend.device_id = OLD
    agent = started(**shelf)
    assert run(agent, "backup", "--store", "zips").returncode == 0
    on_new_hardware(agent, backend)
    (agent.data / "start.sh").unlink()
    none = run(agent, "restore", "--store", "zips")
    assert "one of another device is named by its id" in none.stderr
    assert len(listed(agent, "--store", "zips", "--device", OLD)) == 1
    done = run(agent, "restore", "--store", "zips", "--from-device", OLD)
    assert (done.returncode, (agent.data / "start.sh").exists()) == (0, True), done.stderr
