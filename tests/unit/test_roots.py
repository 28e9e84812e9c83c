"""Roots of a job, and their names in an archive: the device's settings decide, never the archive."""

import os
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agent.base.roots import Root, data_set_roots, merged
from agent.formats.walk_report import Report
from agent.save.walk import WalkRoot, walk
from tests.support.archives import go_on

NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)


def found(root: Root, report: Report | None = None) -> list[str]:
    return sorted(entry.name for entry in walk(WalkRoot(root), report or Report(), (), go_on))


def test_a_directory_is_its_own_root_and_files_share_the_one_around_them(tmp_path: Path) -> None:
    (tmp_path / "network").mkdir()
    for name in ("hosts", "hostname"):
        (tmp_path / name).write_bytes(b"")
    roots = data_set_roots("net", [f"{tmp_path}/{name}" for name in ("network", "hosts", "hostname")])
    prefix = f"net{tmp_path}"
    assert roots == (
        Root(prefix, tmp_path.resolve(), frozenset({"hosts", "hostname"})),
        Root(f"{prefix}/network", tmp_path.resolve() / "network"),
    )


def test_what_does_not_exist_is_a_name_in_the_nearest_directory_above(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    roots = data_set_roots("set", [f"{tmp_path}/opt/app", f"{tmp_path}/file/below"])
    assert roots == (Root(f"set{tmp_path}", tmp_path.resolve(), frozenset({"opt/app", "file/below"})),)


def test_a_link_to_a_directory_is_followed_and_any_other_is_saved_itself(tmp_path: Path) -> None:
    (tmp_path / "v2").mkdir()
    (tmp_path / "current").symlink_to("v2")
    (tmp_path / "dangling").symlink_to("nowhere")
    roots = data_set_roots("app", [f"{tmp_path}/current", f"{tmp_path}/dangling"])
    assert roots == (
        Root(f"app{tmp_path}", tmp_path.resolve(), frozenset({"dangling"})),
        Root(f"app{tmp_path}/current", tmp_path.resolve() / "v2"),
    )
    assert found(roots[0])[-1] == f"app{tmp_path}/dangling"


def test_the_file_system_s_own_root_can_be_a_data_set() -> None:
    (root,) = data_set_roots("all", ["/"])
    assert root == Root("all", Path("/"))
    assert (root.archived("etc"), root.relative("all/etc"), root.relative("all")) == ("all/etc", "etc", "")


def test_only_the_chosen_names_are_archived_with_the_directories_on_the_way(tmp_path: Path) -> None:
    for name in ("a/b/c", "a/x", "d", "e/f"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    report = Report()
    root = Root("set/data", tmp_path, frozenset({"a/b", "d", "gone"}))
    prefixed = ["set/data", "set/data/a", "set/data/a/b", "set/data/a/b/c", "set/data/d"]
    assert found(root, report) == prefixed
    assert report.unexportable == [("set/data/gone", "missing")]
    assert found(replace(root, prefix="")) == ["a", "a/b", "a/b/c", "d"]


def test_hard_links_name_the_first_one_as_the_archive_does(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x")
    os.link(tmp_path / "one", tmp_path / "two")
    entries = list(walk(WalkRoot(Root("set/data", tmp_path)), Report(), (), go_on))
    linked = {entry.hard_link_to for entry in entries} - {None}
    assert linked < {entry.name for entry in entries}
    assert len(linked) == 1


def test_roots_in_one_place_become_one() -> None:
    here, there = Root("set", Path("/d"), frozenset({"a"})), Root("other", Path("/d"), frozenset({"a"}))
    assert merged([here, there, replace(here, names=frozenset({"b"}))]) == (
        there,
        replace(here, names=frozenset({"a", "b"})),
    )
    assert merged([here, replace(here, names=None)]) == (replace(here, names=None),)


@given(NAMES, st.none() | st.frozensets(NAMES, max_size=3), NAMES, st.sampled_from(["", "s", "s/a"]))
def test_a_narrowed_root_holds_what_both_it_and_the_name_hold(
    name: str, names: frozenset[str] | None, chosen: str, prefix: str
) -> None:
    root = Root(prefix, Path("/d"), names)
    narrowed = root.narrowed(root.archived(chosen))
    both = root.holds(name) and f"{name}/".startswith(f"{chosen}/")
    assert (narrowed is not None and narrowed.holds(name)) == both


@given(NAMES, st.frozensets(NAMES, max_size=3))
def test_names_go_there_and_back_and_directories_lead_to_them(name: str, names: frozenset[str]) -> None:
    root = Root("set/a", Path("/d"), names)
    assert root.relative(root.archived(name)) == name
    assert Root("", Path("/d")).relative(name) == name
    assert root.relative(f"set/ab/{name}") is None
    assert root.leads_to(name) == any(held != name and held.startswith(f"{name}/") for held in names)


def test_the_whole_of_a_root_is_what_is_above_it() -> None:
    root = Root("network/etc", Path("/etc"), frozenset({"hosts"}))
    assert root.narrowed("network") == root.narrowed("network/etc") == root
    assert root.narrowed("net") is None
    assert root.narrowed("network/etc/passwd") is None
