"""The lock of a repository: nobody removes packs that a job still needs, and no lock stays for ever."""

import os
from itertools import count
from pathlib import Path

import pytest

from agent.base.errors import (
    RepositoryBroken,
    RepositoryBusy,
)
from agent.formats.repository.objects import Kind, Listed
from agent.transfer.cancel import CancelToken
from providers.errors import Unreachable
from tests.support.repositories import Device, Uptime, foreign_lock, is_as_it_was, small_device, source

MINUTE_S = 60


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return small_device(tmp_path)


def test_restic_does_not_prune_while_a_snapshot_is_written(device: Device) -> None:
    """The new packs have no snapshot yet: prune would remove them."""
    outputs: list[str] = []

    def before(call: str, kind: Kind) -> None:
        if (call, kind) == ("put", Kind.SNAPSHOT):
            outputs.append(device.restic("prune", ok=False))

    device.objects.before = before
    device.save()
    assert "already locked" in outputs[0]
    device.objects.before = lambda _call, _kind: None
    device.check()
    assert not device.objects.count(Kind.LOCK)


def test_a_device_waits_while_somebody_prunes(device: Device) -> None:
    """A prune decides first and removes later: what is written in between may be removed."""
    device.save()
    name = foreign_lock(device.objects, exclusive=True)
    with pytest.raises(RepositoryBusy, match="ops"):
        device.save()
    assert device.objects.count(Kind.LOCK) == 1
    device.objects.delete(Kind.LOCK, name)
    device.save()


def test_a_prune_that_begins_at_the_same_moment_is_noticed(device: Device) -> None:
    """Each side looks after it has put its own lock: one of them sees the other."""
    device.save()

    def before(call: str, kind: Kind) -> None:
        if (call, kind) == ("put", Kind.LOCK):
            device.objects.before = lambda _call, _kind: None
            foreign_lock(device.objects, exclusive=True)

    device.objects.before = before
    with pytest.raises(RepositoryBusy):
        device.save()
    assert device.objects.count(Kind.LOCK) == 1  # not ours


def test_a_damaged_lock_is_told(device: Device) -> None:
    """Nobody knows what it locks; restic 1652, 2213, 4143: nobody knew what to do, either."""
    device.save()
    path = device.objects.path / "locks" / ("0" * 64)
    path.write_bytes(b"x" * 100)
    with pytest.raises(RepositoryBroken, match="unlock --remove-all"):
        device.save()


def test_a_damaged_lock_of_the_device_is_removed(device: Device) -> None:
    """A stick was pulled out while the lock was written: the device knows whose it is."""
    interrupted(device)
    (path,) = (device.objects.path / "locks").iterdir()
    path.write_bytes(bytes(path.stat().st_size))
    device.save()
    assert not device.objects.count(Kind.LOCK)
    device.check()


