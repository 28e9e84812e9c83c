"""The content of snapshots: metadata as it was, several roots in one tree, directories of any size."""

import os
from pathlib import Path

import pytest

from agent.base.errors import IoError
from agent.base.roots import Root
from agent.formats.repository import chunker, compression, tree
from agent.formats.repository.objects import Kind
from tests.support.acls import ACCESS, DEFAULT, acl
from tests.support.repositories import Device
from tests.support.trees import Dir, File, Link, Spec, make_tree, snapshot

QCOW2 = b"QFI\xfb"
"""The beginning of a disk image, which is cut every 64 KiB."""


def attributes(root: Path) -> dict[str, dict[str, bytes]]:
    """Return the extended attributes below `root`, ACLs among them."""
    return {
        str(path.relative_to(root)): {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
        }
        for path in sorted(root.rglob("*"))
    }


def test_metadata_comes_back_as_it_was(tmp_path: Path) -> None:
    """Mode, owner, times, attributes, ACLs, links, files with several names, holes."""
    source = make_tree(
        tmp_path / "source",
        {
            "file": File(b"content", 0o4750),
            "owned": File(b"x"),
            "dir": Dir(0o1770),
            "dir/inner": File(b"y", 0o000),
            "dangling": Link("nowhere/at all"),
        },
    )
    os.chown(source / "owned", 1234, 2345)
    os.lchown(source / "dangling", 1, 2)
    os.setxattr(source / "file", "user.note", b"\0\xffbinary")
    os.setxattr(source / "dir", "user.empty", b"")
    os.setxattr(source / "owned", ACCESS, acl(1234))
    os.setxattr(source / "dir", DEFAULT, acl(77, user_may=5))
    os.link(source / "file", source / "dir/second name")
    with (source / "sparse").open("wb") as file:
        file.truncate(50 << 20)
        os.pwrite(file.fileno(), b"end", (50 << 20) - 3)
    device = Device.at(tmp_path, Root("", source))
    saved = device.save()
    assert saved.changes.added_bytes < 100_000
    device.check()
    restored = device.restored(tmp_path / "restored")
    assert snapshot(restored) == snapshot(source)
    assert attributes(restored) == attributes(source)
    assert (restored / "file").stat().st_ino == (restored / "dir/second name").stat().st_ino


def test_several_roots_are_in_one_tree_at_their_paths(tmp_path: Path) -> None:
    """An operator finds a file where the device has it, in whichever data set it was."""
    make_tree(tmp_path / "etc", {"hosts": File(b"h"), "net": Dir(), "net/a": File(b"a"), "other": File(b"o")})
    make_tree(tmp_path / "var", {"x": File(b"x"), "y": Dir(), "y/z": File(b"z")})
    roots = (
        Root("network/etc", tmp_path / "etc", frozenset({"hosts", "net"})),
        Root("state/var", tmp_path / "var"),
    )
    device = Device.at(tmp_path, *roots)
    device.save()
    device.check()
    (found,) = device.snapshots()
    expected = [tmp_path / "etc/hosts", tmp_path / "etc/net", tmp_path / "var"]
    assert found["paths"] == [str(path) for path in expected]
    device.restic("restore", "latest", "--target", str(tmp_path / "restored"))
    restored = tmp_path / "restored" / tmp_path.relative_to("/")
    assert sorted(path.name for path in (restored / "etc").iterdir()) == ["hosts", "net"]
    assert snapshot(restored / "var") == snapshot(tmp_path / "var")
    assert device.save().changes.files_unmodified == 4


def test_roots_inside_each_other_share_their_directories(tmp_path: Path) -> None:
    """A name that is left to another root is in the tree once."""
    spec: Spec = {"a": File(b"a"), "in": Dir(), "in/b": File(b"b"), "in/deep": Dir(), "in/deep/c": File(b"c")}
    top = make_tree(tmp_path / "top", spec)
    device = Device.at(
        tmp_path,
        Root("all/top", top, without=frozenset({"in/deep"})),
        Root("deep/top/in/deep", top / "in/deep"),
    )
    device.save()
    device.check()
    assert snapshot(device.restored(tmp_path / "restored")) == snapshot(top)
    assert device.save().changes.files_unmodified == 3


