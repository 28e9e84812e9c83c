"""A user of the target gives the working directory's name to another directory, while a restore waits.

They cannot move a directory of root's elsewhere, or make one, but may rename it where it is. What is in it
would be taken for what was unpacked: given away to the owners that the archive names, or removed.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.restore.memory import read_working, with_inodes, working_text
from tests.support.fakes import Device
from tests.support.trees import Dir, File, Spec, differences, make_tree, snapshot, write_zip
from tests.support.trials import until_trial

ROOTS_OWN: Spec = {
    "new": Dir(0o700),
    "new/secret": File(b"of root", 0o600),
    "undo": Dir(0o700),
}
ARCHIVE = {"storage.provider": "local", "local.name": "it.zip"}


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """A device with an archive, and a directory in the target that only root may look into."""
    home = Device(tmp_path, {"restore.keepPreview": "true"})
    make_tree(home.data, {"file": File(b"old")})
    make_tree(home.data / "roots-own", ROOTS_OWN)
    write_zip(home.settings.storage / "archives" / "it.zip", {"file": File(b"new")})
    yield home
    home.close()


def ask(device: Device, operation: str, **options: str) -> int:
    value = {"correlationId": "P", "options": ARCHIVE | options} if options else {"correlationId": "P"}
    answer = device.command(operation, value, request_id=operation, header=os.urandom(4).hex())
    return int(answer[0][1]["status"])


def swapped(device: Device) -> Path:
    """The other directory, by the name that the working directory had."""
    (work,) = (path for path in device.data.iterdir() if path.name.startswith(".edge-backup-"))
    work.rename(device.data / "moved-away")
    return (device.data / "roots-own").rename(work)


def last_state(device: Device) -> str:
    return str(device.values()[-1]["state"])


@pytest.mark.parametrize("restarted", [False, True], ids=["in one run", "after a restart"])
def test_another_directory_in_the_place_of_a_waiting_preview_is_not_put_back(
    device: Device, restarted: bool
) -> None:
    assert ask(device, "restore", **{"restore.preview": "true"}) == 204
    device.finish()
    other = swapped(device)
    before = snapshot(other)
    if restarted:
        device.restart()
    assert ask(device, "finalize") == 204
    device.finish()
    assert last_state(device) == "RESTORE_FAILED"
    assert "somebody put another one in its place" in device.values()[-1]["message"]
    assert differences(before, snapshot(other)) == []
    assert (device.data / "file").read_bytes() == b"old"


def test_another_directory_in_the_place_of_a_discarded_preview_stays(device: Device) -> None:
    assert ask(device, "restore", **{"restore.preview": "true"}) == 204
    device.finish()
    other = swapped(device)
    before = snapshot(other)
    assert ask(device, "discard") == 204
    device.finish()
    assert differences(before, snapshot(other)) == []


@pytest.mark.parametrize("restarted", [False, True], ids=["in one run", "after a restart"])
def test_another_directory_in_the_place_of_an_unconfirmed_restore_is_no_way_back(
    device: Device, restarted: bool
) -> None:
    assert ask(device, "restore", **{"restore.confirmWithin": "10m"}) == 204
    until_trial(device)
    other = swapped(device)
    before = snapshot(other)
    if restarted:
        device.restart()
    ask(device, "cancel")
    device.finish()
    assert differences(before, snapshot(other)) == []
    assert (device.data / "file").read_bytes() == b"new"


def test_a_restore_proves_the_same_roots_from_its_preview_to_its_confirmation(device: Device) -> None:
    """The proofs of several roots are written one after another, and a start compares them."""
    assert ask(device, "restore", **{"restore.preview": "true"}) == 204
    device.finish()
    before = proven_roots(device)
    value = {"correlationId": "P", "options": {"restore.confirmWithin": "10m"}}
    answer = device.command("finalize", value, request_id="finalize", header="trial")
    assert answer[0][1]["status"] == 204
    until_trial(device)
    assert proven_roots(device) == before
    ask(device, "cancel")
    device.finish()


def proven_roots(device: Device) -> str:
    (proof,) = device.data.glob(".edge-backup-*/proof")
    return str(json.loads(proof.read_text("ascii").partition("\n")[2])["working"])


def test_inode_numbers_are_kept_beside_what_earlier_agents_kept(tmp_path: Path) -> None:
    """A working directory of an earlier agent, of which only the owner can be checked, is still found."""
    text = working_text({0: tmp_path, 2: tmp_path})
    assert [each.inode for each in read_working(text)] == [None, None]
    assert [each.inode for each in read_working(with_inodes(text, [None, 7]))] == [None, 7]
    assert [each.directory for each in read_working(with_inodes(text, [1, 7]))] == [tmp_path, tmp_path]