def test_a_lock_is_refreshed_before_anybody_takes_it_for_stale(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first backup may take days; restic calls a lock stale after 30 minutes."""
    device.objects.before = Uptime(monkeypatch).passing(6 * MINUTE_S, Kind.PACK)
    device.save()
    assert device.objects.calls.count(("put", Kind.LOCK)) > 1
    assert device.objects.calls.count(("put", Kind.LOCK)) == device.objects.calls.count(("delete", Kind.LOCK))


def test_a_lock_is_refreshed_while_nothing_is_stored(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """To look at ten million unchanged files takes longer than a lock is good for."""
    device.save()
    uptime = Uptime(monkeypatch)
    check = CancelToken.check

    def slow(token: CancelToken) -> None:
        uptime.s += 6 * MINUTE_S
        check(token)

    device.objects.calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(CancelToken, "check", slow)
        saved = device.save()
    assert saved.changes.added_bytes < 10_000  # other programs change the directories above
    assert device.objects.calls.count(("put", Kind.LOCK)) > 1


@pytest.mark.parametrize("kind", [Kind.INDEX, Kind.SNAPSHOT])
@pytest.mark.parametrize("slept_s", [0, 40 * MINUTE_S])
def test_a_job_whose_lock_was_removed_does_not_finish(
    device: Device, monkeypatch: pytest.MonkeyPatch, kind: Kind, slept_s: int
) -> None:
    """Its packs may be gone: the snapshot would be a broken one (restic 3486)."""
    pass_time = Uptime(monkeypatch).passing(slept_s, kind)

    def before(call: str, at: Kind) -> None:
        pass_time(call, at)
        if (call, at) == ("put", kind):
            device.objects.before = lambda _call, _kind: None
            device.restic("unlock", "--remove-all")
            device.prune()

    device.objects.before = before
    with pytest.raises(RepositoryBusy, match="lock of this job was removed"):
        device.save()
    device.save()
    device.check()


def test_a_device_that_may_not_look_counts_the_time_since_its_lock_was_refreshed(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.save()
    (source(device) / "d/b").write_bytes(b"changed")
    device.objects.denied = {("exists", Kind.LOCK), ("list", Kind.LOCK)}
    device.objects.before = Uptime(monkeypatch).passing(40 * MINUTE_S, Kind.INDEX)
    with pytest.raises(RepositoryBusy, match="25 minutes"):
        device.save()
    device.objects.before = lambda _call, _kind: None
    device.save()


def test_a_device_that_slept_goes_on_while_its_lock_exists(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has pruned: who does removes the lock before."""
    device.objects.before = Uptime(monkeypatch).passing(40 * MINUTE_S, Kind.INDEX)
    device.save()
    device.check()


def interrupted(device: Device) -> None:
    """Let a job end after its packs are stored."""

    def before(call: str, kind: Kind) -> None:
        if (call, kind) == ("put", Kind.SNAPSHOT):
            raise Unreachable("the network is gone")

    device.objects.before = before
    with pytest.raises(Unreachable):
        device.save()
    device.objects.before = lambda _call, _kind: None


def test_the_packs_of_an_interrupted_job_are_not_sent_again(device: Device) -> None:
    """A large first backup over a bad link has to come to an end."""
    interrupted(device)
    assert device.save().changes.added_bytes < 10_000
    device.check()


def test_the_packs_of_an_interrupted_job_keep_their_lock(device: Device) -> None:
    """A prune between the two jobs would remove them."""
    interrupted(device)
    assert "already locked" in device.restic("prune", ok=False)


@pytest.mark.parametrize("may_look", [True, False])
def test_packs_that_may_have_been_pruned_are_sent_again(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, may_look: bool
) -> None:
    """Without their lock, unreferenced packs may be gone."""
    uptime = Uptime(monkeypatch)
    if not may_look:
        device.objects.denied = {(call, Kind.LOCK) for call in ("list", "get", "exists", "delete")}
    device.save()
    (source(device) / "new").write_bytes(os.urandom(200_000))
    interrupted(device)
    device.restic("unlock", "--remove-all")
    device.prune()
    uptime.s += 26 * MINUTE_S if not may_look else 1
    device.save()
    device.restic("unlock", "--remove-all")
    is_as_it_was(device, tmp_path / "restored")


def test_the_lock_of_a_job_that_was_cut_off_is_removed_by_the_next(device: Device) -> None:
    """restic would refuse to prune for ever."""
    device.save()

    def before(call: str, kind: Kind) -> None:
        if (call, kind) == ("delete", Kind.LOCK):
            raise Unreachable("power cut")

    device.objects.before = before
    device.save()
    device.objects.before = lambda _call, _kind: None
    assert device.objects.count(Kind.LOCK) == 1
    device.save()
    assert not device.objects.count(Kind.LOCK)


def test_the_lock_of_hardware_that_was_replaced_is_removed(device: Device, tmp_path: Path) -> None:
    """It died in the middle of a backup, and nobody else knows whose lock that is."""
    interrupted(device)
    device.state.rename(tmp_path / "old hardware")
    device.save()
    assert not device.objects.count(Kind.LOCK)
    device.check()


def test_locks_without_an_end_are_refused(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a request, and the device would wait for ever."""
    device.save()
    endless = (Listed(f"{number:064x}", 1) for number in count())
    listing = device.objects.list
    monkeypatch.setattr(device.objects, "list", lambda kind: endless if kind is Kind.LOCK else listing(kind))
    with pytest.raises(RepositoryBroken, match="restic unlock"):
        device.save()


def test_a_lock_cannot_forge_a_line_of_the_log(device: Device) -> None:
    """Anybody with the password writes locks."""
    device.save()
    foreign_lock(device.objects, exclusive=True, host="\x1b[2Jhost\n" + "x" * 9999)
    with pytest.raises(RepositoryBusy, match="another program has locked") as error:
        device.save()
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000
