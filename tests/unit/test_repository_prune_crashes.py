"""A prune or a backup that is cut off, or finds the store full, leaves every snapshot whole."""

import os
import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from agent.base.errors import Cancelled
from agent.formats.repository import packs, sweep
from agent.formats.repository.objects import Kind
from agent.transfer.cancel import CancelToken
from providers.errors import NoSpace, Unreachable
from tests.support.prunes import PowerCutError, interrupt, undisturbed, with_three_snapshots
from tests.support.repositories import Device, is_as_it_was, small_device, source


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return small_device(tmp_path)


@pytest.mark.slow
def test_a_prune_may_end_at_any_call(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New packs, new indexes, old indexes, old packs: every snapshot that is left is whole all the time."""
    monkeypatch.setattr(sweep, "_ROUND_BYTES", 1)
    names = with_three_snapshots(device)
    for number in count():
        copy = copied(device, tmp_path / f"{number}")
        interrupt(copy, number, PowerCutError("cut off"))
        ended = False
        with suppress(PowerCutError):
            copy.remove(*names[:2])
            ended = True
        undisturbed(copy)
        copy.restic("check", "--no-lock")
        left = [each for each in names[:2] if (copy.objects.path / "snapshots" / each).exists()]
        copy.remove(*left)
        assert (copy.objects.count(Kind.SNAPSHOT), copy.objects.count(Kind.LOCK)) == (1, 0)
        assert copy.size_bytes < 530_000
        if ended:
            is_as_it_was(copy, tmp_path / f"{number}" / "restored")
            break
    assert number > 10


def copied(device: Device, path: Path) -> Device:
    """Return a device with a copy of this one's repository and state."""
    shutil.copytree(device.objects.path, path / "repository")
    shutil.copytree(device.state, path / "state")
    return Device.at(path, *device.roots)


def test_a_prune_is_cancelled_at_any_call(device: Device, tmp_path: Path) -> None:
    """The lock goes at the end of the job, and the next prune does the rest."""
    first, *_ = with_three_snapshots(device)
    for number in range(4, 12, 2):
        copy, token = copied(device, tmp_path / f"{number}"), CancelToken()
        left = [number]

        def cancel(call: str, _kind: Kind, left: list[int] = left, token: CancelToken = token) -> None:
            left[0] -= 1
            if call != "delete" and left[0] < 0:
                token.cancel("enough")

        copy.objects.before = cancel
        with pytest.raises(Cancelled):
            copy.remove(first, token=token)
        undisturbed(copy)
        assert copy.objects.count(Kind.LOCK) == 0
    copy.check()


def test_a_backup_goes_on_after_a_prune_was_cut_off(device: Device) -> None:
    """The exclusive lock that it left is the device's own, and would keep restic out."""
    first, *_ = with_three_snapshots(device)
    interrupt(device, 7, PowerCutError())
    with pytest.raises(PowerCutError):
        device.remove(first)
    undisturbed(device)
    assert device.objects.count(Kind.LOCK) == 1
    device.save()
    assert device.objects.count(Kind.LOCK) == 0
    device.check()
    device.remove()


def test_the_packs_of_an_interrupted_backup_stay(device: Device, tmp_path: Path) -> None:
    """A large backup over a bad link has to come to an end, and retention runs every day."""
    first, *_ = with_three_snapshots(device)
    (source(device) / "new").write_bytes(os.urandom(300_000))
    interrupt_backup(device, Unreachable("gone"))
    device.remove(first)
    assert device.objects.count(Kind.LOCK) == 1
    assert device.save().changes.added_bytes < 20_000
    is_as_it_was(device, tmp_path / "restored")


def interrupt_backup(device: Device, error: Exception) -> None:
    """Let a backup end when its packs are stored."""

    def before(call: str, kind: Kind) -> None:
        if (call, kind) == ("put", Kind.SNAPSHOT):
            raise error

    device.objects.before = before
    with pytest.raises(type(error)):
        device.save()
    undisturbed(device)


def test_a_pack_that_two_indexes_name_is_named_once_afterwards(device: Device) -> None:
    """An interrupted prune leaves the old index beside the new one."""
    first, *_ = with_three_snapshots(device)
    interrupt(device, 9, Unreachable("cut off"))
    with pytest.raises(Unreachable):
        device.remove(first)
    undisturbed(device)
    device.remove()
    assert "duplicate" not in device.restic("check", "--read-data")


def test_a_backup_that_does_not_fit_leaves_no_packs(device: Device) -> None:
    """A full store stays full otherwise, and retention has no room for its index."""
    with_three_snapshots(device)
    (source(device) / "new").write_bytes(os.urandom(300_000))
    before = {each.name for each in device.objects.list(Kind.PACK)}

    def full(call: str, kind: Kind) -> None:
        if (call, kind) == ("put", Kind.INDEX):
            raise NoSpace("it is full")

    device.objects.before = full
    with pytest.raises(NoSpace):
        device.save()
    undisturbed(device)
    assert {each.name for each in device.objects.list(Kind.PACK)} == before
    assert device.objects.count(Kind.LOCK) == 0
    device.save()


def test_a_store_without_room_for_new_packs_still_loses_the_old_ones(device: Device) -> None:
    """Packs that can be removed without moving anything go first."""
    first, *_ = with_three_snapshots(device)
    before = device.size_bytes

    def full(call: str, kind: Kind) -> None:
        if (call, kind) == ("put", Kind.PACK):
            raise NoSpace("it is full")

    device.objects.before = full
    done = device.remove(first)
    undisturbed(device)
    assert "no room to move" in done.problem
    assert 0 < before - device.size_bytes <= done.size_bytes
    device.remove()
    device.check()


def test_a_store_that_is_full_between_two_indexes_keeps_the_packs_that_one_names(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removing the new packs again would leave an index of packs that are gone."""
    monkeypatch.setattr(packs, "_FULL_BYTES", 1)
    monkeypatch.setattr(sweep, "PACK_BYTES", 100_000)
    first, *_ = with_three_snapshots(device)
    stored: list[Kind] = []

    def full(call: str, kind: Kind) -> None:
        if (call, kind) == ("put", Kind.INDEX) and Kind.PACK in stored:
            stored.append(kind)
            if stored.count(Kind.INDEX) > 1:
                raise NoSpace("it is full")
        elif call == "put":
            stored.append(kind)

    device.objects.before = full
    assert "no room to move" in device.remove(first).problem
    undisturbed(device)
    device.check()
    device.remove()
    device.check()