def test_names_of_two_roots_in_one_directory_are_in_one_tree(tmp_path: Path) -> None:
    """A tree with a name twice is a broken one."""
    spec: Spec = {"d": Dir(), "d/e": Dir(), "d/e/a": File(b"a"), "d/e/b": File(b"b"), "d/c": File(b"c")}
    top = make_tree(tmp_path / "top", spec)
    device = Device.at(
        tmp_path,
        Root("one/top", top, frozenset({"d/e/a"})),
        Root("two/top", top, frozenset({"d/e/b", "d/c"})),
    )
    device.save()
    device.check()
    assert snapshot(device.restored(tmp_path / "restored")) == snapshot(top)
    again = device.save()
    assert (again.changes.files_new, again.changes.files_unmodified) == (0, 3)
    (top / "d/e/b").unlink()
    device.save()
    device.check()
    assert snapshot(device.restored(tmp_path / "later")) == snapshot(top)


def test_a_directory_that_is_missing_is_told(tmp_path: Path) -> None:
    device = Device.at(tmp_path, Root("", tmp_path / "missing"))
    with pytest.raises(IoError, match="missing"):
        device.save()


def test_an_empty_directory_keeps_its_place_in_the_state(tmp_path: Path) -> None:
    """A directory that came later got its number, and the two took each other's entries for their own."""
    source = make_tree(tmp_path / "source", {"empty": Dir()})
    device = Device.at(tmp_path, Root("", source))
    device.save()
    make_tree(source / "later", {"file": File(b"content")})
    device.save()
    (source / "later").touch()
    again = device.save()
    assert (again.changes.files_new, again.changes.files_unmodified) == (0, 1)
    assert snapshot(device.restored(tmp_path / "restored")) == snapshot(source)


def test_content_that_a_command_collected_is_at_the_top(tmp_path: Path) -> None:
    """It has no home on the device."""
    source = make_tree(tmp_path / "source", {"dump": File(b"d"), "sub": Dir(), "sub/x": File(b"x")})
    device = Device.at(tmp_path, Root("", source))
    device.options["origin"] = device.origin(sources=())
    device.save()
    device.check()
    device.restic("restore", "latest", "--target", str(tmp_path / "restored"))
    found, expected = snapshot(tmp_path / "restored"), snapshot(source)
    del found[""], expected[""]  # the directory itself is "/" there
    assert found == expected


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories of a few entries are as those of a hundred thousand."""
    monkeypatch.setattr(tree, "MOST_HELD", 7)
    monkeypatch.setattr(tree, "WHOLE_DIRECTORY", 5)


@pytest.mark.usefixtures("little_memory")
def test_a_directory_of_any_size_is_written_from_the_disk(tmp_path: Path) -> None:
    """200,000 files in one directory are a tree of 66 MB, which is sorted on the disk."""
    spec: dict[str, File | Dir | Link] = {f"{number:03d}": File(b"%d" % number) for number in range(40)}
    spec |= {"d": Dir(), **{f"d/{number}": File(b"%d" % number) for number in range(30)}}
    source = make_tree(tmp_path / "source", spec)
    device = Device.at(tmp_path, Root("", source))
    device.save()
    device.check()
    assert snapshot(device.restored(tmp_path / "r1")) == snapshot(source)
    assert device.save().changes.files_unmodified == 70
    for number in range(0, 40, 3):
        (source / f"{number:03d}").unlink()
    (source / "039").write_bytes(b"new")
    (source / "d/new").mkdir()
    again = device.save()
    assert (again.changes.files_new, again.changes.files_changed, again.changes.files_unmodified) == (
        0,
        1,
        56,
    )
    device.check()
    assert snapshot(device.restored(tmp_path / "r2")) == snapshot(source)


@pytest.fixture
def no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the chunker and without zstd, such as one with armv7."""
    monkeypatch.setattr(chunker, "has_chunker", lambda: False)
    monkeypatch.setattr(chunker, "chunker", lambda: None)
    monkeypatch.setattr(compression, "zstd", lambda: None)


