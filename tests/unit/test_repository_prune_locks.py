"""A prune works alone, and only where the device has the right to it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.base.errors import RepositoryBroken, RepositoryBusy
from agent.formats.repository.objects import Kind
from providers.errors import AccessDenied
from tests.support.prunes import undisturbed, with_three_snapshots
from tests.support.repositories import Device, Uptime, foreign_lock, small_device, source

MINUTE_S = 60


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return small_device(tmp_path)


def test_without_the_right_to_delete_nothing_happens(device: Device) -> None:
    """A lock that the device cannot remove would stop everybody."""
    first, *_ = with_three_snapshots(device)
    before = sorted(device.objects.path.rglob("*"))
    for kind in (Kind.SNAPSHOT, Kind.PACK, Kind.INDEX, Kind.LOCK):
        device.objects.denied = {("delete", kind)}
        assert "no right to remove" in device.remove(first).problem
        assert sorted(device.objects.path.rglob("*")) == before


def test_a_device_that_cannot_see_locks_does_not_prune(device: Device) -> None:
    first, *_ = with_three_snapshots(device)
    device.objects.denied = {("list", Kind.LOCK)}
    with pytest.raises(AccessDenied):
        device.remove(first)


def test_snapshots_that_somebody_forgets_meanwhile_keep_the_others(device: Device) -> None:
    """The rules let the old ones go because the new one stays."""
    first, second, third = with_three_snapshots(device)
    device.objects.delete(Kind.SNAPSHOT, third)
    with pytest.raises(RepositoryBusy, match="meanwhile"):
        device.remove(first, second, kept=[third])
    assert device.objects.count(Kind.SNAPSHOT) == 2


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_prune_waits_while_somebody_uses_the_repository(device: Device, *, exclusive: bool) -> None:
    first, *_ = with_three_snapshots(device)
    name = foreign_lock(device.objects, exclusive=exclusive)
    with pytest.raises(RepositoryBusy, match="ops"):
        device.remove(first)
    device.objects.delete(Kind.LOCK, name)
    device.remove(first)


def test_the_lock_of_somebody_who_died_goes_when_it_stood_for_30_minutes(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the device's own uptime: the time in the lock is of a clock that may differ by years."""
    uptime = Uptime(monkeypatch)
    first, *_ = with_three_snapshots(device)
    foreign_lock(device.objects, exclusive=True)
    for passed_s in (0, 29 * MINUTE_S):
        uptime.s += passed_s
        with pytest.raises(RepositoryBusy):
            device.remove(first)
    uptime.s += MINUTE_S
    device.remove(first)
    assert device.objects.count(Kind.LOCK) == 0


def test_a_damaged_lock_goes_when_it_stood_for_30_minutes(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that still works replaces its lock within that time."""
    uptime = Uptime(monkeypatch)
    first, *_ = with_three_snapshots(device)
    (device.objects.path / "locks" / ("0" * 64)).write_bytes(b"damaged")
    with pytest.raises(RepositoryBroken, match="unlock --remove-all"):
        device.remove(first)
    uptime.s += 30 * MINUTE_S
    device.remove(first)
    assert device.objects.count(Kind.LOCK) == 0
    device.check()


def test_restic_waits_while_the_device_prunes(device: Device) -> None:
    outputs: list[str] = []
    first, *_ = with_three_snapshots(device)

    def before(call: str, kind: Kind) -> None:
        if (call, kind) == ("list", Kind.PACK):
            device.objects.before = lambda _call, _kind: None
            outputs.append(device.restic("prune", ok=False))
            outputs.append(device.restic("backup", str(source(device)), ok=False))

    device.remove()
    device.objects.before = before
    device.remove(first)
    assert [("already locked" in each) for each in outputs] == [True, True]
    device.check()


def test_a_backup_and_a_prune_of_one_device_refuse_each_other(device: Device) -> None:
    """Also where the store shows no locks: they have a lock on the device's disk."""
    first, *_ = with_three_snapshots(device)
    refused: list[str] = []

    def meanwhile(at: tuple[str, Kind], action: Callable[[], object]) -> None:
        def before(call: str, kind: Kind) -> None:
            if (call, kind) == at:
                undisturbed(device)
                with pytest.raises(RepositoryBusy) as error:
                    action()
                refused.append(str(error.value))

        device.objects.before = before

    meanwhile(("put", Kind.SNAPSHOT), lambda: device.remove(first))
    device.save()
    meanwhile(("list", Kind.PACK), device.save)
    device.remove(first)
    assert ["a job of this device" in refused[0], "removes old snapshots" in refused[1]] == [True, True]
    assert device.objects.count(Kind.LOCK) == 0
