"""Everything that a restore makes has the archive's owner, mode, attributes and times."""

import os
import shutil
from typing import Any

import pytest

from tests.support.fakes import Device
from tests.support.restoring import is_clean
from tests.support.trees import Dir, File, Spec, make_tree, snapshot, write_zip

PLACE = {"storage.provider": "local", "local.name": "it.zip"}
APP = (4001, 4002)
TREE: Spec = {"a": Dir(0o700), "a/b": Dir(0o710), "a/b/key": File(b"key", 0o600), "other": Dir(0o700)}


@pytest.fixture
def device(device: Device) -> Device:
    make_tree(device.data, TREE)
    for name in ("", *TREE):
        os.chown(device.data / name, *APP)
    os.setxattr(device.data / "a", "user.note", b"private")
    os.setxattr(device.data, "user.note", b"root")
    device.data.chmod(0o700)
    ask(device, "backup")
    return device


def ask(device: Device, operation: str, **options: str) -> dict[str, Any]:
    value = {"options": PLACE | options}
    said = device.command(operation, value, request_id=os.urandom(4).hex(), header=os.urandom(4).hex())
    assert said[0][1]["status"] == 204, said
    device.finish()
    ended = dict(device.values()[-1])
    assert ended["state"].endswith("_FINISHED"), ended
    return ended


def test_a_private_directory_that_was_removed_comes_back_private(device: Device) -> None:
    """It has no entry of its own in the archive: it came back as 0755 of root."""
    before = snapshot(device.data)
    shutil.rmtree(device.data)
    ask(device, "restore")
    assert snapshot(device.data) == before
    assert os.getxattr(device.data, "user.note") == b"root"


def test_a_directory_that_was_opened_since_is_private_again(device: Device) -> None:
    before = snapshot(device.data)
    device.data.chmod(0o777)
    os.setxattr(device.data, "user.later", b"1")
    os.chown(device.data, 0, 0)
    ask(device, "restore")
    assert snapshot(device.data) == before
    assert os.listxattr(device.data) == ["user.note"]


def test_a_single_path_brings_its_directories_with_it(device: Device) -> None:
    """The archive has entries for both: they came back as 0755 of root."""
    before = snapshot(device.data)
    shutil.rmtree(device.data / "a")
    ask(device, "restore", **{"restore.paths": "a/b/key"})
    after = snapshot(device.data)
    assert {name: after[name] for name in after if name} == {name: before[name] for name in before if name}
    assert os.getxattr(device.data / "a", "user.note") == b"private"


def test_a_single_path_brings_the_root_with_it_when_that_is_gone(device: Device) -> None:
    before = snapshot(device.data)
    shutil.rmtree(device.data)
    ask(device, "restore", **{"restore.paths": "a/b/key"})
    assert snapshot(device.data) == {name: found for name, found in before.items() if name != "other"}


def test_a_single_path_leaves_the_directories_on_the_way_alone_that_are_there(device: Device) -> None:
    (device.data / "a").chmod(0o751)
    device.data.chmod(0o755)
    os.removexattr(device.data / "a", "user.note")
    (device.data / "a/b/key").write_bytes(b"changed")
    ask(device, "restore", **{"restore.paths": "a/b/key"})
    assert [(device.data / name).stat().st_mode & 0o777 for name in ("", "a", "a/b")] == [0o755, 0o751, 0o710]
    assert os.listxattr(device.data / "a") == []
    assert (device.data / "a/b/key").read_bytes() == b"key"


def test_while_a_preview_waits_a_directory_that_was_made_is_private(device: Device) -> None:
    shutil.rmtree(device.data)
    value = {"correlationId": "P", "options": PLACE | {"restore.preview": "true"}}
    device.command("restore", value, request_id="p")
    device.finish()
    assert not is_clean(device.data)
    assert device.data.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_was_made_for_an_archive_from_elsewhere_is_as_usual(device: Device) -> None:
    write_zip(device.settings.storage / "archives" / "it.zip", {"file": File(b"new")})
    shutil.rmtree(device.data)
    ask(device, "restore")
    assert device.data.stat().st_mode & 0o777 == 0o755
    assert is_clean(device.data)