@pytest.mark.usefixtures("no_wheels")
def test_a_machine_without_wheels_writes_what_every_reader_takes(tmp_path: Path) -> None:
    """Fixed chunks and blobs that are not compressed: more bytes, and all else as elsewhere."""
    source = make_tree(tmp_path / "source", {"text": File(b"text\n" * 40_000), "d": Dir(), "d/x": File(b"x")})
    device = Device.at(tmp_path, Root("", source))
    device.save()
    device.check()
    assert snapshot(device.restored(tmp_path / "restored")) == snapshot(source)
    again = device.save()
    assert again.changes.files_unmodified == 2
    device.state.rename(tmp_path / "lost")
    assert device.save().changes.added_bytes < 20_000


def test_a_machine_that_gets_the_wheels_goes_on_with_its_repository(tmp_path: Path) -> None:
    """The cut of a file sticks to it: nothing is sent again because a library was installed."""
    source = make_tree(tmp_path / "source", {"random": File(os.urandom(500_000))})
    device = Device.at(tmp_path, Root("", source))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunker, "chunker", lambda: None)
        patch.setattr(chunker, "has_chunker", lambda: False)
        device.save()
    with (source / "random").open("ab") as file:
        file.write(b"appended")
    assert device.save().changes.added_bytes < 80_000
    device.check()


def test_the_chunker_cuts_where_it_always_did() -> None:
    """Another cut would send every file of every device again: this pins the library."""
    content = b"".join(number.to_bytes(4, "little") * 3 for number in range(100_000))
    position = [0]

    def read(memory: memoryview) -> int:
        part = content[position[0] : position[0] + len(memory)]
        memory[: len(part)] = part
        position[0] += len(part)
        return len(part)

    cut = [
        len(chunk) for chunk in chunker.Chunker(0x3DA3358B4DC173).chunks(read, chunker.FileKind.BY_CONTENT)
    ]
    assert sum(cut) == len(content)
    assert cut == [
        39416,
        83941,
        70079,
        34894,
        69473,
        100517,
        143260,
        99318,
        23312,
        101430,
        33379,
        79325,
        74083,
        42631,
        110967,
        93975,
    ]


def change(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), content, at)


@pytest.mark.parametrize(
    ("head", "most_bytes"), [(b"SQLite format 3\0", 140_000), (b"QFI\xfb", 140_000), (b"text", 700_000)]
)
def test_a_change_in_place_costs_a_chunk(tmp_path: Path, head: bytes, most_bytes: int) -> None:
    source = make_tree(tmp_path / "source", {"file": File(head + os.urandom(2_000_000))})
    device = Device.at(tmp_path, Root("", source))
    device.save()
    change(source / "file", 1_000_000, b"x" * 100)
    assert device.save().changes.added_bytes < most_bytes
    device.check()


def test_an_insertion_into_a_text_costs_a_few_chunks(tmp_path: Path) -> None:
    """Cuts move with the content."""
    content = os.urandom(3_000_000)
    source = make_tree(tmp_path / "source", {"file": File(content)})
    device = Device.at(tmp_path, Root("", source))
    device.save()
    (source / "file").write_bytes(content[:100_000] + b"inserted" + content[100_000:])
    assert device.save().changes.added_bytes < 600_000


def test_equal_files_are_stored_once(tmp_path: Path) -> None:
    content = os.urandom(200_000)
    source = make_tree(tmp_path / "source", {f"copy-{number}": File(content) for number in range(5)})
    device = Device.at(tmp_path, Root("", source))
    assert device.save().changes.added_bytes < 220_000
    assert device.objects.count(Kind.PACK) == 2
    device.check()


@pytest.mark.parametrize("at_once", [True, False])
def test_a_file_with_thousands_of_chunks_comes_back_and_is_found_unmodified(
    at_once: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ids are held once, in parts on the disk; `at_once`, the state gives all of the directory."""
    if not at_once:
        monkeypatch.setattr(tree, "WHOLE_DIRECTORY", 0)
    source = make_tree(tmp_path / "source", {"other": File(b"x"), "image": File(QCOW2)})
    os.truncate(source / "image", 160 << 20)
    device = Device.at(tmp_path, Root("", source))
    device.save()
    assert device.save().changes.files_unmodified == 2
    for size_bytes in (140 << 20, 1 << 20):
        os.truncate(source / "image", size_bytes)
        assert device.save().changes.files_changed == 1
        (source / f"new beside {size_bytes}").touch()
        assert device.save().changes.files_changed == 0
    device.check()
    assert snapshot(device.restored(tmp_path / "restored")) == snapshot(source)
