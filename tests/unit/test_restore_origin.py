"""Whose archive is it, and is it one that this agent knows? Asked before the target is touched."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import __version__
from agent.base.roots import Root
from agent.formats.manifest import FORMAT, ManifestRoot, Origin
from agent.formats.walk_report import Report
from agent.formats.zip.manifest_block import manifest_block
from agent.formats.zip.reader import ArchiveReader
from agent.formats.zip.writer import ArchiveOptions, write_archive
from agent.mqtt.hono import Identity
from agent.save.walk import WalkRoot, walk
from tests.support.archives import archive_of, go_on
from tests.support.fakes import DEVICE, Device
from tests.unit.test_manifest import ORIGIN, block_of

NAME = "it.zip"
WHERE = {"storage.provider": "local", "local.name": NAME}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_bytes(b"new")
    return tmp_path / "elsewhere"


@pytest.fixture
def target(device: Device) -> Path:
    (device.data / "file").write_bytes(b"old")
    return device.data / "file"


def keep(device: Device, archive: bytes) -> None:
    (device.settings.storage / "archives" / NAME).write_bytes(archive)


def with_block(root: Path, block: bytes) -> bytes:
    report = Report()
    entries = walk(WalkRoot(Root("", root)), report, (), go_on)
    return b"".join(write_archive(entries, report, ArchiveOptions(), go_on, lambda _report: block))


def by(device_id: str, root: Path) -> bytes:
    origin: Origin = replace(ORIGIN, device=device_id)
    return with_block(root, manifest_block(origin, Report()))


def restored(device: Device, **options: str) -> dict[str, Any]:
    """The last value of lastOperation."""
    value = {"options": WHERE | {f"restore.{key}": text for key, text in options.items()}}
    said = device.command("restore", value, request_id=f"r-{len(device.wire.sent)}")
    assert said[0][1]["status"] == 204, said
    device.finish()
    return dict(device.values()[-1])


def test_an_archive_of_another_device_is_refused_and_nothing_is_touched(
    device: Device, root: Path, target: Path
) -> None:
    keep(device, by("edge:other\n", root))
    before = target.stat()
    ended = restored(device)
    assert (ended["state"], ended["statusCode"]) == ("RESTORE_FAILED", "foreign-archive")
    assert ended["message"] == (
        f"the archive is of device 'edge:other\\n', not of '{DEVICE}': if that is meant,"
        " name the device in option 'restore.fromDevice', or give 'restore.foreign'"
    )
    assert target.stat() == before
    assert list(target.parent.iterdir()) == [target]


def test_it_is_taken_when_the_command_says_so(device: Device, root: Path, target: Path) -> None:
    keep(device, by("edge:other", root))
    assert restored(device, foreign="true")["state"] == "RESTORE_FINISHED"
    assert target.read_bytes() == b"new"


@pytest.fixture
def hospitable(tmp_path: Path) -> Iterator[Device]:
    (tmp_path / "device").mkdir()
    device = Device(tmp_path / "device", {"restore.foreign": "true"})
    yield device
    device.close()


def test_the_device_may_take_all_of_them_and_a_command_may_still_refuse(
    hospitable: Device, root: Path
) -> None:
    keep(hospitable, by("edge:other", root))
    assert restored(hospitable, foreign="false")["statusCode"] == "foreign-archive"
    assert restored(hospitable)["state"] == "RESTORE_FINISHED"


@pytest.mark.parametrize("own", [True, False], ids=["own", "without a manifest"])
def test_its_own_archives_and_those_that_say_nothing_are_taken(
    device: Device, root: Path, target: Path, own: bool
) -> None:
    """Kanto's archives do not say whose they are."""
    keep(device, by(DEVICE, root) if own else archive_of(root)[0])
    assert restored(device)["state"] == "RESTORE_FINISHED"
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("value", "code"),
    [({"format": FORMAT + 1}, "newer-format"), ({"format": 1}, "manifest-broken"), ([], "manifest-broken")],
)
def test_what_this_agent_does_not_know_is_refused_even_when_foreign_ones_are_not(
    device: Device, root: Path, target: Path, value: object, code: str
) -> None:
    keep(device, with_block(root, block_of(json.dumps(value).encode())))
    ended = restored(device, foreign="true")
    assert (ended["state"], ended["statusCode"]) == ("RESTORE_FAILED", code)
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


def test_a_preview_says_what_the_archive_does_not_hold(device: Device, root: Path, target: Path) -> None:
    """The first names, in an answer that fits, however many and long they are."""
    report = Report()
    for number in range(50):
        report.skip(f"{number}-" + "\u4e2d" * 190, "unexportable")
    keep(device, with_block(root, manifest_block(replace(ORIGIN, device=DEVICE), report)))
    device.command("restore", {"options": WHERE | {"restore.preview": "true"}})
    device.finish()
    ((_, answer),) = device.command("status", request_id="s")
    preview = answer["value"]["preview"]
    assert preview["state"] == "waiting"
    assert 0 < len(preview["unexportable"]) < 20
    assert preview["unexportable"][0].startswith("0-\u4e2d")


def test_a_preview_asks_the_same(device: Device, root: Path, target: Path) -> None:
    keep(device, by("edge:other", root))
    device.command("restore", {"options": WHERE | {"restore.preview": "true"}})
    device.finish()
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("text", ["yes", "1", "True"])
def test_another_word_than_true_or_false_is_refused(device: Device, text: str) -> None:
    ((_, answer),) = device.command("restore", {"options": WHERE | {"restore.foreign": text}})
    assert answer["status"] == 400
    assert answer["value"]["message"] == "option 'restore.foreign' must be 'true' or 'false'"


def test_a_backup_says_whose_it_is_and_of_what(device: Device, target: Path) -> None:
    """The round trip through the whole agent."""
    options = WHERE | {"backup.description": "d"}
    device.command("backup", {"correlationId": "c", "options": options})
    device.finish()
    assert restored(device)["state"] == "RESTORE_FINISHED"
    with (device.settings.storage / "archives" / NAME).open("rb") as file:
        manifest = ArchiveReader(file).manifest()
    assert manifest
    said = (manifest.device, manifest.correlation_id, manifest.description, manifest.counts.files)
    assert said == (DEVICE, "c", "d", 1)
    assert manifest.sources == [ManifestRoot(path=str(device.data.resolve()))]
    assert manifest.agent == f"edge-backup/{__version__}"


def test_an_archive_that_was_made_under_a_former_id_is_its_own(device: Device, target: Path) -> None:
    """With a name and without one; it is newer than what another device has there."""
    local = {"storage.provider": "local"}
    device.command("backup", {"correlationId": "c", "options": local})
    device.finish()
    (made,) = (device.settings.storage / "archives").iterdir()
    device.service.session.adopt(Identity("edge:renamed"))
    for options in (local, {**local, "local.name": made.name}):
        target.write_bytes(b"changed")
        device.locally("restore", {"options": options})
        device.finish()
        assert device.values()[-1]["state"] == "RESTORE_FINISHED"
        assert target.read_bytes() == b"old"
