"""File systems below a directory are saved with it, named, and restored into those mounted there."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes import Device
from tests.support.real_disks import real_disk, tmpfs
from tests.support.restoring import is_clean
from tests.support.trees import Dir, File, Spec, differences, make_tree, snapshot

PLACE = {"storage.provider": "local", "local.name": "it.zip"}
DATA: Spec = {"top": File(b"top"), "var": Dir(), "var/lib": Dir(), "var/lib/own": File(b"own")}
DISK: Spec = {"data": Dir(0o700), "data/file": File(b"on the disk"), "note": File(b"n", 0o600)}


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """`data/var/lib/disk` is a file system of its own, and `data/bound` a directory from elsewhere."""
    data = make_tree(tmp_path.resolve() / "data", DATA)
    with tmpfs(data / "var/lib/disk") as disk:
        disk.chmod(0o711)
        make_tree(disk, DISK)
        bound = data / "bound"
        bound.mkdir()
        (tmp_path / "elsewhere").mkdir()
        subprocess.run(["mount", "--bind", tmp_path / "elsewhere", bound], check=True)
        (bound / "only").write_bytes(b"bound")
        try:
            yield data
        finally:
            subprocess.run(["umount", bound], check=True)


def ask(device: Device, operation: str, **options: str) -> dict[str, Any]:
    value = {"correlationId": f"X{len(device.wire.sent)}", "options": PLACE | options}
    number = str(len(device.wire.sent))
    said = device.command(operation, value, request_id=number, header=number)
    assert said[0][1]["status"] == 204, said
    device.finish()
    return dict(device.values()[-1])


def spoil(data: Path) -> None:
    (data / "top").write_bytes(b"spoiled")
    (data / "var/lib/disk/data/file").write_bytes(b"spoiled")
    (data / "var/lib/disk/note").unlink()
    (data / "var/lib/disk").chmod(0o777)
    (data / "var/lib/disk/later").write_bytes(b"later")
    (data / "bound/only").unlink()


@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_a_restore_brings_back_what_was_on_the_file_systems_below(
    mounted: Path, device_at: Device, mode: str
) -> None:
    """It was saved without a word, and then the restore was refused."""
    ended = ask(device_at, "backup")
    assert "what is mounted at 'bound', 'var/lib/disk' is in it, too" in ended["message"]
    before = snapshot(mounted)
    spoil(mounted)
    ended = ask(device_at, "restore", **{"restore.mode": mode})
    assert (ended["state"], ended["message"]) == ("RESTORE_FINISHED", "")
    later = mounted / "var/lib/disk/later"
    assert later.exists() == (mode == "merge")
    later.unlink(missing_ok=True)
    found = [each for each in differences(before, snapshot(mounted)) if "mtime_ns" not in each]
    assert found == []
    assert all(map(is_clean, (mounted, mounted / "var/lib/disk", mounted / "bound")))


def test_a_preview_of_it_is_carried_out_in_each_of_them(mounted: Path, device_at: Device) -> None:
    ask(device_at, "backup")
    before = snapshot(mounted)
    spoil(mounted)
    value = {"correlationId": "P", "options": PLACE | {"restore.preview": "true", "restore.mode": "replace"}}
    device_at.command("restore", value, request_id="p", header="p")
    device_at.finish()
    device_at.command("finalize", {"correlationId": "P"}, request_id="f", header="f")
    device_at.finish()
    assert device_at.values()[-1]["state"] == "RESTORE_FINISHED"
    assert [each for each in differences(before, snapshot(mounted)) if "mtime_ns" not in each] == []


def test_a_single_path_is_restored_on_the_file_system_that_it_is_on(mounted: Path, device_at: Device) -> None:
    ask(device_at, "backup")
    spoil(mounted)
    ended = ask(device_at, "restore", **{"restore.paths": "var/lib/disk/data/file"})
    assert ended["state"] == "RESTORE_FINISHED"
    assert (mounted / "var/lib/disk/data/file").read_bytes() == b"on the disk"
    assert (mounted / "top").read_bytes() == b"spoiled"


def test_what_is_mounted_stays_where_the_archive_has_nothing_of_it(mounted: Path, device_at: Device) -> None:
    """The archive was made while the disk was not there, and `replace` would empty it."""
    subprocess.run(["umount", mounted / "var/lib/disk"], check=True)
    ask(device_at, "backup")
    subprocess.run(["mount", "-t", "tmpfs", "none", mounted / "var/lib/disk"], check=True)
    (mounted / "var/lib/disk/precious").write_bytes(b"precious")
    ended = ask(device_at, "restore", **{"restore.mode": "replace"})
    assert ended["state"] == "RESTORE_FINISHED", ended
    assert (mounted / "var/lib/disk/precious").read_bytes() == b"precious"


def test_all_or_nothing_over_file_systems(mounted: Path, device_at: Device) -> None:
    ask(device_at, "backup")
    spoil(mounted)
    before = snapshot(mounted)
    with real_disk("ext4", mounted.parent / "full") as disk, disk.full():
        subprocess.run(["mount", "--bind", disk.path, mounted / "var/lib/disk"], check=True)
        try:
            ended = ask(device_at, "restore")
            assert ended["state"] == "RESTORE_FAILED"
        finally:
            subprocess.run(["umount", mounted / "var/lib/disk"], check=True)
    assert [each for each in differences(before, snapshot(mounted)) if "mtime_ns" not in each] == []


def test_a_file_that_is_mounted_is_named_and_what_stands_beside_it_can_be_restored(
    mounted: Path, device_at: Device
) -> None:
    """As /etc/hosts in a container."""
    subprocess.run(["mount", "--bind", mounted / "bound/only", mounted / "top"], check=True)
    try:
        assert "'top'" in ask(device_at, "backup")["message"]
        assert "'top' in the target is a mount point in the way" in ask(device_at, "restore")["message"]
        ended = ask(device_at, "restore", **{"restore.paths": "var/lib/own"})
        assert ended["state"] == "RESTORE_FINISHED"
    finally:
        subprocess.run(["umount", mounted / "top"], check=True)


def test_info_names_them(mounted: Path, device_at: Device) -> None:
    told: list[dict[str, Any]] = []
    device_at.command("info", {})
    while not told:
        device_at.take()
        told = [message["value"] for _, message in device_at.wire.sent if message["path"].endswith("/info")]
    assert told[-1]["mounts"] == ["bound", "var/lib/disk"]


def test_a_directory_that_is_mounted_in_itself_is_no_root(mounted: Path, device_at: Device) -> None:
    """Two restores would change one file: that is refused, with a name and advice that works."""
    (mounted / "again").mkdir()
    subprocess.run(["mount", "--bind", mounted / "var", mounted / "again"], check=True)
    try:
        ask(device_at, "backup")
        ended = ask(device_at, "restore")
        assert ended["statusCode"] == "io-error"
        assert "'again' in the target is a mount point in the way" in ended["message"]
        ended = ask(device_at, "restore", **{"restore.paths": "top,var"})
        assert ended["state"] == "RESTORE_FINISHED", ended
    finally:
        subprocess.run(["umount", mounted / "again"], check=True)


def test_a_directory_that_is_mounted_in_its_own_place_is_a_root(mounted: Path, device_at: Device) -> None:
    """So a subvolume, whose files cannot be moved to those around it, can be restored."""
    subprocess.run(["mount", "--rbind", mounted / "var", mounted / "var"], check=True)
    try:
        ask(device_at, "backup")
        (mounted / "var/lib/own").write_bytes(b"spoiled")
        ended = ask(device_at, "restore", **{"restore.mode": "replace"})
        assert (ended["state"], (mounted / "var/lib/own").read_bytes()) == ("RESTORE_FINISHED", b"own")
    finally:
        subprocess.run(["umount", "-R", mounted / "var"], check=True)


@pytest.fixture
def device_at(mounted: Path) -> Iterator[Device]:
    device = Device(mounted.parent)
    yield device
    device.close()


@pytest.mark.parametrize(("mode", "excluded"), [("replace", ""), ("merge", "/proc/*")])
def test_the_kernel_s_own_file_systems_are_neither_saved_nor_restored(
    device_at: Device, mounted: Path, mode: str, excluded: str
) -> None:
    """With `/` as the directory, a backup had all of /proc in it, and no restore could write there."""
    (mounted / "proc").mkdir()
    subprocess.run(["mount", "-t", "proc", "proc", mounted / "proc"], check=True)
    try:
        saved = ask(device_at, "backup", **{"backup.exclude": excluded})
        assert saved["message"] == "what is mounted at 'bound', 'var/lib/disk' is in it, too"
        spoil(mounted)
        ended = ask(device_at, "restore", **{"restore.mode": mode})
        assert ended["state"] == "RESTORE_FINISHED", ended
        assert (mounted / "top").read_bytes() == b"top"
        assert (mounted / "proc/self").exists()
    finally:
        subprocess.run(["umount", mounted / "proc"], check=True)
    (mounted / "proc").rmdir()
    assert ask(device_at, "restore")["state"] == "RESTORE_FINISHED"
    assert list((mounted / "proc").iterdir()) == []
