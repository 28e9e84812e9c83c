"""Archives below a prefix: of the provider's options, with parts of the device's id in it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import providers
from agent.base.device_ids import fill_in
from agent.settings.load import SettingsError, load
from providers.api import Limits, Target, check_name
from providers.errors import BadOptions
from providers.prefix import check_prefix, opened
from tests.support.fakes import Device
from tests.support.http_server import keeping

BELOW = {
    "stores.usb.provider": "local",
    "stores.usb.options": '{"local.target": "stick", "local.directory": "sites/{namespace}/{name}/"}',
}


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    (tmp_path / "stick").mkdir()
    device = Device(tmp_path, {"targets.stick.path": str(tmp_path / "stick"), **BELOW})
    (device.data / "file").write_text("content")
    device.service.engine.identified("edge:device")
    yield device
    device.close()


def run(device: Device, operation: str, **options: str) -> dict[str, Any]:
    """The end of a job, as the twin is told."""
    told = {key.replace("_", "."): text for key, text in options.items()}
    header = f"h{len(device.wire.sent)}"  # else it would count as a redelivery
    answer = device.command(operation, {"correlationID": "X", "options": told}, header=header)[0][1]
    assert answer["status"] == 204, answer
    device.finish()
    return device.values()[-1]


def archives(stick: Path) -> list[str]:
    return sorted(str(path.relative_to(stick)) for path in stick.rglob("*.zip"))


def test_the_newest_archive_below_the_prefix_is_restored_verified_and_removed_by_retention(
    device: Device, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    other = stick / "backup-2027-01-01-00.00.00.000-00000000.zip"
    other.write_bytes(b"not below the prefix")
    for content in ("first", "second"):
        (device.data / "file").write_text(content)
        assert run(device, "backup", backup_store="usb")["state"] == "BACKUP_FINISHED"
    first, second, _ = sorted(archives(stick), key=lambda name: "sites" not in name)
    assert first.startswith("sites/edge/device/backup-")
    (device.data / "file").write_text("lost")
    assert run(device, "restore", restore_store="usb")["state"] == "RESTORE_FINISHED"
    assert (device.data / "file").read_text() == "second"
    named = run(device, "restore", restore_store="usb", restore_archive=Path(first).name)
    assert (named["state"], (device.data / "file").read_text()) == ("RESTORE_FINISHED", "first")
    assert device.command("verify", {"options": {"restore.store": "usb"}})[0][1]["status"] == 204
    device.finish()
    device.settings = device.settings.model_copy(
        update={"retention": device.settings.retention.model_copy(update={"keep_last": 1})}
    )
    device.restart()
    asked = device.locally("prune", {"dryRun": False})
    device.finish()
    assert asked.done(20)
    removed = {place["place"]: place["removed"] for place in asked.result()["places"]}
    assert removed["store usb"] == [Path(first).name]
    assert archives(stick) == sorted([other.name, second])


def test_a_command_may_name_a_prefix(device: Device, tmp_path: Path) -> None:
    end = run(device, "backup", storage_provider="local", local_target="stick", local_directory="by-{device}")
    assert end["state"] == "BACKUP_FINISHED"
    (name,) = archives(tmp_path / "stick")
    assert name.startswith("by-edge:device/backup-")


@pytest.mark.parametrize("prefix", ["../up", "/top", "a//b", "a/../../b", "{name", "{site}", ".", "x" * 600])
def test_a_prefix_that_leads_elsewhere_or_is_a_mistake_is_refused(device: Device, prefix: str) -> None:
    options = {"storage.provider": "local", "local.target": "stick", "local.directory": prefix}
    answer = device.command("backup", {"correlationID": "X", "options": options})[0][1]["value"]
    assert "local.directory" in answer["message"]
    store = {"stores.a.provider": "local", "stores.a.options": json.dumps({"local.directory": prefix})}
    with pytest.raises(SettingsError, match=r"stores\.a\.options: 'local\.directory'"):
        load(store, None, {})


@given(st.text(min_size=1, max_size=40))
def test_no_device_id_leads_out_of_its_prefix(device_id: str) -> None:
    """An id is what the broker's connector says, and nobody checks it before."""
    for template in ("top/{device}", "top/{namespace}/{name}", "{name}/x"):
        try:
            filled = check_prefix(fill_in(template, device_id), "prefix")
        except (ValueError, BadOptions):
            continue
        assert filled.count("/") == template.count("/")
        assert check_name(filled) == filled
    assert fill_in("a/{device}", "../..") == "a/.._.."
    assert fill_in("{device}", "a:{name}") == "a:{name}", "what an id has in it is no placeholder"


def test_an_id_without_the_part_that_a_prefix_needs_is_refused() -> None:
    """Else two devices would share a directory that each is to have alone."""
    with pytest.raises(ValueError, match="no such part"):
        fill_in("top/{name}", "unnamed")


def test_a_program_opens_a_storage_below_a_prefix(tmp_path: Path) -> None:
    limits = Limits(targets={"device": Target(tmp_path)})
    storage = opened(providers.factory("local"), {"local.directory": "a/b"}, limits)
    assert list(storage.list("")) == []
    assert storage.create("c/d", b"x").name == "c/d"
    assert (tmp_path / "a" / "b" / "c" / "d").read_bytes() == b"x"
    (tmp_path / "a" / "bc").write_bytes(b"not below it")
    assert [stored.name for stored in storage.list("")] == ["c/d"]
    assert storage.location("c/d") == "local:device/a/b/c/d"


def test_a_url_that_ends_in_a_slash_is_a_store_of_archives(tmp_path: Path) -> None:
    with keeping() as (url, kept):
        device = Device(
            tmp_path,
            {"stores.web.provider": "generic", "stores.web.options": f'{{"https.url": "{url}/{{device}}/"}}'},
        )
        device.service.engine.identified("edge:device")
        (device.data / "file").write_text("content")
        assert run(device, "backup", backup_store="web")["state"] == "BACKUP_FINISHED"
        (target,) = kept
        assert target.startswith("/edge%3Adevice/backup-")
        (device.data / "file").write_text("lost")
        which = device.command("restore", {"options": {"restore.store": "web"}}, header="which")[0][1]
        assert "https.name" in which["value"]["message"], "nothing can be listed there"
        archive = target.rpartition("/")[2]
        assert run(device, "restore", restore_store="web", restore_archive=archive)["statusCode"] == ""
        assert (device.data / "file").read_text() == "content"
        device.close()
