"""Whatever somebody with the password writes into a repository is restored below the target, or refused."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.base.errors import ArchiveError, NewerFormat, RepositoryBroken
from agent.formats.base import FILE, SavedTree
from agent.formats.survey import take_survey
from tests.support.crafted import TIME, CraftedRepository, node
from tests.support.restoring import LIMITS, restore_into, surveyed
from tests.support.trees import snapshot


@pytest.fixture
def crafted(tmp_path: Path) -> CraftedRepository:
    (tmp_path / "repository").mkdir()
    return CraftedRepository(tmp_path / "repository")


def read_whole(tree: SavedTree) -> dict[str, bytes]:
    """Everything that a verification reads."""
    tree.manifest()
    take_survey(tree.items(), LIMITS)
    found: dict[str, bytes] = {}
    for item in tree.items():
        parts: list[bytes] = []
        tree.read(item, parts.append)
        assert len(b"".join(parts)) <= item.size
        if item.kind is FILE:
            found[item.name] = b"".join(parts)
    return found


def test_a_crafted_snapshot_without_malice_is_read(crafted: CraftedRepository) -> None:
    """The other tests here mean something only because of this one."""
    nodes = crafted.file("a"), node("b", "dir", subtree=crafted.tree(crafted.file("c", b"1")))
    assert read_whole(crafted.snapshot(*nodes)) == {"a": b"content", "b/c": b"1"}


@pytest.mark.parametrize(
    "name",
    ["..", ".", "", "a/b", "/a", "../x", "a\0b", r"\x00", r"\x2e\x2e", r"..\x2fx", r"\u002e.", r"\u002f"],
)
def test_a_name_that_leads_out_of_the_directory_is_refused(crafted: CraftedRepository, name: str) -> None:
    """Also in the way of Go's `strconv.Quote`, by which restic writes names."""
    for each in (crafted.file(name), node(name, "dir", subtree=crafted.tree())):
        with pytest.raises(ArchiveError):
            read_whole(crafted.snapshot(each))


CHANGES: dict[str, dict[str, Any]] = {
    "a size that is too small": {"size": 6},
    "a size that is too large": {"size": 8},
    "a huge size": {"size": 1 << 63},
    "a negative size": {"size": -7},
    "no size": {"size": None},
    "a size as a text": {"size": "7"},
    "a chunk that is nowhere": {"content": ["0" * 64]},
    "an id that is too short": {"content": ["00"]},
    "an id that is none": {"content": ["x" * 64]},
    "ids as a text": {"content": "0" * 64},
    "ids in lists": {"content": [["0" * 64]]},
    "a directory without a tree": {"type": "dir"},
    "a directory whose tree is nowhere": {"type": "dir", "subtree": "0" * 64},
    "a link to nothing": {"type": "symlink"},
    "a mode that is none": {"mode": 1 << 40},
    "an owner that nobody can be": {"uid": 1 << 32},
    "a time that is none": {"mtime": "yesterday"},
    "a time in no calendar": {"mtime": "2026-13-41T25:61:61Z"},
    "attributes that are none": {"extended_attributes": [1]},
    "attributes without a value": {"extended_attributes": [{"name": "user.x"}]},
    "more attributes than a file can have": {
        "extended_attributes": [{"name": f"user.{number}", "value": ""} for number in range(2000)]
    },
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_node_that_cannot_be_true_is_refused(crafted: CraftedRepository, change: dict[str, Any]) -> None:
    changed = {key: value for key, value in {**crafted.file("a"), **change}.items() if value is not None}
    with pytest.raises(ArchiveError):
        read_whole(crafted.snapshot(changed))


def test_a_tree_with_a_name_twice_or_unsorted_is_refused(crafted: CraftedRepository) -> None:
    """A link and then a directory with its name would be the way out."""
    link = node("a", "symlink", linktarget="/etc")
    below = node("a", "dir", subtree=crafted.tree(crafted.file("passwd")))
    for nodes in ((link, below), (below, link), (crafted.file("b"), crafted.file("a"))):
        with pytest.raises(RepositoryBroken, match="not sorted"):
            read_whole(crafted.snapshot(*nodes))


def test_trees_that_share_their_subtrees_end_at_the_limit_of_entries(crafted: CraftedRepository) -> None:
    """Forty small trees have a million times a million entries."""
    tree = crafted.tree(crafted.file("x"))
    for _ in range(40):
        tree = crafted.tree(node("a", "dir", subtree=tree), node("b", "dir", subtree=tree))
    with pytest.raises(ArchiveError, match=r"limit of restore\.maxFiles"):
        read_whole(crafted.of_tree(tree, most_entries=1000))


def test_trees_without_an_end_are_refused_by_the_length_of_names(crafted: CraftedRepository) -> None:
    tree = crafted.tree()
    for _ in range(150):
        tree = crafted.tree(node("n" * 200, "dir", subtree=tree))
    with pytest.raises(ArchiveError, match="longer name than any"):
        read_whole(crafted.of_tree(tree))


def test_a_directory_that_is_no_tree_is_refused(crafted: CraftedRepository) -> None:
    """A tree and a chunk may have equal ids, and are not each other."""
    data = crafted.add(b'{"nodes":[]}')
    with pytest.raises(ArchiveError):
        read_whole(crafted.snapshot(node("a", "dir", subtree=data)))


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"",
            b"[]",
            b"{}",
            b"null",
            b'{"nodes":null}',
            b'{"nodes":[',
            b'{"nodes":[1]}',
            b"\xff",
            b'{"nodes":7',
        ),
        *(b'{"nodes":' + b"[" * 1_000_000, b'{"nodes":[' + b"{}," * 1_000_000, b'{"nodes":[' + b"1" * 5000),
        *(b'{"nodes":[{"name":[' + b"[]," * 1_000_000, b'{"nodes":["' + b"x" * (40 << 20), b"7", b'{"a":1,'),
    ],
    ids=lambda text: repr(text[:30]),
)
def test_a_tree_that_is_none_is_refused_or_empty(crafted: CraftedRepository, text: bytes) -> None:
    tree = crafted.of_tree(crafted.add(text, "tree"))
    try:
        assert read_whole(tree) == {}
    except ArchiveError:
        return


