"""A repository on a stick that is almost full: backups and retention go on for many nights."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.base.job import State
from providers.free_space import Room
from tests.faults.tally import LONG, tell
from tests.support.fakes import Device
from tests.support.real_disks import tmpfs
from tests.support.repositories import PASSWORD, restic
from tests.support.settings_files import private_file
from tests.support.trees import snapshot

NIGHTS = 60 if LONG else 10
STICK_KIB = 12_000
FILES, FILE_BYTES = 12, 250_000
"""3 MB, of which each night changes a third: three snapshots have 5 MB."""
SPOILED_EVERY, SPOILED_BYTES = 4, 6_000_000


@pytest.fixture
def stick(tmp_path: Path) -> Iterator[Path]:
    with tmpfs(tmp_path / "usb", f"{STICK_KIB}k") as path:
        (path / "of somebody else").write_bytes(bytes(3_000_000))
        yield path


@pytest.fixture
def device(tmp_path: Path, stick: Path) -> Iterator[Device]:
    credentials = tmp_path / "credentials.json"
    private_file(credentials, json.dumps({"password": PASSWORD}))
    settings = {
        "targets.usb.path": str(stick),
        "stores.stick.provider": "local",
        "stores.stick.options": '{"local.target": "usb"}',
        "stores.stick.credentials": str(credentials),
        "stores.stick.format": "repository",
        "stores.stick.prefix": "repository",
        "retention.keepLast": "3",
    }
    device = Device(tmp_path, settings)
    yield device
    device.close()


def change(device: Device, night: int) -> None:
    """Let a third of the files change; on some nights somebody leaves a file that does not fit."""
    chance = random.Random(night)
    for number in range(FILES):
        if night == 0 or chance.random() < 1 / 3:
            (device.data / f"log {number}").write_bytes(chance.randbytes(FILE_BYTES))
    spoiled = device.data / "core dump"
    spoiled.unlink(missing_ok=True)
    if night % SPOILED_EVERY == SPOILED_EVERY - 1:
        spoiled.write_bytes(chance.randbytes(SPOILED_BYTES))


def backup(device: Device, night: int) -> str:
    """Back up; return the status code of the job, which is empty when it ended well."""
    value = {"correlationId": f"night {night}", "options": {"backup.store": "stick"}}
    assert device.command("backup", value, request_id="", header="h")[0][1]["status"] == 204
    device.finish()
    ended = next(device.journal.jobs.newest())
    assert (ended.state == State.FINISHED) == (not ended.status_code)
    return ended.status_code


def prune(device: Device) -> str:
    """Let retention do its daily work; return its problem, or an empty text."""
    asked = device.locally("prune")
    device.finish()
    assert asked.done(20)
    (place,) = [each for each in asked.result()["places"] if each["place"] == "store stick"]
    return str(place["problem"])


@pytest.mark.timeout(60 + 10 * NIGHTS)
def test_a_stick_that_is_almost_full_keeps_working_for_many_nights(
    device: Device, stick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night that does not fit leaves nothing, and the next one that fits is saved.

    In every other week the file system does not say how much room there is, as some do not, so that the
    kernel's ENOSPC comes in the middle of a pack.
    """
    codes = Counter[str]()
    for night in range(NIGHTS):
        change(device, night)
        with monkeypatch.context() as patch:
            if night // 7 % 2 == 0:
                patch.setattr(Room, "check", lambda _room, *_needed: 1 << 30)
            code = backup(device, night)
        fits = night % SPOILED_EVERY != SPOILED_EVERY - 1
        assert code == ("" if fits else "no-space"), f"night {night}"
        assert prune(device) == ""
        assert not any((stick / "repository/locks").iterdir())
        codes[code or "saved"] += 1
    change(device, NIGHTS * SPOILED_EVERY)
    assert backup(device, NIGHTS) == ""
    repository = stick / "repository"
    restic(repository, "check", "--read-data")
    restic(repository, "restore", "latest", "--target", str(tmp_path / "restored"))
    by_restic = tmp_path / "restored" / device.data.relative_to("/")
    assert snapshot(by_restic) == snapshot(device.data)
    assert len(json.loads(restic(repository, "snapshots", "--json"))) == 4
    tell(
        f"{NIGHTS} nights on a full stick: " + ", ".join(f"{number} {code}" for code, number in codes.items())
    )
