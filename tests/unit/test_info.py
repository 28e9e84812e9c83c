"""The question `info`: true counts, told when they are known, within the room of a message."""

import os
import sqlite3
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.base.refusals import Refused
from agent.base.text import compact_json
from agent.jobs.queries.info import Info
from agent.jobs.requests.control import InfoRequest
from agent.jobs.requests.options import Options, backup_selection
from agent.jobs.staging import OwnDirectories
from tests.support.fakes import Device
from tests.support.trees import Dir, File, Link, Spec, make_tree

TREE: Spec = {
    "a": File(b"12345"),
    "sub": Dir(),
    "sub/b": File(b"123"),
    "sub/c.tmp": File(b"1"),
    "d.key": File(),
}


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    etc = make_tree(
        tmp_path.resolve() / "etc", {"hosts": File(b"1234"), "net": Dir(), "net/eth0": File(b"1")}
    )
    settings = {
        "exclude": "*.tmp",
        "unexportable": "*.key",
        "dataSets.network.paths": f"{etc}/hosts,{etc}/net",
        "dataSets.gone.paths": f"{etc}/gone",
        "targets.device.path": f"{tmp_path}/archives",
        "targets.usb.path": f"{tmp_path}/nix",
        "stores.site.provider": "local",
    }
    (tmp_path / "archives").mkdir()
    device = Device(tmp_path, settings)
    make_tree(device.data, TREE)
    os.mkfifo(device.data / "pipe")
    yield device
    device.close()


def asked(
    device: Device, within_s: float = 25, room_bytes: int = 1 << 20, **options: str
) -> Mapping[str, Any]:
    """Return the answer as soon as it is told."""
    engine, told = device.service.engine, list[Mapping[str, Any]]()
    own = OwnDirectories(device.settings)
    info = Info(
        device.settings, device.service.mailbox, engine.progress, own, waiting=dict, within_s=within_s
    )
    chosen = Options({f"backup.{key}": text for key, text in options.items()})
    info.info(InfoRequest(backup_selection(chosen)), room_bytes, told.append)
    while not told:
        device.take()
    return told[0]


def test_everything_that_the_settings_name_is_counted_and_nothing_is_made(device: Device) -> None:
    value = dict(asked(device))
    assert value.pop("targets")["device"].pop("freeBytes") > 0
    assert value == {
        "complete": True,
        "files": 4, "bytes": 13, "excluded": 1, "unexportable": 3,
        "reasons": {"FIFO": 1, "unexportable by the device's settings": 1, "missing": 1},
        "directory": {"files": 2, "bytes": 8, "excluded": 1, "unexportable": 2},
        "dataSets": {
            "network": {"files": 2, "bytes": 5, "excluded": 0, "unexportable": 0},
            "gone": {"files": 0, "bytes": 0, "excluded": 0, "unexportable": 1},
        },
        "stores": ["site"],
        "job": None,
        "leftOut": value["leftOut"],
    }  # fmt: skip
    assert {each["reason"] for each in value["leftOut"]} == set(value["reasons"])
    assert not list((device.settings.storage / "backups").iterdir())


def test_targets_say_whether_they_are_there(device: Device) -> None:
    targets = asked(device)["targets"]
    assert targets["device"]["present"]
    assert not targets["usb"]["present"]
    assert "'usb' is not there" in targets["usb"]["problem"]


def test_what_the_format_of_archives_skips_is_skipped_here_too(tmp_path: Path) -> None:
    """`info` counted links as saved that a backup in Kanto's dialect skips."""
    with closing(Device(tmp_path, {"archive.dialect": "kanto"})) as device:
        make_tree(device.data, {"a": File(b"1"), "link": Link("a"), "C:\\logs": File(b"22")})
        value = asked(device)
    assert (value["files"], value["bytes"]) == (1, 1)
    assert value["reasons"] == {
        "link, which Kanto cannot restore": 1,
        "name with a backslash, which Kanto cannot restore": 1,
    }