def test_a_chunk_that_decompresses_beyond_its_length_is_refused(crafted: CraftedRepository) -> None:
    """The index tells how much memory it takes, before it takes any."""
    for size, said in ((1 << 20, 1000), (1000, 1 << 20), (100 << 20, 100), (1000, 1 << 31)):
        blob = crafted.compressed(bytes(size), uncompressed_length=said)
        with pytest.raises(ArchiveError):
            read_whole(crafted.snapshot(node(f"a{size}", content=[blob], size=said)))


def test_a_chunk_with_another_content_than_its_id_is_refused(crafted: CraftedRepository) -> None:
    """Its authentication code is right: who writes it has the password."""
    blob = crafted.add(b"content", stored=b"CONTENT")
    with pytest.raises(RepositoryBroken, match="another content than its name"):
        read_whole(crafted.snapshot(node("a", content=[blob], size=7)))


PLACES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "out of the repository": lambda pack: pack.update(id="../../../../etc/passwd"),
    "in a pack that is not there": lambda pack: pack.update(id="0" * 64),
    "in a pack with a name that is too long": lambda pack: pack.update(id=pack["id"] + "00"),
    "behind the end": lambda pack: pack["blobs"][0].update(offset=1 << 31),
    "before the beginning": lambda pack: pack["blobs"][0].update(offset=-1),
    "one byte too early": lambda pack: pack["blobs"][0].update(length=pack["blobs"][0]["length"] - 1),
    "without a length": lambda pack: pack["blobs"][0].update(length=0),
    "in more than memory": lambda pack: pack["blobs"][0].update(length=(1 << 32) - 1),
    "in more than any number": lambda pack: pack["blobs"][0].update(length=1 << 70),
    "as a list": lambda pack: pack["blobs"][0].update(length=[]),
    "as another kind": lambda pack: pack["blobs"][0].update(type="key"),
    "nowhere": lambda pack: pack.update(blobs=[]),
    "in no list": lambda pack: pack.update(blobs=7),
}


@pytest.mark.parametrize("change", PLACES.values(), ids=PLACES)
def test_an_index_that_points_elsewhere_is_refused(
    crafted: CraftedRepository, change: Callable[[dict[str, Any]], Any]
) -> None:
    file = crafted.file("a")
    change(crafted.packs[0])
    with pytest.raises(ArchiveError):
        read_whole(crafted.snapshot(file))


def test_a_snapshot_of_a_later_format_is_left_to_a_later_agent(crafted: CraftedRepository) -> None:
    tree = crafted.of_tree(crafted.tree(), tags=["edge-backup-format=2"])
    with pytest.raises(NewerFormat, match="update the agent"):
        tree.manifest()


