"""The device's own prune: what no snapshot needs goes, and nothing else."""

import os
import shutil
from pathlib import Path

import pytest

from agent.base.errors import RepositoryBroken
from agent.base.roots import Root
from agent.formats.repository.objects import Kind
from tests.support.prunes import with_three_snapshots
from tests.support.repositories import Device, is_as_it_was, small_device, source


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return small_device(tmp_path)


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


def test_a_pack_of_many_blobs_stays_whole_in_the_new_index(device: Device, tmp_path: Path) -> None:
    """An index is read in parts of 500 blobs."""
    for number in range(1_100):
        (source(device) / f"{number}").write_bytes(b"%d" % number)
    first = device.save().id
    (source(device) / "more").write_bytes(b"more")
    device.save()
    device.remove(first)
    is_as_it_was(device, tmp_path / "restored")


def test_a_damaged_repository_is_left_as_it_is(device: Device) -> None:
    """A remaining snapshot has lost a pack: the device must not remove more files that it may need."""
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


def test_a_damaged_index_stops_a_prune(device: Device) -> None:
    """Its packs have no name then, too."""
    first, *_ = with_three_snapshots(device)
    (device.objects.path / "index" / ("0" * 64)).write_bytes(b"damaged")
    with pytest.raises(RepositoryBroken, match="index/00000000"):
        device.remove(first)


@pytest.mark.parametrize("kind", [Kind.INDEX, Kind.SNAPSHOT])
def test_an_object_of_another_repository_stops_a_prune_that_names_it(
    device: Device, tmp_path: Path, kind: Kind
) -> None:
    """restic#4862: after two repositories were mixed, the message did not say what to remove."""
    device.save()
    other = small_device(tmp_path / "other")
    other.save()
    (foreign,) = (other.objects.path / kind).iterdir()
    shutil.copy(foreign, device.objects.path / kind)
    before = device.size_bytes
    with pytest.raises(RepositoryBroken, match=f"{kind}/{foreign.name[:8]} .* another key"):
        device.remove()
    assert device.size_bytes == before
    (device.objects.path / kind / foreign.name).unlink()
    device.remove()


def test_a_damaged_snapshot_stops_a_prune(device: Device) -> None:
    """Nobody knows what it needs; the operator removes it."""
    first, second, _ = with_three_snapshots(device)
    path = device.objects.path / "snapshots" / second
    path.write_bytes(b"")
    with pytest.raises(RepositoryBroken, match=f"snapshots/{second[:8]}"):
        device.remove(first)
    path.unlink()
    device.remove(first)
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
