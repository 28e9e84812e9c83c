"""Others work on a repository while the device does: they read, copy, forget and prune."""

import os
from pathlib import Path

import pytest

from agent.formats.repository.objects import Kind
from tests.support.repositories import PASSWORD, Device, is_as_it_was, restic, small_device, source
from tests.support.trees import snapshot


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return small_device(tmp_path)


@pytest.mark.slow
def test_restic_reads_and_checks_and_copies_while_the_device_writes(device: Device, tmp_path: Path) -> None:
    """No snapshot refers to the files of an unfinished backup, so restic finds nothing missing."""
    device.save()
    before = snapshot(source(device))
    (source(device) / "new").write_bytes(os.urandom(300_000))
    copy, from_here = tmp_path / "copy", {"RESTIC_FROM_PASSWORD": PASSWORD}
    restic(copy, "init", "--repository-version", "2")
    done = []

    def meanwhile(call: str, kind: Kind) -> None:
        if call != "put" or kind in done:
            return
        done.append(kind)
        if kind is Kind.INDEX:
            assert snapshot(device.restored(tmp_path / "restored")) == before
            device.check(locked=True)
        elif kind is Kind.SNAPSHOT:
            restic(copy, "copy", "--from-repo", str(device.objects.path), environment=from_here)
            assert "already locked" in device.restic("check", ok=False)

    device.objects.before = meanwhile
    device.save()
    assert done == [Kind.LOCK, Kind.PACK, Kind.INDEX, Kind.SNAPSHOT]
    restic(copy, "check", "--read-data")
    is_as_it_was(device, tmp_path / "afterwards")


def test_restic_forgets_and_prunes_between_the_jobs_of_the_device(device: Device, tmp_path: Path) -> None:
    """So do the device's own prune and restic's, in any order."""
    for number in range(6):
        (source(device) / "d/b").write_bytes(os.urandom(100_000))
        device.save()
        if number % 3 == 0:
            device.restic("forget", "--keep-last", "1", "--prune", "--max-unused", "0")
        elif number % 3 == 1:
            device.remove(*device.names()[:-1])
        else:
            device.restic("forget", "--keep-last", "1")  # and no prune
    device.remove()
    assert device.size_bytes < 120_000
    is_as_it_was(device, tmp_path / "restored")