@pytest.mark.parametrize(
    "members",
    [
        {"tags": ["edge-backup-format=x"]},
        {"tags": ["edge-backup-format=1", "root={"]},
        {"tags": ["edge-backup-format=1", 'root={"path":"data"}']},
        {"tags": ["edge-backup-format=1", 'root={"path":"/other"}']},
        {"tags": ["edge-backup-format=1", "skipped=many", 'root={"path":"/data"}']},
        {"tags": ["edge-backup-format=1", 'root={"path":"/data"}', "exclude=" + "[" * 100_000]},
        {"tags": ["edge-backup-format=1", 'root={"path":"/data"}', 'exclude={"":[[7]]}']},
        {"paths": []},
        {"paths": ["data"]},
        {"paths": ["/data/../.."]},
        {"paths": ["C:\\data"]},
        {"tree": "00"},
        {"tree": 7},
        {"time": "now"},
        {"paths": 7},
        {"tags": 7},
        {"summary": 7},
    ],
)
def test_a_snapshot_that_cannot_be_true_is_refused(
    crafted: CraftedRepository, members: dict[str, Any]
) -> None:
    try:
        found = read_whole(crafted.of_tree(crafted.tree(crafted.file("a")), **members))
    except ArchiveError:
        return
    assert found == {"data/a": b"content"}, "the whole of a snapshot of '/'"


def test_a_link_is_restored_as_one_and_nothing_through_it(crafted: CraftedRepository, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "target"
    target.mkdir()
    (target / "a").symlink_to(outside)
    below = node("a", "dir", subtree=crafted.tree(crafted.file("x")))
    restore = restore_into(target)
    try:
        restore.unpack([surveyed(crafted.snapshot(below))])
        restore.commit()
    finally:
        restore.discard()
    assert not any(outside.iterdir())
    assert (target / "a/x").read_bytes() == b"content"


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 7, 1 << 31, 1 << 32, 1 << 63, 1 << 64, 1.5, 1e300]),
    st.sampled_from(["", ".", "..", "a/b", "\\", "\\x00", "0" * 64, "file", "dir", "symlink", "fifo", TIME]),
    st.text(max_size=20),
    st.lists(st.sampled_from(["0" * 64, "", 0, None, {}]), max_size=3),
    st.just({}),
)
MEMBERS = (
    "name", "type", "mode", "mtime", "ctime", "uid", "gid", "inode", "device_id", "size", "links",
    "linktarget", "linktarget_raw", "extended_attributes", "content", "subtree",
)  # fmt: skip
KINDS = ("file", "dir", "symlink")


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from(MEMBERS), VALUES, max_size=4), st.sampled_from(["file", "dir", "symlink"])
)
def test_any_node_is_restored_below_the_target_or_refused(changes: dict[str, Any], kind: str) -> None:
    """Nothing but ArchiveError comes out, and nothing is written anywhere else."""
    with tempfile.TemporaryDirectory() as work:
        crafted = CraftedRepository(Path(work) / "repository")
        crafted.path.mkdir()
        usual = {**crafted.file("m"), "type": kind, "subtree": crafted.tree(), "linktarget": "x"}
        tree = crafted.snapshot(crafted.file("a"), {**usual, **changes})
        target = Path(work) / "target"
        target.mkdir()
        before = snapshot(target)
        try:
            listed = surveyed(tree)
        except ArchiveError:
            return
        restore = restore_into(target)
        try:
            restore.unpack([listed])
            restore.commit()
        except ArchiveError:
            restore.discard()
            assert snapshot(target).keys() == before.keys()
            return
        restore.discard()
        assert (target / "a").read_bytes() == b"content"
        assert {path.name for path in Path(work).iterdir()} == {"repository", "target"}


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_index_and_any_snapshot_is_read_or_refused(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as work:
        crafted = CraftedRepository(Path(work))
        tree = crafted.tree(node("data", "dir", subtree=crafted.tree(crafted.file("a"))))
        value: dict[str, Any] = {"time": TIME, "tree": tree, "paths": ["/data"], "hostname": "h"}
        index = json.dumps({"packs": crafted.packs}).encode()
        if data.draw(st.booleans()):
            place = data.draw(st.integers(0, len(index) - 1))
            index = (
                index[:place]
                + data.draw(st.binary(max_size=3))
                + index[place + data.draw(st.integers(0, 9)) :]
            )
        else:
            members = st.sampled_from((*value, "tags", "summary", "program_version"))
            value |= data.draw(st.dictionaries(members, VALUES, max_size=2))
        try:
            read_whole(crafted.opened(json.dumps(value).encode(), index))
        except (ArchiveError, NewerFormat):
            return
