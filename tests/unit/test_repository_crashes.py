"""A job may be cut off at any call: the repository stays right, and the next job completes."""

import os
import shutil
from contextlib import closing, suppress
from pathlib import Path

import pytest

from agent.base.errors import Cancelled
from agent.base.roots import Root
from agent.formats.repository.blobs import PACK_BYTES, BlobWriter
from agent.formats.repository.crypto import Keys
from agent.formats.repository.objects import Kind
from agent.formats.repository.pending import PendingPacks
from agent.formats.repository.state import Known, State
from agent.transfer.cancel import CancelToken
from providers.errors import Unreachable
from tests.support.repositories import Device, DirectoryObjects
from tests.support.trees import Dir, File, Spec, make_tree, snapshot
from tests.support.waiting import wait_until

CHANGING = ("put", "delete")


class PowerCutError(BaseException):
    """Not an Exception: nothing in the agent may handle it."""


@pytest.fixture
def device(tmp_path: Path) -> Device:
    make_tree(tmp_path / "source", {"a": File(b"a" * 1000), "d": Dir(), "d/b": File(os.urandom(400_000))})
    return Device.at(tmp_path, Root("", tmp_path / "source"))


def calls_of_one_job(device: Device) -> int:
    """Count the calls that change the store."""
    device.objects.calls.clear()
    device.save()
    return sum(1 for call, _ in device.objects.calls if call in CHANGING)


@pytest.mark.slow
@pytest.mark.parametrize("stored", [False, True], ids=["before the call", "after the call"])
@pytest.mark.parametrize("error", [PowerCutError, Unreachable], ids=["power cut", "network gone"])
def test_a_job_may_end_at_any_call(tmp_path: Path, error: type[BaseException], *, stored: bool) -> None:
    """Only packs and indexes without a snapshot, and a lock, may be left."""
    spec: Spec = {"a": File(b"a" * 1000), "d": Dir(), "d/b": File(os.urandom(300_000))}
    source = make_tree(tmp_path / "source", spec)
    probe = Device.at(tmp_path / "probe", Root("", source))
    calls = calls_of_one_job(probe)
    assert calls >= 6
    for number in range(calls):
        device = Device.at(tmp_path / f"{number}", Root("", source))
        end_at(device, number, error, stored=stored)
        with suppress(error):  # a lock that stays is no failure
            device.save()
        device.objects.after = device.objects.before = lambda _call, _kind: None
        if (device.objects.path / "config").exists() and device.objects.count(Kind.KEY):
            device.check(locked=True)
        device.save()
        device.check()
    assert snapshot(device.restored(tmp_path / "restored")) == snapshot(source)


def end_at(device: Device, number: int, error: type[BaseException], *, stored: bool) -> None:
    """Let the job end at the call with this number that changes the store."""
    seen = [0]

    def count(call: str, _kind: Kind) -> None:
        if call in CHANGING:
            seen[0] += 1
            if seen[0] > number:
                raise error("cut off")

    if stored:
        device.objects.after = count
    else:
        device.objects.before = count


def test_the_packs_of_a_cancelled_job_count(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that runs out of time every night has to come to an end some day."""
    monkeypatch.setattr("agent.formats.repository.blobs.PACK_BYTES", 100_000)
    token = CancelToken()

    def before(call: str, kind: Kind) -> None:
        if (call, kind) == ("put", Kind.PACK) and device.objects.count(Kind.PACK) == 1:
            token.cancel("enough")

    device.objects.before = before
    with pytest.raises(Cancelled):
        device.save(token=token)
    device.objects.before = lambda _call, _kind: None
    assert device.objects.count(Kind.PACK)
    sent = sum(path.stat().st_size for path in device.objects.path.rglob("*") if path.is_file())
    again = device.save()
    assert sent > 100_000
    assert again.changes.added_bytes < 410_000 - 100_000
    assert not device.objects.count(Kind.LOCK)
    device.check()


def test_files_are_read_while_a_pack_is_stored(device: Device) -> None:
    """A slow store and a slow disk work side by side: the second pack is full when the first one is there."""
    (device.roots[0].directory / "large").write_bytes(os.urandom(3 * PACK_BYTES))
    waited: list[Kind] = []

    def before(call: str, kind: Kind) -> None:
        if (call, kind) == ("put", Kind.PACK) and not waited:
            waited.append(kind)
            wait_until(lambda: device.report.read_bytes > 1.9 * PACK_BYTES, what="the job to read on")

    device.objects.before = before
    device.save()
    assert waited
    device.check()


def test_a_pack_counts_that_is_stored_while_the_job_ends(tmp_path: Path) -> None:
    """The next job would send it again, and nobody would know of it."""
    objects = DirectoryObjects(tmp_path)
    with closing(PendingPacks(tmp_path / "pending")) as pending:
        with closing(BlobWriter(objects, Keys.random(), pending, lambda: None, threads=1)) as writer:
            for number in range(PACK_BYTES // 100_000 + 40):
                writer.add_data(number.to_bytes(32), os.urandom(100_000))
        assert objects.count(Kind.PACK) == len(pending) == 1


def test_a_store_that_is_slow_gets_smaller_packs(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is refreshed between two packs: none may take as long as the lock is good for."""
    moments = iter(range(0, 10**9, 100))
    monkeypatch.setattr("agent.formats.repository.blobs.PACK_BYTES", 4 << 20)
    monkeypatch.setattr("agent.formats.repository.blobs.time.monotonic", lambda: next(moments))
    (device.roots[0].directory / "large").write_bytes(os.urandom(12 << 20))
    device.save()
    packs = (path for path in (device.objects.path / "data").rglob("*") if path.is_file())
    sizes = sorted(path.stat().st_size for path in packs)
    assert sizes[-1] >= 4 << 20
    assert any(1 << 20 <= size < 2 << 20 for size in sizes)


def test_a_cancel_ends_the_work_on_the_state(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory with a million files that is gone takes seconds to forget."""
    device.save()
    shutil.rmtree(device.roots[0].directory / "d")
    token = CancelToken()
    release = State.release

    def cancelled(state: State, known: Known) -> None:
        token.cancel("enough")
        release(state, known)

    monkeypatch.setattr(State, "release", cancelled)
    with pytest.raises(Cancelled):
        device.save(token=token)
    device.check()
