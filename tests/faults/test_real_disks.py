"""File systems of a few MiB that are really full, without inodes, read-only, or mounted in the way.

Every point ends with the disk healed: the agent answers, and the next job works.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.tally import tally
from tests.support.fakes import Device
from tests.support.http_server import HttpServer, Received, Say
from tests.support.real_disks import KINDS, Disk, real_disk
from tests.support.trees import File, Found, Spec, differences, make_tree, snapshot, write_zip

RESERVE_BYTES = 512 << 10
OLD: Spec = {"config": File(b"old"), "gone": File(b"stays, or goes")}
SMALL: Spec = {"config": File(b"new")}
LARGE: Spec = {"config": File(os.urandom(6 << 20))}
MANY: Spec = {f"f{number}": File(b"x") for number in range(100)}
BLOCKS: Spec = {f"f{number}": File(b"x" * 4097) for number in range(50)}
"""They fit into the reserve's rest by their length, not by the blocks that they take."""


@dataclass
class Scene:
    """A device with its storage, its data and a stick, of which the scenario mounts what it wants."""

    kind: str
    work: Path
    stack: ExitStack
    number: int = 0

    def disk(self, name: str) -> Disk:
        """The small disk, mounted as the `storage`, the `data` or the `stick`."""
        return self.stack.enter_context(real_disk(self.kind, self.work / name))

    def device(self, **settings: str) -> Device:
        (self.work / "stick").mkdir(exist_ok=True)
        (self.work / "archives").mkdir()
        usual = {
            "storage.reserve": str(RESERVE_BYTES),
            "targets.device.path": f"{self.work}/archives",
            "targets.stick.path": f"{self.work}/stick",
        }
        device = Device(self.work, usual | settings)
        self.stack.enter_context(closing(device))
        make_tree(device.data, OLD)
        return device

    def archive(self, spec: Spec) -> dict[str, str]:
        """Options of a restore of this."""
        write_zip(self.work / "archives" / "it.zip", spec)
        return {"storage.provider": "local", "local.name": "it.zip"}

    def destination(self, archive: Path | None = None) -> dict[str, str]:
        """Options for a place that wants the length, and gives this archive."""

        def answer(request: Received) -> Say:
            return Say(body=archive.read_bytes()) if archive and request.method == "GET" else Say(201)

        server = self.stack.enter_context(HttpServer(answer))
        return {"storage.provider": "generic", "https.url": f"{server.url}/it.zip"}

    def end(self, device: Device, operation: str, options: dict[str, str]) -> dict[str, Any]:
        """The last value of a job; `statusCode` "refused" when the command was."""
        self.number += 1
        value = {"correlationID": f"X{self.number}", "options": options}
        said = device.command(operation, value, request_id=f"r{self.number}", header=f"h{self.number}")
        answer = next(message for topic, message in said if topic.startswith("command/"))
        if answer["status"] != 204:
            return {"statusCode": "refused", "message": answer["value"]["message"]}
        device.finish()
        last = device.values()[-1]
        assert last["correlationId"] == f"X{self.number}", last
        return last

    def fails(self, device: Device, operation: str, options: dict[str, str], code: str = "no-space") -> str:
        """Its message, after a job that failed with this code, and left nothing."""
        before = snapshot(device.data)
        end = self.end(device, operation, options)
        assert end["statusCode"] == code, end
        assert_same(before, snapshot(device.data))
        assert not leftovers(self.work), leftovers(self.work)
        return str(end["message"])

    def works(self, device: Device, operation: str, options: dict[str, str]) -> None:
        end = self.end(device, operation, options)
        assert end["state"].endswith("FINISHED"), end

    def restores(self, device: Device) -> None:
        self.works(device, "restore", self.archive(SMALL))
        assert (device.data / "config").read_bytes() == b"new"


def assert_same(before: dict[str, Found], after: dict[str, Found]) -> None:
    """Other files may have come and gone beside, so a directory's time may differ."""
    assert not differences(before, after), differences(before, after)


def leftovers(work: Path) -> list[str]:
    names = [path for path in work.rglob("*") if ".part" in path.name or path.name.startswith(".edge-backup")]
    return [str(path) for path in [*names, *(work / "storage").glob("*/*.zip"), *work.rglob("*.direct")]]


# What is full


def staging(scene: Scene) -> None:
    disk, device = scene.disk("storage"), scene.device()
    make_tree(device.data, LARGE)
    message = scene.fails(device, "backup", {})
    assert f"beside the reserve of {RESERVE_BYTES}" in message
    assert disk.free_bytes >= RESERVE_BYTES
    make_tree(device.data, SMALL)
    scene.works(device, "backup", {})


def before_any_work(scene: Scene) -> None:
    """A disk with nothing but its reserve does not even start the command that collects."""
    disk, device = scene.disk("storage"), scene.device(backupCmd=f"touch {scene.work}/collected")
    with disk.ballast(disk.free_bytes - RESERVE_BYTES + 4096):
        assert "beside the reserve" in scene.fails(device, "backup", {})
        assert not (scene.work / "collected").exists()
        nowhere = {"storage.provider": "generic", "https.url": "http://127.0.0.1:1/it.zip"}
        assert "beside the reserve" in scene.fails(device, "restore", nowhere)
    scene.works(device, "backup", {})
    assert (scene.work / "collected").exists()


def staging_for_a_place_that_wants_the_length(scene: Scene) -> None:
    scene.disk("storage")
    device = scene.device()
    make_tree(device.data, LARGE)
    assert f"the storage '{scene.work}" in scene.fails(device, "backup", scene.destination())
    make_tree(device.data, SMALL)
    scene.works(device, "backup", scene.destination())