def test_options_of_a_backup_narrow_it(device: Device) -> None:
    assert asked(device, dataTypes="network")["files"] == 2
    assert asked(device, paths="sub")["bytes"] == 3
    assert asked(device, exclude="sub")["files"] == 3
    with pytest.raises(Refused, match="there is no data set 'x'"):
        asked(device, dataTypes="x")


def test_what_cannot_be_looked_at_is_told_beside_the_rest(device: Device) -> None:
    device.data.rename(device.data.with_name("elsewhere"))
    value = asked(device)
    assert "does not exist" in value["directory"]["problem"]
    assert value["files"] == 2


def test_when_time_is_up_it_says_what_it_has(device: Device) -> None:
    assert asked(device, within_s=0)["complete"] is False


@pytest.mark.parametrize("room_bytes", [300, 700, 1500])
def test_detail_goes_before_counts_do(device: Device, room_bytes: int) -> None:
    for number in range(300):
        os.mkfifo(device.data / f"pipe-{number}")
    value = asked(device, room_bytes=room_bytes)
    assert len(compact_json(value)) <= room_bytes
    assert (value["files"], value["bytes"], value["unexportable"]) == (4, 13, 303)
    assert len(value["leftOut"]) + value["leftOutMore"] == 303


def test_over_the_wire_it_is_answered_later_and_one_at_a_time(device: Device) -> None:
    assert device.command("info", request_id="one", header="one") == []
    ((topic, refused),) = device.command("info", request_id="two", header="two")
    assert (topic.rpartition("/")[2], refused["value"]["status"]) == ("409", 409)
    before = len(device.wire.sent)
    while len(device.wire.sent) == before:
        device.take()
    topic, answer = device.wire.sent[-1]
    assert (topic.endswith("/res/one/200"), answer["status"]) == (True, 200)
    assert (answer["headers"]["correlation-id"], answer["value"]["files"]) == ("one", 4)
    assert device.command("info", request_id="three", header="three") == []
    while len(device.wire.sent) == before + 1:
        device.take()


def test_a_target_inside_the_directory_is_passed_over_and_said_so(tmp_path: Path) -> None:
    """Each backup would hold all that were made before."""
    device = Device(tmp_path, {"targets.device.path": f"{tmp_path}/data/archives"})
    make_tree(device.data, {"f": File(b"x"), "archives": Dir(), "archives/old.zip": File(b"PK")})
    with closing(device):
        told = asked(device)
        assert (told["files"], told["excluded"]) == (1, 1)
        assert told["leftOut"] == [
            {"name": "archives", "reason": "the agent's own: storage, archives or work"}
        ]
        for number in (1, 2):
            options = {"storage.provider": "local", "local.name": f"{number}.zip"}
            value = {"correlationId": f"b{number}", "options": options}
            device.command("backup", value, request_id=f"r{number}")
            device.finish()
        with zipfile.ZipFile(device.data / "archives" / "2.zip") as archive:
            assert archive.namelist() == ["f"]


@pytest.mark.parametrize("sqlite", ["consistent", "bytes"])
@pytest.mark.parametrize("journal_mode", ["WAL", "PERSIST"])
def test_databases_count_as_a_backup_saves_them(tmp_path: Path, sqlite: str, journal_mode: str) -> None:
    """A copy stands for a database and the files beside it, and a database that is at rest for itself."""
    device = Device(tmp_path, {"sqlite": sqlite})
    with closing(sqlite3.connect(device.data / "used.db", isolation_level=None)) as used:
        used.execute(f"PRAGMA journal_mode={journal_mode}")
        used.execute("CREATE TABLE t (x)")
        (device.data / "used.db-shm.txt").touch()
        make_tree(device.data / "other", {"not.db-wal": File(b"no database")})
        counted = asked(device)["files"]
        device.command("backup", {"options": {"storage.provider": "local", "local.name": "it.zip"}})
        device.finish()
    names = zipfile.ZipFile(device.settings.storage / "archives/it.zip").namelist()
    assert counted == len([name for name in names if not name.endswith("/")])
    device.close()
