"""Snapshots restored by the agent: those that it wrote, and those of restic."""

import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from agent.base.errors import ForeignArchive, NoneChosen, NoSpace, RepositoryBroken, WrongKey
from agent.base.roots import Root
from agent.formats.archive_names import ALL_ARCHIVES, OwnArchives, device_tag
from agent.formats.base import Unlock
from agent.formats.entry_checks import ArchiveLimits, take_survey
from agent.formats.repository.snapshots import Snapshots
from providers.errors import NotFound
from tests.support.acls import DEFAULT, acl
from tests.support.real_disks import real_disk
from tests.support.repositories import HOST, PASSWORD, Device, restic
from tests.support.snapshots import destination, opened, restored, verified
from tests.support.trees import Dir, File, Link, make_tree, snapshot

AS_SET = ArchiveLimits(max_files=1_000_000, max_bytes=64 << 30, max_ratio=1100)
"""The limits without settings."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Everything that a snapshot can have."""
    root = make_tree(
        tmp_path / "source",
        {
            "set-uid": File(b"content", 0o4750),
            "nothing": File(b""),
            "none": File(b"", 0o000),
            "dangling": Link("nowhere/at all"),
            "dir": Dir(0o1770),
            "dir/inner": File(b"y", 0o400),
            "dir/deeper": Dir(),
            "dir/deeper/empty": Dir(0o700),
            "old": File(b"z", mtime_ns=-1_000_000_001),
            "line\nbreak": File(b"1"),
            'quote " \\ ä \u2028': File(b"2"),
            "big": File(os.urandom(3 << 20)),
            "zeros": File(bytes(1 << 20)),
        },
    )
    (root / os.fsdecode(b"latin \xe4")).write_bytes(b"3")
    os.symlink(b"to \xff", os.fsencode(root) + b"/raw link")
    os.chown(root / "nothing", 1234, 2345)
    os.lchown(root / "dangling", 1, 2)
    os.setxattr(root / "set-uid", "user.note", b"\0\xffbinary")
    os.setxattr(root / "dir", "user.empty", b"")
    os.setxattr(root / "dir", DEFAULT, acl(77, user_may=5))
    os.link(root / "big", root / "dir/second name")
    with (root / "sparse").open("wb") as file:
        file.truncate(20 << 20)
        os.pwrite(file.fileno(), b"end", (20 << 20) - 3)
    os.setxattr(root, "user.top", b"top")
    os.utime(root, ns=(1_700_000_000_000_000_001,) * 2)
    return root


