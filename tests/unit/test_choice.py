"""The choice of a restore and its places: whatever the archive says, the settings decide."""

import io
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.base.errors import ArchiveError, NotInArchive
from agent.base.roots import Root
from agent.formats.walk_report import Report
from agent.formats.zip.reader import ArchiveReader
from agent.restore.choice import Choice, RootTree
from agent.save.walk import WalkRoot, walk
from tests.support.archives import go_on, written
from tests.support.restoring import LIMITS
from tests.support.trees import Dir, File, Spec, make_tree, write_zip

ETC = Root("network/etc", Path("/etc"), frozenset({"hosts"}))
NET = Root("network/etc/network", Path("/etc/network"))
APP = Root("app/opt", Path("/opt"), frozenset({"app/data"}))
NETWORK = Choice((ETC, NET), (ETC, NET), {"network": "network"})
SAVED: Spec = {
    "network": Dir(), "network/etc": Dir(), "network/etc/hosts": File(b"hosts"),
    "network/etc/network": Dir(), "network/etc/network/eth0": File(b"eth0"),
    "app": Dir(), "app/opt": Dir(), "app/opt/app": Dir(), "app/opt/app/data": File(b"data"),
}  # fmt: skip


def archive(tmp_path: Path, spec: Spec) -> Path:
    return write_zip(tmp_path / "a.zip", spec)


def names(path: Path, root: Root) -> dict[str, str]:
    """Return the names that are restored into the root, with their content; not the root itself."""
    with path.open("rb") as file:
        reader = RootTree(ArchiveReader(file), root)
        found = {}
        for entry in reader.items():
            if not entry.name or entry.on_the_way:
                continue
            parts: list[bytes] = []
            reader.read(entry, parts.append)
            found[entry.name] = b"".join(parts).decode()
        return found


def roots_in(path: Path, choice: Choice) -> Sequence[Root]:
    with path.open("rb") as file:
        return tuple(choice.roots[number] for number in choice.trees(ArchiveReader(file), LIMITS))


def test_each_root_gets_its_own_with_names_relative_to_it(tmp_path: Path) -> None:
    path = archive(tmp_path, SAVED)
    assert roots_in(path, NETWORK) == (ETC, NET)
    assert names(path, ETC) == {"hosts": "hosts"}
    assert names(path, NET) == {"eth0": "eth0"}
    assert names(path, APP) == {"app/data": "data"}
    assert set(names(path, Root("", Path("/")))) == set(SAVED)


def test_a_root_of_which_nothing_was_saved_is_left_alone(tmp_path: Path) -> None:
    """Else `replace` would empty a directory for an archive that never held it."""
    path = archive(tmp_path, {name: SAVED[name] for name in SAVED if "network/etc/network" not in name})
    assert roots_in(path, NETWORK) == (ETC,)


def test_a_saved_directory_that_was_empty_counts(tmp_path: Path) -> None:
    path = archive(tmp_path, {"network/etc/network": Dir()})
    assert roots_in(path, NETWORK) == (NET,)
    assert names(path, NET) == {}


def test_what_is_not_there_is_named_before_anything_happens(tmp_path: Path) -> None:
    path = archive(tmp_path, SAVED)
    wanted = {"network/etc/hosts": "/etc/hosts", "network/etc/network/wlan": "/etc/network/wlan"}
    with pytest.raises(NotInArchive, match="does not hold '/etc/network/wlan'"):
        roots_in(path, replace(NETWORK, wanted=wanted))
    with pytest.raises(NotInArchive, match="does not hold 'users'"):
        roots_in(path, Choice((), (), {"users": "users", "app": "app"}))


def test_a_path_that_two_data_sets_may_hold_needs_to_be_in_one(tmp_path: Path) -> None:
    choice = Choice((ETC, APP), (ETC, APP), {"network/etc/network": "/x", "app/etc/network": "/x"})
    assert roots_in(archive(tmp_path, {"network/etc/hosts": File(), "network/etc/network/x": File()}),
                    replace(choice, data_sets=(ETC, NET, APP))) == (ETC,)  # fmt: skip


@pytest.mark.parametrize("name", ["network/etc/shadow", "network/root/.ssh/authorized_keys", "network/hosts"])
def test_names_outside_the_paths_of_a_chosen_data_set_are_refused(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path, {"network/etc/hosts": File(), name: File()})
    with pytest.raises(ArchiveError, match="is in none of the data set's paths on this device"):
        roots_in(path, NETWORK)


@pytest.mark.parametrize("root", [ETC, NET])
def test_names_outside_a_root_are_never_yielded(tmp_path: Path, root: Root) -> None:
    outside: Spec = {name: File() for name in ("hosts", "etc/hosts", "networks/etc/hosts", "network/etc/x")}
    assert names(archive(tmp_path, outside), root) == {}


def test_a_file_where_the_device_has_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="is a file, and the device has a directory there"):
        names(archive(tmp_path, {"network/etc/network": File()}), NET)


def test_a_hard_link_whose_first_name_is_elsewhere_becomes_a_file(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", {"a": File(b"x"), "sub": Dir()})
    os.link(tmp_path / "tree/a", tmp_path / "tree/sub/b")
    os.link(tmp_path / "tree/a", tmp_path / "tree/sub/c")
    report = Report()
    content = b"".join(
        written(walk(WalkRoot(Root("set/data", tmp_path / "tree")), report, (), go_on), report)
    )
    first = {
        chosen: [entry.hard_link_to for entry in RootTree(ArchiveReader(io.BytesIO(content)), root).items()]
        for chosen, root in {
            "all": Root("set/data", tmp_path),
            "sub": Root("set/data/sub", tmp_path),
        }.items()
    }
    assert set(first["all"]) == {None, "a"}
    assert set(first["sub"]) == {None}


def test_an_archive_with_only_the_name_of_a_data_set_holds_nothing_of_it(tmp_path: Path) -> None:
    with pytest.raises(NotInArchive, match="holds nothing of what was chosen"):
        roots_in(archive(tmp_path, {"network": Dir()}), NETWORK)


def test_an_archive_of_data_sets_is_not_taken_for_a_directory() -> None:
    whole = Choice((Root("", Path("/data")),))
    whole.check_sources([""])
    NETWORK.check_sources(["network/etc"])
    with pytest.raises(NotInArchive, match="the archive holds data sets \\(app, network\\): name some in"):
        whole.check_sources(["network/etc", "network/etc/network", "app/opt"])
