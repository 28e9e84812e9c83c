"""The agent counts the remains of interrupted jobs in a repository: a person decides when to prune."""

from pathlib import Path

import pytest

from agent.base.roots import Root
from agent.formats.repository.objects import Kind
from agent.formats.repository.remains import Remains, remains_in
from providers.errors import AccessDenied
from tests.support.repositories import Device
from tests.support.trees import File, make_tree


@pytest.fixture
def device(tmp_path: Path) -> Device:
    source = make_tree(tmp_path / "source", {"file": File(b"content" * 1000)})
    made = Device.at(tmp_path, Root("", source))
    made.state = tmp_path / "states" / "one"
    return made


def interrupted(device: Device) -> None:
    """A job that is refused at its last object."""
    device.objects.denied = {("put", Kind.SNAPSHOT)}
    with pytest.raises(AccessDenied):
        device.save()
    device.objects.denied = set()


def test_nothing_is_left_by_jobs_that_end_well(device: Device) -> None:
    assert remains_in(device.state.parent) == Remains()
    device.save()
    assert remains_in(device.state.parent) == Remains()


def test_packs_and_indexes_of_an_interrupted_job_are_counted_until_a_snapshot_has_them(
    device: Device,
) -> None:
    interrupted(device)
    assert remains_in(device.state.parent) == Remains(device.objects.count(Kind.PACK), 1, 1)
    device.save()
    assert remains_in(device.state.parent) == Remains()
    device.check()


def test_what_was_given_up_stays_counted(device: Device) -> None:
    """Somebody may have removed it as unused, or nobody: the device sends it again, and it may lie there."""
    interrupted(device)
    packs = device.objects.count(Kind.PACK)
    device.restic("unlock", "--remove-all")
    device.save()
    assert remains_in(device.state.parent) == Remains(packs, 1, 0)


def test_locks_that_the_device_may_not_remove_are_counted(device: Device) -> None:
    device.objects.denied = {("delete", Kind.LOCK)}
    device.save()
    device.save()
    assert remains_in(device.state.parent).locks == device.objects.count(Kind.LOCK) == 2


def test_a_lock_that_a_crash_left_is_counted_until_the_next_job_removes_it(device: Device) -> None:
    class Crash(BaseException):
        """The end of the process."""

    def crash(_name: str) -> None:
        raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.formats.repository.lock.Lock.release", lambda _lock: crash(""))
        with pytest.raises(Crash):
            device.save()
    assert remains_in(device.state.parent).locks == device.objects.count(Kind.LOCK) == 1
    device.save()
    assert remains_in(device.state.parent).locks == device.objects.count(Kind.LOCK) == 0


def test_notes_that_cannot_be_read_count_as_nothing(device: Device) -> None:
    interrupted(device)
    (notes,) = device.state.glob("*.pending")
    notes.write_bytes(b"no database")
    assert remains_in(device.state.parent) == Remains()
