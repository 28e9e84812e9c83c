"""No restore touches the agent's own storage, wherever in the target it is: the journal is in there."""

from pathlib import Path

import pytest

from agent.base.errors import AccessForbidden
from agent.restore.root import RestoreOptions
from tests.support.restoring import LIMITS, is_clean, restored
from tests.support.trees import Dir, File, Link, Spec, differences, make_tree, snapshot, write_zip

OLD: Spec = {
    "a": Dir(),
    "a/old": File(b"old"),
    "a/storage": Dir(0o700),
    "a/storage/journal.db": File(b"journal", 0o600),
    "a/storage-not": Dir(),
    "b": Dir(),
}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return make_tree(tmp_path.resolve() / "target", OLD)


def options(target: Path, mode: str) -> RestoreOptions:
    return RestoreOptions(limits=LIMITS, mode=mode, own=(target / "a" / "storage",))


@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_what_is_around_the_storage_is_restored(tmp_path: Path, target: Path, mode: str) -> None:
    archive = write_zip(tmp_path / "new.zip", {"a": Dir(), "a/new": File(b"new")})
    restored(target, archive, options(target, mode))
    assert (target / "a/storage/journal.db").read_bytes() == b"journal"
    assert (target / "a/new").exists()
    for gone in ("a/old", "a/storage-not", "b"):
        assert (target / gone).exists() is (mode == "merge"), gone


@pytest.mark.parametrize(
    ("named", "mode"),
    [
        ({"a": Dir(), "a/storage": Dir(), "a/storage/journal.db": File(b"forged")}, "merge"),
        ({"a": Dir(), "a/storage": Dir()}, "merge"),
        ({"a": Dir(), "a/storage": Link("/elsewhere")}, "merge"),
        ({"a": Dir(), "a/storage": File(b"x")}, "merge"),
        ({"a": Link("/elsewhere")}, "merge"),
        ({"a": File(b"x")}, "replace"),
        ({"b": Dir()}, "replace"),
    ],
    ids=["forged", "directory", "link", "file", "link above", "file above", "removed from above"],
)
def test_what_would_change_the_storage_is_refused_whole(
    tmp_path: Path, target: Path, named: Spec, mode: str
) -> None:
    before = snapshot(target)
    archive = write_zip(tmp_path / "new.zip", {"b": Dir(), "b/new": File(b"new"), **named})
    with pytest.raises(AccessForbidden, match="agent's own storage"):
        restored(target, archive, options(target, mode))
    assert differences(before, snapshot(target)) == []
    assert is_clean(target)
