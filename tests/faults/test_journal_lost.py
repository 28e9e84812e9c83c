"""A restore that a crash cut off is recovered without the journal, by what its working directory proves."""

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.faults.tally import LONG, tally
from tests.support.diskfaults import striking
from tests.support.fakes import Device
from tests.support.forked import exit_of
from tests.support.restoring import is_clean
from tests.support.trees import Dir, File, Spec, differences, make_tree, snapshot, write_zip
from tests.support.waiting import wait_until

OLD: Spec = {"dir": Dir(), **{f"dir/file-{n}": File(b"old") for n in range(9)}, "gone": File(b"gone")}
NEW: Spec = {"dir": Dir(0o700), **{f"dir/file-{n}": File(b"new") for n in range(9)}, "added": File(b"added")}
PLACE = {"storage.provider": "local", "local.name": "it.zip", "restore.mode": "replace"}


EVERY = 1 if LONG else 7
"""At how many changes of the disk one crash comes."""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    work = tmp_path.resolve()
    make_tree(work / "data", OLD)
    (work / "storage/archives").mkdir(parents=True)
    write_zip(work / "storage/archives/it.zip", NEW)
    return work


def restore(device: Device, **options: str) -> None:
    value = {"correlationId": "R", "options": PLACE | options}
    said = device.command("restore", value, request_id="r", header="r")
    assert said[0][1]["status"] == 204, said


def cut_off(work: Path, at: int) -> bool:
    """A restore in a process that ends at this change of the disk; False when there are not so many."""

    def act() -> None:
        device = Device(work)
        with striking(at, partial(os._exit, 9)):
            restore(device)
            device.finish()

    return exit_of(act) == 9


def lose_journal(work: Path) -> None:
    for file in (work / "storage").glob("journal*"):
        file.unlink()


def is_new(work: Path) -> bool:
    return (work / "dir/file-3").read_bytes() == b"new"


def started(work: Path) -> tuple[Device, list[dict[str, Any]]]:
    device = Device(work)
    return device, device.values()


def test_wherever_a_crash_comes_all_is_old_or_new_without_the_journal(work: Path) -> None:
    """3,011 of 6,000 files were new for ever, and nobody was told."""
    told, seen = 0, set()
    at = 0
    with tally("crash and lost journal: restore") as points:
        while cut_off(work, at := at + EVERY):
            lose_journal(work)
            device, values = started(work)
            device.close()
            told += bool(values)
            seen.add(is_new(work / "data"))
            with points.trying(f"killed at change {at}"):
                assert_old_or_new(work, values)
            shutil.rmtree(work / "data")
            make_tree(work / "data", OLD)
    assert (seen, told * EVERY > 30) == ({False, True}, True)


def assert_old_or_new(work: Path, values: list[dict[str, Any]]) -> None:
    data, new = work / "data", is_new(work / "data")
    for rubbish in data.glob(".edge-backup-*"):
        # Until it says what it is nothing was changed, and at the end all was: that much may be left.
        at_most = {"done"} if new else {"new", "undo", "proof.tmp"}
        assert {path.name for path in rubbish.iterdir()} <= at_most
        shutil.rmtree(rubbish)
    if not new:
        old = snapshot(make_tree(work / "old", OLD))
        shutil.rmtree(work / "old")
        assert [text for text in differences(old, snapshot(data)) if not text.startswith("'': mtime")] == []
    assert ((data / "added").exists(), (data / "gone").exists()) == (new, not new)
    if values:
        state = "RESTORE_FINISHED" if new else "RESTORE_FAILED"
        assert (values[-1]["state"], values[-1]["correlationId"]) == (state, "R")


@pytest.fixture
def left(work: Path) -> Path:
    """The working directory of a restore that was cut off while some of its files were new."""
    at = 40
    while cut_off(work, at := at + 2):
        found = next((work / "data").glob(".edge-backup-*/plan"), None)
        if found and is_new(work / "data"):
            return found.parent
        shutil.rmtree(work / "data")
        make_tree(work / "data", OLD)
        lose_journal(work)
    raise AssertionError("no crash came in mid-commit")


def test_a_directory_that_was_restored_into_is_looked_at_too(work: Path, left: Path) -> None:
    """It need not be `dir` any more; the storage remembers it, beside the journal."""
    lose_journal(work)
    elsewhere = work / "elsewhere"
    elsewhere.mkdir()
    device = Device(work, {"dir": str(elsewhere)})
    assert (is_new(work / "data"), is_clean(work / "data")) == (False, True)
    device.close()


@pytest.mark.parametrize("spoil", ["plan", "copy", "key", "proof"])
def test_a_plan_that_proves_nothing_is_left_alone_and_told(
    work: Path, left: Path, capsys: pytest.CaptureFixture[str], spoil: str
) -> None:
    """Whoever may write in a target could have put it there."""
    lose_journal(work)
    if spoil == "plan":
        with (left / "plan").open("a") as plan:
            plan.write('[99,"remove","dir",null,null]\n')
    elif spoil == "copy":
        shutil.copytree(left, left.with_name("copy"))
        shutil.rmtree(left)
        left.with_name("copy").rename(left)
    elif spoil == "key":
        (work / "storage/restore.key").unlink()
    else:
        (left / "proof").unlink()
    before = snapshot(work / "data")
    device, values = started(work)
    assert differences(before, snapshot(work / "data")) == []
    assert values == []
    assert "unknown working directory found" in capsys.readouterr().out
    device.close()


def test_a_commit_confirmed_restore_goes_back_without_the_journal(work: Path) -> None:
    """Nobody can confirm it any more."""
    before = snapshot(work / "data")

    def act() -> None:
        device = Device(work)
        restore(device, **{"restore.confirmWithin": "10m"})
        wait_until(lambda: list((work / "data").glob(".edge-backup-*/trial")), what="the trial")
        os._exit(0)

    assert exit_of(act) == 0
    assert is_new(work / "data")
    lose_journal(work)
    device, values = started(work)
    assert (is_new(work / "data"), is_clean(work / "data")) == (False, True)
    assert differences(before, snapshot(work / "data")) == []
    assert values[-1]["state"] == "RESTORE_FAILED"
    device.close()