def texts(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def attributes(root: Path) -> dict[str, dict[str, bytes]]:
    return {
        str(path.relative_to(root)): {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
        }
        for path in (root, *root.rglob("*"))
    }


def is_equal(first: Path, second: Path) -> bool:
    assert snapshot(first) == snapshot(second)
    assert attributes(first) == attributes(second)
    assert (second / "big").stat().st_ino == (second / "dir/second name").stat().st_ino
    assert (second / "sparse").stat().st_blocks * 512 < 1 << 20
    return True


def test_a_snapshot_of_the_agent_comes_back_as_it_was(source: Path, tmp_path: Path) -> None:
    device = Device.at(tmp_path, Root("", source))
    saved = device.save()
    target = tmp_path / "target"
    target.mkdir()
    (target / "stays not").write_text("it is not in the snapshot")
    amount = restored(device.objects.path, [Root("", target)], tmp_path / "scratch")
    assert amount.archive == saved.id
    assert is_equal(source, target)
    assert not any((tmp_path / "scratch").iterdir())


def test_a_snapshot_of_restic_comes_back_as_it_was(source: Path, tmp_path: Path) -> None:
    """Its host is another name than the device's id: whoever wants it says so."""
    repository = tmp_path / "repository"
    (source / "raw link").unlink()  # restic loses such a target before 0.16
    os.utime(source, ns=(1_700_000_000_000_000_001,) * 2)
    restic(repository, "init", "--repository-version", "2")
    restic(repository, "backup", "--host", "workstation", str(source))
    target = tmp_path / "target"
    target.mkdir()
    name = os.listdir(repository / "snapshots")[0]
    with pytest.raises(ForeignArchive, match="workstation"):
        restored(repository, [Root("", target)], tmp_path / "scratch", name)
    assert not any(target.iterdir())
    restored(repository, [Root("", target)], tmp_path / "scratch", name, host=None)
    assert is_equal(source, target)


def test_a_large_sparse_file_is_no_bomb(tmp_path: Path) -> None:
    """zstd makes less of zeros than Deflate can: a backup of a new disk image could not be restored."""
    source = make_tree(tmp_path / "source", {"image": File(b"")})
    os.truncate(source / "image", 65 << 20)
    device = Device.at(tmp_path, Root("", source))
    with closing(opened(device.objects.path, device.save().id, tmp_path / "scratch")) as tree:
        assert take_survey(tree.items(), AS_SET).size_bytes == 65 << 20


def test_the_newest_snapshot_of_this_device_is_taken(tmp_path: Path) -> None:
    """Others in the repository are of operators, who try something out."""
    source = make_tree(tmp_path / "source", {"file": File(b"first")})
    device = Device.at(tmp_path, Root("", source))
    first = device.save()
    (source / "file").write_bytes(b"second")
    second = device.save()
    make_tree(tmp_path / "other", {"file": File(b"another")})
    device.restic("backup", "--host", "workstation", str(tmp_path / "other"))
    target = tmp_path / "target"
    target.mkdir()
    assert restored(device.objects.path, [Root("", target)], tmp_path / "scratch").archive == second.id
    assert texts(target) == {"file": b"second"}
    for name in (first.id, first.id[:8]):
        restored(device.objects.path, [Root("", target)], tmp_path / "scratch", name)
        assert texts(target) == {"file": b"first"}


def test_damaged_snapshots_do_not_take_the_others_away(tmp_path: Path) -> None:
    """restic 2113, k8up 835, rustic 1154: none could be listed, and so the newest was not found."""
    source = make_tree(tmp_path / "source", {"file": File(b"first")})
    device = Device.at(tmp_path, Root("", source))
    saved = device.save()
    snapshots = device.objects.path / "snapshots"
    (snapshots / ("0" * 64)).write_bytes(b"")
    (snapshots / ("1" * 64)).write_bytes(bytes(2 << 20))
    (snapshots / ("f" * 64)).write_bytes((snapshots / saved.id).read_bytes())
    (source / "file").unlink()
    assert restored(device.objects.path, [Root("", source)], tmp_path / "scratch").archive == saved.id
    assert texts(source) == {"file": b"first"}
    (snapshots / saved.id).unlink()
    with pytest.raises(RepositoryBroken, match=r"is damaged|has more than"):
        restored(device.objects.path, [Root("", source)], tmp_path / "scratch")


def test_a_damaged_index_is_told_where_it_is_needed(tmp_path: Path) -> None:
    """A stick has one bad block. Other snapshots need other indexes."""
    source = make_tree(tmp_path / "source", {"file": File(b"first")})
    device = Device.at(tmp_path, Root("", source))
    first = device.save()
    indexes = device.objects.path / "index"
    before = {*indexes.iterdir()}
    (source / "file").write_bytes(b"second")
    device.save()
    for path in {*indexes.iterdir()} - before:
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(RepositoryBroken, match="no index of the repository names: the file index/"):
        restored(device.objects.path, [Root("", source)], tmp_path / "scratch")
    restored(device.objects.path, [Root("", source)], tmp_path / "scratch", first.id)
    assert texts(source) == {"file": b"first"}


def test_copies_of_objects_in_directories_below_are_none_of_the_repository(tmp_path: Path) -> None:
    """Somebody has kept the indexes of before a repair beside the new ones."""
    source = make_tree(tmp_path / "source", {"file": File(b"first")})
    device = Device.at(tmp_path, Root("", source))
    saved = device.save()
    for kind in ("index", "snapshots", "keys"):
        for path in [*(device.objects.path / kind).iterdir()]:
            path.with_name("old").mkdir()
            path.with_name("old").joinpath(f"{path.name[::-1]}").write_bytes(path.read_bytes())
    assert restored(device.objects.path, [Root("", source)], tmp_path / "scratch").archive == saved.id


def test_a_snapshot_is_named_by_the_beginning_of_its_id_if_that_is_enough(tmp_path: Path) -> None:
    device = Device.at(tmp_path, Root("", make_tree(tmp_path / "source", {"file": File(b"first")})))
    for _ in range(17):
        device.save()
    first = sorted(name[0] for name in os.listdir(device.objects.path / "snapshots"))
    twice = next(each for each in first if first.count(each) > 1)
    archives, at = Snapshots(PASSWORD, tmp_path / "scratch", 1_000_000, 0), destination(device.objects.path)
    with pytest.raises(NoneChosen, match="several snapshots begin with"):
        archives.open(at, twice, Unlock())
    with pytest.raises(NotFound, match="no snapshot 'xyz'"):
        archives.open(at, "xyz", Unlock())
    with pytest.raises(NotFound):
        archives.open(at, "0" * 64, Unlock())


def test_a_repository_at_the_top_of_a_store_is_opened_once(tmp_path: Path) -> None:
    """A restore looks for its snapshot first, and scrypt takes a second on a small device."""
    device = Device.at(tmp_path, Root("", make_tree(tmp_path / "source", {"file": File(b"first")})))
    saved = device.save()
    archives = Snapshots(PASSWORD, tmp_path / "scratch", 1_000_000, 0)
    assert len(archives.listed(destination(device.objects.path), ALL_ARCHIVES)) == 1
    shutil.rmtree(device.objects.path / "keys")
    assert archives.manifest(destination(device.objects.path, saved.id), saved.id, Unlock()).device == HOST


def test_data_sets_and_single_paths_come_back_to_their_places(tmp_path: Path) -> None:
    """A snapshot keeps absolute paths, and a restore has the names of archives."""
    etc = make_tree(
        tmp_path / "etc", {"hosts": File(b"1"), "other": File(b"2"), "net": Dir(), "net/a": File(b"3")}
    )
    data = make_tree(tmp_path / "data", {"log": File(b"4")})
    prefix = str(etc).strip("/")
    roots = (
        Root(f"config/{prefix}", etc, frozenset({"hosts", "net/a"})),
        Root(f"data/{str(data).strip('/')}", data),
    )
    device = Device.at(tmp_path, *roots)
    device.save()
    (etc / "hosts").write_bytes(b"changed")
    (etc / "other").write_bytes(b"changed")
    (etc / "net/a").unlink()
    (data / "log").unlink()
    repository, scratch = device.objects.path, tmp_path / "scratch"
    restored(repository, [roots[0]], scratch, data_sets=[roots[0]])
    assert texts(etc) == {"hosts": b"1", "other": b"changed", "net/a": b"3"}
    assert texts(data) == {}
    (etc / "hosts").write_bytes(b"changed")
    restored(repository, [Root(roots[1].prefix, data, frozenset({"log"}))], scratch, data_sets=[roots[1]])
    assert texts(data) == {"log": b"4"}
    assert (etc / "hosts").read_bytes() == b"changed"


def test_single_paths_of_a_directory_come_back_below_it(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", {"sub": Dir(), "sub/a": File(b"1"), "b": File(b"2")})
    device = Device.at(tmp_path, Root("", source, frozenset({"sub/a"})))
    device.save()
    (name,) = os.listdir(device.objects.path / "snapshots")
    manifest = opened(device.objects.path, name, tmp_path / "scratch").manifest()
    assert [(each.path, each.names) for each in manifest.sources] == [(str(source), ["sub/a"])]
    (source / "sub/a").unlink()
    (source / "b").write_bytes(b"stays")
    chosen = Root("", source, frozenset({"sub/a"}))
    restored(device.objects.path, [chosen], tmp_path / "scratch")
    assert texts(source) == {"sub/a": b"1", "b": b"stays"}


def test_what_a_command_collected_comes_back_from_the_top(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", {"dump": File(b"rows"), "sub": Dir(), "sub/a": File(b"1")})
    device = Device.at(tmp_path, Root("", source))
    origin = device.origin(sources=())
    device.options["origin"] = origin
    device.save()
    target = tmp_path / "target"
    target.mkdir()
    restored(device.objects.path, [Root("", target)], tmp_path / "scratch")
    assert texts(target) == texts(source)


@pytest.mark.slow
def test_several_paths_of_restic_come_back_below_the_directory_around_them(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", {"a": Dir(), "a/1": File(b"1"), "b": File(b"2"), "c": File(b"3")})
    repository = tmp_path / "repository"
    restic(repository, "init", "--repository-version", "2")
    restic(repository, "backup", "--host", HOST, str(source / "a"), str(source / "b"))
    target = tmp_path / "target"
    target.mkdir()
    restored(repository, [Root("", target)], tmp_path / "scratch")
    assert texts(target) == {"a/1": b"1", "b": b"2"}


def test_paths_of_restic_may_be_relative_or_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """restic 3131, 1701, 1884: the list has absolute paths, and the tree begins where the command ran."""
    cases: list[tuple[str, list[str], set[str]]] = [
        ("source", ["."], {"a/1", "a/2/3", "b"}),
        ("source", ["a"], {"1", "2/3"}),
        ("source", ["b"], {"b"}),
        ("source", ["a/2", "b"], {"a/2/3", "b"}),
        ("source/a", ["../b", "2"], {"2/3", "b"}),
        ("source/a", ["../b"], {"b"}),
        ("source/a/2", ["."], {"3"}),
        ("", ["source"], {"a/1", "a/2/3", "b"}),
        ("", ["source/b"], {"b"}),
        ("", [f"{tmp_path}/source/b"], {"b"}),
        ("", [f"{tmp_path}/source/a/1", f"{tmp_path}/source/a/2"], {"1", "2/3"}),
    ]
    source = make_tree(
        tmp_path / "source",
        {"a": Dir(), "a/1": File(b"1"), "a/2": Dir(), "a/2/3": File(b"3"), "b": File(b"2")},
    )
    device = Device.at(tmp_path, Root("", source))
    names, repository, scratch = [device.save().id], device.objects.path, tmp_path / "scratch"
    for number, (directory, paths, found) in enumerate(cases):
        (repository / "snapshots" / names[0]).unlink()
        monkeypatch.chdir(source.parent / directory)
        restic(repository, "backup", "--host", HOST, *paths)
        names = os.listdir(repository / "snapshots")
        (target := tmp_path / f"target-{number}").mkdir()
        restored(repository, [Root("", target)], scratch)
        assert set(texts(target)) == found, (directory, paths)
        assert verified(repository, names[0], scratch).damage is None


def test_the_manifest_says_what_the_backup_was(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", {"a": File(b"12345")})
    device = Device.at(tmp_path, Root("", source))
    saved = device.save()
    archives, at = Snapshots(PASSWORD, tmp_path / "scratch", 1_000_000, 0), destination(device.objects.path)
    manifest = archives.manifest(at, saved.id, Unlock())
    assert (manifest.device, manifest.agent, manifest.correlation_id) == (
        HOST,
        "edge-backup/test",
        "request-1",
    )
    assert [(each.path, each.prefix, each.names) for each in manifest.sources] == [(str(source), "", None)]
    assert (manifest.counts.files, manifest.counts.bytes) == (1, 5)
    (listed,) = archives.listed(at, OwnArchives(device_tag(HOST), {}))
    assert (listed.name, listed.series) == (saved.id, "backup")
    assert archives.listed(at, OwnArchives(device_tag("another"), {})) == []


def test_a_wrong_password_is_told(tmp_path: Path) -> None:
    device = Device.at(tmp_path, Root("", make_tree(tmp_path / "source", {"a": File(b"1")})))
    saved = device.save()
    with pytest.raises(WrongKey):
        Snapshots("wrong", tmp_path / "scratch", 1_000_000, 0).open(
            destination(device.objects.path), saved.id, Unlock()
        )


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """The list of blobs and the list of entries are temporary files on the device's own disk."""
    source = make_tree(tmp_path / "source", {"a": File(b"1")})
    device = Device.at(tmp_path, Root("", source))
    device.save()
    with real_disk("tmpfs", tmp_path / "scratch") as disk:
        with disk.full(), pytest.raises(NoSpace):
            restored(device.objects.path, [Root("", source)], disk.path)
        assert not any(disk.path.iterdir())
        restored(device.objects.path, [Root("", source)], disk.path)
    assert texts(source) == {"a": b"1"}


def test_damage_anywhere_leaves_the_target_as_it_was(tmp_path: Path) -> None:
    """Every pack that is cut, changed or gone is noticed before a byte of it is put in place."""
    source = make_tree(
        tmp_path / "source", {"a": File(os.urandom(200_000)), "sub": Dir(), "sub/b": File(b"2")}
    )
    device = Device.at(tmp_path, Root("", source))
    device.save()
    target = make_tree(tmp_path / "target", {"here": File(b"before")})
    before = snapshot(target)
    packs = sorted(path for path in (device.objects.path / "data").rglob("*") if path.is_file())
    assert len(packs) == 2
    for pack in packs:
        whole = pack.read_bytes()
        for damaged in (whole[:40], whole[:20] + bytes([whole[20] ^ 1]) + whole[21:], b""):
            pack.write_bytes(damaged)
            with pytest.raises(RepositoryBroken, match=f"the pack {pack.name[:8]} of the repository"):
                restored(device.objects.path, [Root("", target)], tmp_path / "scratch")
            assert snapshot(target) == before
        pack.unlink()
        with pytest.raises(RepositoryBroken, match="which an index names, is not there"):
            restored(device.objects.path, [Root("", target)], tmp_path / "scratch")
        pack.write_bytes(whole)
    restored(device.objects.path, [Root("", target)], tmp_path / "scratch")
    assert texts(target) == texts(source)
