"""The device's own prune: what no snapshot needs goes, and nothing else, whatever interrupts it."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from agent.base.errors import Cancelled, RepositoryBroken, RepositoryBusy
from agent.base.roots import Root
from agent.formats.repository import index, sweep
from agent.formats.repository.objects import Kind
from agent.transfer.cancel import CancelToken
from providers.errors import AccessDenied, NoSpace, Unreachable
from tests.support.repositories import Device, Uptime, foreign_lock, is_as_it_was, small_device, source

CHANGING = ("put", "delete")
MINUTE_S = 60


class PowerCutError(BaseException):
    """Not an Exception: nothing in the agent may handle it."""


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return small_device(tmp_path)


def with_three_snapshots(device: Device) -> list[str]:
    """Save three states, of which each but the first shares a part with the one before; return their ids."""
    names = []
    for number in range(3):
        (source(device) / "d" / f"only {number}").write_bytes(os.urandom(200_000))
        (source(device) / "d" / f"only {number - 1}").unlink(missing_ok=True)
        names.append(device.save().id)
    return names


def test_what_only_a_forgotten_snapshot_needed_goes(device: Device, tmp_path: Path) -> None:
    """Each of the three snapshots has a file of 200 kB for itself, and all share one of 300 kB."""
    first, second, third = with_three_snapshots(device)
    before = device.size_bytes
    counted = device.remove(first, second, dry_run=True)
    assert (device.size_bytes, device.objects.count(Kind.SNAPSHOT)) == (before, 3)
    done = device.remove(first, second)
    assert done == counted
    assert 400_000 < done.size_bytes < 430_000
    assert abs(before - device.size_bytes - done.size_bytes) < 2_000
    assert [each["id"] for each in device.snapshots()] == [third]
    assert device.objects.count(Kind.LOCK) == 0
    assert device.save().changes.added_bytes < 10_000
    is_as_it_was(device, tmp_path / "restored")


def test_a_pack_that_is_mostly_used_stays(device: Device) -> None:
    """Rewriting sends content again: `repository.maxUnused` says how much may stay unused for that."""
    (source(device) / "small").write_bytes(os.urandom(4_000))
    first = device.save().id
    (source(device) / "small").unlink()
    device.save()
    before = {each.name for each in device.objects.list(Kind.PACK)}
    assert device.remove(first, max_unused=5).size_bytes == 0
    assert {each.name for each in device.objects.list(Kind.PACK)} == before
    assert device.remove(max_unused=1).size_bytes > 4_000
    assert {each.name for each in device.objects.list(Kind.PACK)} != before
    device.check()


def test_everything_stays_when_nothing_is_unused(device: Device) -> None:
    with_three_snapshots(device)
    before = sorted(device.objects.path.rglob("*"))
    assert device.remove().size_bytes == 0
    assert sorted(device.objects.path.rglob("*")) == before


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


def interrupt(device: Device, number: int, error: BaseException) -> None:
    """Raise an error at the call with this number that changes the store."""
    left = [number]

    def before(call: str, _kind: Kind) -> None:
        if call in CHANGING:
            left[0] -= 1
            if left[0] < 0:
                raise error

    device.objects.before = before


def undisturbed(device: Device) -> None:
    device.objects.before = device.objects.after = lambda _call, _kind: None


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


def test_a_damaged_repository_is_left_as_it_is(device: Device) -> None:
    """A snapshot that stays needs a pack that is gone: whoever removes more makes it worse."""
    first, *_ = with_three_snapshots(device)
    pack = max((device.objects.path / "data").rglob("*"), key=lambda path: path.stat().st_size)
    content = pack.read_bytes()
    for damage in (pack.unlink, lambda: pack.write_bytes(content[:100_000])):
        damage()
        before = sorted(device.objects.path.rglob("*"))
        with pytest.raises(RepositoryBroken):
            device.remove(first)
        assert sorted(device.objects.path.rglob("*")) == before
    pack.write_bytes(bytes(each ^ (at % 5000 == 0) for at, each in enumerate(content)))
    with pytest.raises(RepositoryBroken):
        device.remove(first)
    assert pack.exists()


def test_a_missing_index_removes_no_pack_that_is_needed(device: Device) -> None:
    """Its packs have no name then, as those of a job that was cut off."""
    first, *_ = with_three_snapshots(device)
    file = next((device.objects.path / "index").iterdir())
    file.rename(device.objects.path / "elsewhere")
    with pytest.raises(RepositoryBroken, match="no index"):
        device.remove(first)
    (device.objects.path / "elsewhere").rename(file)


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


# -- nobody else works there


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
    monkeypatch.setattr(index, "_FULL_BYTES", 1)
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


def test_the_packs_that_nobody_names_go(device: Device) -> None:
    """They are of jobs that were cut off, and `status` counts them as `remains`."""
    with_three_snapshots(device)
    path = device.objects.path / "data" / "00" / ("00" * 32)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * 1000)
    assert device.remove(dry_run=True).size_bytes == 1000
    assert path.exists()
    device.remove()
    assert not path.exists()


def test_snapshots_of_others_keep_what_they_need(device: Device, tmp_path: Path) -> None:
    """Those that restic wrote on a workstation have no rules here."""
    first, *_ = with_three_snapshots(device)
    (tmp_path / "theirs").write_bytes(os.urandom(100_000))
    device.restic("backup", "--host", "workstation", str(tmp_path / "theirs"), str(source(device)))
    device.remove(first)
    (theirs,) = [each for each in device.snapshots() if each["hostname"] == "workstation"]
    assert (device.restored(tmp_path / "restored", theirs["id"]) / "d/b").exists()


def test_a_pack_that_two_indexes_name_is_named_once_afterwards(device: Device) -> None:
    """An interrupted prune leaves the old index beside the new one."""
    first, *_ = with_three_snapshots(device)
    interrupt(device, 9, Unreachable("cut off"))
    with pytest.raises(Unreachable):
        device.remove(first)
    undisturbed(device)
    device.remove()
    assert "duplicate" not in device.restic("check", "--read-data")


def test_roots_of_several_kinds_share_a_repository(tmp_path: Path) -> None:
    """Each choice of directories has its own last snapshot."""
    device = small_device(tmp_path)
    first = device.save().id
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_bytes(os.urandom(50_000))
    both = Device(device.objects, device.state, (Root("", tmp_path / "other"),))
    other = both.save().id
    device.remove(other)
    assert both.save().changes.added_bytes > 50_000
    device.remove(first)
    device.save()
    device.check()
