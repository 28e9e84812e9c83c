"""Snapshots in a repository, judged by restic: it checks, lists and restores what the agent wrote."""

import json
from pathlib import Path

import pytest

from agent.base.roots import Root
from tests.support.repositories import PASSWORD, Device, mounted, restic
from tests.support.trees import Dir, File, Link, Spec, make_tree, snapshot

TREE: Spec = {
    "empty": Dir(),
    "sub": Dir(0o750),
    "sub/deeper": Dir(),
    "sub/deeper/file": File(b"deep"),
    "sub/text": File(b"text\n" * 10_000, 0o640),
    "big": File(bytes(range(256)) * 4096 * 3),
    "nothing": File(b""),
    "link": Link("sub/text"),
}


def test_restic_checks_and_restores_what_the_agent_wrote(tmp_path: Path) -> None:
    """The format is read by tools that exist: they are the proof of every byte."""
    source = make_tree(tmp_path / "source", TREE)
    device = Device.at(tmp_path, Root("", source))
    saved = device.save()
    device.check()
    (found,) = device.snapshots()
    assert found["id"] == saved.id
    assert found["paths"] == [str(source)]
    device.restic("restore", saved.id, "--target", str(tmp_path / "restored"))
    restored = tmp_path / "restored" / source.relative_to("/")
    assert snapshot(restored) == snapshot(source)


def test_an_unchanged_directory_costs_one_small_object(tmp_path: Path) -> None:
    """A device on a metered link sends what changed, and nothing else."""
    device = Device.at(tmp_path, Root("", make_tree(tmp_path / "source", TREE)))
    # Without a home on the device: the directories above are those of all tests, and change at any moment.
    device.options["origin"] = device.origin(sources=())
    device.save()
    before = {path for path in device.objects.path.rglob("*") if path.is_file()}
    again = device.save()
    (added,) = {path for path in device.objects.path.rglob("*") if path.is_file()} - before
    assert added.name == again.id
    assert added.stat().st_size <= 1024
    assert (again.changes.files_new, again.changes.files_changed, again.changes.files_unmodified) == (0, 0, 4)
    device.check()


def test_new_hardware_goes_on_from_the_last_snapshot(tmp_path: Path) -> None:
    """The state is a cache: with read rights it is made again, and nothing is sent twice."""
    device = Device.at(tmp_path, Root("", make_tree(tmp_path / "source", TREE)))
    device.save()
    device.state.rename(tmp_path / "old hardware")
    again = device.save()
    assert again.changes.added_bytes < 8000  # trees of directories above, which the renaming has changed
    assert (again.changes.files_new, again.changes.files_changed, again.changes.files_unmodified) == (0, 0, 4)
    device.check()


@pytest.mark.slow
def test_restic_copies_and_compares_snapshots(tmp_path: Path) -> None:
    """A copy elsewhere and a look at what changed are the operator's daily work; facts of ours survive it."""
    source = make_tree(tmp_path / "source", TREE)
    device = Device.at(tmp_path, Root("", source))
    first = device.save()
    (source / "sub/text").write_bytes(b"changed")
    second = device.save()
    difference = device.restic("diff", first.id, second.id)
    assert f"M    {source}/sub/text" in difference
    other = tmp_path / "other"
    restic(other, "init", "--repository-version", "2")
    (tmp_path / "password").write_text(PASSWORD)
    device.restic("copy", "--repo2", str(other), "--password-file2", str(tmp_path / "password"))
    restic(other, "check", "--read-data")
    copied = json.loads(restic(other, "snapshots", "--json"))
    assert [each["tags"] for each in copied] == [each["tags"] for each in device.snapshots()]
    assert {each["tree"] for each in copied} == {each["tree"] for each in device.snapshots()}


def test_restic_shows_snapshots_in_a_directory(tmp_path: Path) -> None:
    """`restic mount` is how an operator looks for one file in many nights."""
    source = make_tree(tmp_path / "source", TREE)
    device = Device.at(tmp_path, Root("", source))
    device.save()
    with mounted(device.objects.path, tmp_path / "mounted") as directory:
        shown = directory / "snapshots/latest" / source.relative_to("/")
        assert snapshot(shown) == snapshot(source)
