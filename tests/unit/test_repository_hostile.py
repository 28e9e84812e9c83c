"""Whatever somebody with the password writes into a repository is restored below the target, or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.base.errors import ArchiveError, NewerFormat, RepositoryBroken
from agent.formats.archive_names import OwnArchives, device_tag
from agent.formats.base import SavedTree, Unlock
from agent.formats.entries import FILE
from agent.formats.entry_checks import take_survey
from agent.formats.repository.snapshots import Snapshots
from agent.transfer.cancel import CancelToken
from providers.errors import Rejected
from tests.support.crafted import CraftedRepository, node
from tests.support.hostile_repository import Attack, Ground, RepositoryInMemory, destination_of
from tests.support.repositories import HOST, PASSWORD
from tests.support.restoring import LIMITS, restore_into, surveyed


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
        {"paths": ["dat"]},
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


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (["data"], {"a"}),
        (["."], {"data/a"}),
        (["/srv/data"], {"a"}),
        (["/srv/dir"], {"data/a"}),
        (["C:\\data", "C:\\other"], {"data/a"}),
        (["/home/data", "/srv/other"], {"data/a"}),
        (["/data/a"], {"a"}),
        (["/a", "/data/b"], set()),
    ],
)
def test_nothing_is_lost_of_a_tree_that_begins_elsewhere(
    crafted: CraftedRepository, paths: list[str], found: set[str]
) -> None:
    """As rustic writes it, restic on Windows, and restic before 0.9 (restic 549, 1701)."""
    assert set(read_whole(crafted.of_tree(crafted.tree(crafted.file("a")), paths=paths))) == found


@pytest.mark.parametrize("paths", [["/data/gone"], ["/data/a/below"]])
def test_a_path_that_was_rewritten_away_is_told(crafted: CraftedRepository, paths: list[str]) -> None:
    with pytest.raises(RepositoryBroken, match="does not hold"):
        read_whole(crafted.of_tree(crafted.tree(crafted.file("a")), paths=paths))


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "times"),
    [("keys", 21), ("snapshots", 10_001), ("snapshots", 10**9), ("index", 10**9)],
)
def test_a_listing_that_hardly_ends_is_refused(kind: str, times: int, tmp_path: Path) -> None:
    """A server may name a billion objects, each of which costs a request, and a key some seconds."""
    objects = Ground().built(Attack([], in_order=True, key={"N": 4} if kind == "keys" else {}))
    (snapshot,) = (name for name in objects if name.startswith("snapshots/"))
    source = destination_of(RepositoryInMemory(objects, **{kind: times}), CancelToken())
    archives = Snapshots(PASSWORD, tmp_path, 1000, 0)
    own, name = OwnArchives(device_tag(HOST), {}), snapshot.partition("/")[2]
    with pytest.raises((RepositoryBroken, Rejected), match="has more than"):
        archives.open(source, name, Unlock()) if kind == "index" else archives.listed(source, own)