def download(scene: Scene) -> None:
    scene.disk("storage")
    device = scene.device()
    large = write_zip(scene.work / "large.zip", LARGE)
    assert "beside the reserve" in scene.fails(device, "restore", scene.destination(large))
    scene.restores(device)


def unpacking(scene: Scene) -> None:
    disk, device = scene.disk("data"), scene.device()
    assert f"the target '{disk.path}' has" in scene.fails(device, "restore", scene.archive(LARGE))
    scene.restores(device)


def unpacking_small_files(scene: Scene) -> None:
    disk = scene.disk("data")
    device = scene.device()
    archive = scene.archive(BLOCKS)
    with disk.ballast(disk.free_bytes - RESERVE_BYTES - (230 << 10)):
        assert "bytes left where" in scene.fails(device, "restore", archive)
    scene.restores(device)


def unpacking_without_inodes(scene: Scene) -> None:
    scene.disk("data")
    device = scene.device()
    assert "more files where 100 are needed" in scene.fails(device, "restore", scene.archive(MANY))
    scene.restores(device)


def staging_without_inodes(scene: Scene) -> None:
    disk, device = scene.disk("storage"), scene.device()
    with disk.without_inodes():
        scene.fails(device, "backup", {})
    scene.works(device, "backup", {})


def journal(scene: Scene) -> None:
    disk, device = scene.disk("storage"), scene.device()
    with disk.full():
        end = scene.end(device, "backup", {})
        assert end["statusCode"] in ("refused", "no-space"), end
    scene.works(device, "backup", scene.archive(SMALL))


def stick(scene: Scene) -> None:
    disk, device = scene.disk("stick"), scene.device()
    make_tree(device.data, LARGE)
    options = {"storage.provider": "local", "local.target": "stick", "local.name": "a/b/it.zip"}
    scene.fails(device, "backup", options)
    assert {path.name for path in disk.path.iterdir()} <= {"lost+found"}
    make_tree(device.data, SMALL)
    scene.works(device, "backup", options)


def target_on_the_storage_s_disk(scene: Scene) -> None:
    disk = scene.disk("storage")
    device = scene.device(**{"targets.device.path": f"{disk.path}/archives"})
    make_tree(device.data, LARGE)
    options = {"storage.provider": "local", "local.name": "it.zip"}
    assert "beside the reserve" in scene.fails(device, "backup", options)
    assert disk.free_bytes >= RESERVE_BYTES
    make_tree(device.data, SMALL)
    scene.works(device, "backup", options)


# What is read-only


def read_only_target(scene: Scene) -> None:
    disk, device = scene.disk("data"), scene.device()
    with disk.read_only():
        scene.fails(device, "restore", scene.archive(SMALL), "io-error")
    scene.restores(device)


def read_only_stick(scene: Scene) -> None:
    disk, device = scene.disk("stick"), scene.device()
    options = {"storage.provider": "local", "local.target": "stick", "local.name": "a/it.zip"}
    with disk.read_only():
        end = scene.end(device, "backup", options)
        assert end["statusCode"] in ("refused", "io-error"), end
    scene.works(device, "backup", options)


def take_back_refused(scene: Scene) -> None:
    """afterRestoreCmd fails, and the disk has become read-only: old again as soon as it can be."""
    disk, before = scene.disk("data"), {}
    script = scene.work / "start.sh"
    script.write_text(f"#!/bin/sh\nmount -o remount,ro {disk.path}\nexit 1\n")
    script.chmod(0o755)
    device = scene.device(afterRestoreCmd=str(script))
    before = snapshot(device.data)
    end = scene.end(device, "restore", scene.archive(SMALL))
    assert end["state"] == "RESTORE_FAILED", end
    disk.remount("rw")
    script.write_text("#!/bin/sh\nexit 0\n")
    told = len(device.values())
    device.restart()
    device.finish()
    assert_same(before, snapshot(device.data))
    assert len(device.values()) == told
    scene.restores(device)


# What is mounted where


def mount_point_as_target(scene: Scene) -> None:
    """Storage and target are on two file systems as well."""
    scene.disk("data")
    scene.restores(scene.device())


def storage_on_its_own_disk(scene: Scene) -> None:
    scene.disk("storage")
    device = scene.device()
    scene.works(device, "backup", {})
    scene.restores(device)


def mount_point_in_the_target(scene: Scene) -> None:
    (scene.work / "data").mkdir()
    disk, device = scene.disk("data/mounted"), scene.device()
    (disk.path / "precious").write_bytes(b"precious")
    in_the_way = scene.archive({"mounted": File(b"a file")})
    message = scene.fails(device, "restore", in_the_way, "archive-invalid")
    assert "'mounted' is a file, and the device has a directory there" in message
    scene.restores(device)
    assert (disk.path / "precious").read_bytes() == b"precious"


SCENARIOS: list[Callable[[Scene], None]] = [
    before_any_work,
    staging,
    staging_for_a_place_that_wants_the_length,
    staging_without_inodes,
    download,
    unpacking,
    unpacking_small_files,
    unpacking_without_inodes,
    journal,
    stick,
    target_on_the_storage_s_disk,
    read_only_target,
    read_only_stick,
    take_back_refused,
    mount_point_as_target,
    storage_on_its_own_disk,
    mount_point_in_the_target,
]


@contextmanager
def played(kind: str, work: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(kind, work, stack)


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_disk_is_told_by_its_code_and_the_next_job_works(kind: str, tmp_path: Path) -> None:
    with tally(f"real disk: {kind}") as points:
        for scenario in SCENARIOS:
            work = tmp_path.resolve() / scenario.__name__
            work.mkdir()
            with points.trying(scenario.__name__), played(kind, work) as scene:
                scenario(scene)
