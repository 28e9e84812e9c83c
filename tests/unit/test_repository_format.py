"""The bytes of a repository: equal to restic's where the format asks for it, and never trusted when read."""

import hashlib
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.errors import RepositoryBroken, WrongKey
from agent.base.roots import Root
from agent.formats.repository import golang
from agent.formats.repository.crypto import Cryptor, Keys
from agent.formats.repository.document import parsed
from agent.formats.repository.keys import Config, new_key_file, open_key_file
from agent.formats.repository.packs import Blob, blobs_in, encoded_indexes, header_entry
from agent.formats.repository.polynomial import is_irreducible, random_irreducible
from agent.formats.repository.saved_node import saved_node
from tests.support.repositories import PASSWORD, Device, restic
from tests.support.trees import Dir, File, Link, Spec, make_tree

NAMES = [
    *(
        "plain",
        "with space",
        'quote"back\\slash',
        "<tag>&",
        "tab\tnew\nline",
        "bell\a\b\f\r\v",
        "é",
        "\u2028",
    ),
    *("\u00ad", "\U0001f600", "\u200b", "\ud7ff", "\ufffd", "a" * 255),
]
RAW_NAMES = [b"\xff\x80", b"\x7f", b"\x01", b"caf\xe9", b"\xed\xa0\x80", b"\xc3"]


def trees_of_restic(repository: Path, snapshot_tree: str) -> dict[str, bytes]:
    """Return the JSON of all trees by their path, as restic prints it."""
    found, waiting = {}, [("/", snapshot_tree)]
    while waiting:
        path, tree = waiting.pop()
        found[path] = restic(repository, "cat", "blob", tree).encode("utf-8", "surrogateescape")
        nodes = json.loads(found[path])["nodes"]
        waiting += [
            (os.path.join(path, node["name"]), node["subtree"]) for node in nodes if "subtree" in node
        ]
    return found


def without_own_ways(tree: bytes) -> bytes:
    """Return a tree without what two writers may do differently: ids of trees below, and device ids.

    restic before 0.17 writes the device of every node, later ones only of files with several names.
    """
    tree = re.sub(rb'"subtree":"[0-9a-f]{64}"', b'"subtree":""', tree)
    return re.sub(rb'"device_id":\d+,', b"", tree)


@pytest.mark.slow
def test_trees_are_byte_for_byte_those_of_restic(tmp_path: Path) -> None:
    """`restic rewrite` refuses a tree that it would write otherwise, and equal trees are stored once."""
    spec: Spec = {name: File(name.encode()) for name in NAMES} | {
        "dir": Dir(0o1777),
        "dir/setuid": File(b"", 0o4755),
        "dir/setgid": File(b"x", 0o2755),
        "dir/nothing allowed": File(b"y", 0o000),
        "dir/whole second": File(b"z", mtime_ns=1_700_000_000_000_000_000),
        "dir/tenth": File(b"z", mtime_ns=1_700_000_000_100_000_000),
        "dir/before the epoch": File(b"z", mtime_ns=-1),
        "link": Link("<to> & \x07\u2028é"),
    }
    source = make_tree(tmp_path / "source", spec)
    for name in RAW_NAMES:
        (source / os.fsdecode(name)).write_bytes(name)
    os.link(source / "plain", source / "second name")
    os.setxattr(source / "plain", "user.some", b"\x00\xffvalue")
    os.chown(source / "é", 4_000_000_000, 12345)
    device = Device.at(tmp_path, Root("", source))
    device.save()
    theirs = tmp_path / "theirs"
    restic(theirs, "init", "--repository-version", "2")
    restic(theirs, "backup", str(source))
    (snapshot,) = json.loads(restic(theirs, "snapshots", "--json"))
    expected = trees_of_restic(theirs, snapshot["tree"])
    found = trees_of_restic(device.objects.path, device.snapshots()[0]["tree"])
    assert found.keys() == expected.keys()
    below = [path for path in found if path.startswith(str(source))]
    for path in below:
        assert without_own_ways(found[path]) == without_own_ways(expected[path])


def test_restic_takes_our_snapshot_as_parent_and_finds_every_file_unmodified(tmp_path: Path) -> None:
    """An operator may continue with restic on the device: nothing is read again."""
    source = make_tree(tmp_path / "source", {"a": File(b"a"), "d": Dir(), "d/b": File(b"b" * 100_000)})
    device = Device.at(tmp_path, Root("", source))
    saved = device.save()
    output = device.restic("backup", "--parent", saved.id, "--json", str(source))
    summary = json.loads(output.splitlines()[-1])
    assert (summary["files_new"], summary["files_changed"], summary["files_unmodified"]) == (0, 0, 2)
    assert summary["data_blobs"] == 0


@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_any_name_comes_back(name: bytes) -> None:
    """Names are raw bytes on the device, and text in JSON."""
    assert golang.unquoted(json.loads(golang.name_json(name))) == name


@pytest.mark.parametrize("text", [r"\q", "\\", r"\x1", r"\u12", r"\400"])
def test_a_name_with_a_broken_escape_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        golang.unquoted(text)


@given(st.integers(min_value=-62_000_000_000 * 10**9, max_value=250_000_000_000 * 10**9))
def test_any_time_comes_back(time_ns: int) -> None:
    """Times have nanoseconds, and files of Raspberry Pis without a clock are from 1970."""
    assert golang.time_ns(golang.time_ns_text(time_ns)) == time_ns


def test_the_year_0_is_read() -> None:
    """restic 2174: file systems have times before it, which restic stores as of that year."""
    first_ns = golang.time_ns("0001-01-01T00:00:00Z")
    assert golang.time_ns("0000-12-31T23:59:59.5Z") == first_ns - 500_000_000
    assert golang.time_ns("0000-02-29T00:00:00+01:00") == first_ns - (307 * 24 + 1) * 3_600 * 10**9
    with pytest.raises(ValueError, match="day is out of range"):
        golang.time_ns("0000-02-30T00:00:00Z")


def test_times_have_no_zeros_at_the_end() -> None:
    """Go's RFC3339Nano cuts them."""
    assert golang.time_ns_text(1_700_000_000_120_000_000) == "2023-11-14T22:13:20.12Z"
    assert golang.time_ns_text(10**21) == "9999-12-31T23:59:59Z"


@given(st.binary(max_size=300))
def test_what_was_encrypted_is_decrypted(content: bytes) -> None:
    cryptor = Cryptor(Keys.random())
    assert cryptor.decrypt(cryptor.encrypt(content)) == content


@given(st.binary(max_size=60), st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_an_altered_byte_is_noticed(content: bytes, place: int, change: int) -> None:
    """Everything that is read is authenticated before it is used."""
    cryptor = Cryptor(Keys.random())
    encrypted = bytearray(cryptor.encrypt(content))
    encrypted[place % len(encrypted)] ^= change
    with pytest.raises(RepositoryBroken):
        cryptor.decrypt(encrypted)


def test_a_key_file_opens_with_its_password_only() -> None:
    keys = Keys.random()
    name, content = new_key_file(keys, PASSWORD, datetime.now(UTC), "host")
    assert name == hashlib.sha256(content).hexdigest()
    assert open_key_file(content, PASSWORD) == keys
    with pytest.raises(WrongKey):
        open_key_file(content, "another")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"N": 1 << 20}, "1024 MiB"),
        ({"p": 10_000}, "MiB"),
        ({"N": 1 << 15, "p": 64}, "1024 together"),
        ({"N": 1000}, "damaged"),
        ({"r": 0}, "damaged"),
        ({"kdf": "none"}, "damaged"),
        ({"N": "x"}, "damaged"),
        ({"r": 8.5}, "damaged"),
        ({"N": 1 << 16, "r": 1}, "damaged"),
        ({"N": 2, "r": 1 << 18}, "MiB"),
        ({"salt": None}, "damaged"),
    ],
)
def test_a_key_file_cannot_take_the_memory_of_the_device(changes: dict[str, object], error: str) -> None:
    """A person who may write at the store could stop every backup otherwise."""
    _, content = new_key_file(Keys.random(), PASSWORD, datetime.now(UTC), "host")
    with pytest.raises(RepositoryBroken, match=error):
        open_key_file(json.dumps(json.loads(content) | changes).encode(), PASSWORD)


@pytest.mark.parametrize("text", [b"[" * 60_000, b'{"kdf":' * 9000, b"1" * 60_000, b"null", b"\xff"])
def test_a_key_file_or_config_that_is_no_object_is_refused(text: bytes) -> None:
    """Deep JSON ended a job with a RecursionError, and nobody needs the password to write a key file."""
    cryptor = Cryptor(Keys.random())
    with pytest.raises(RepositoryBroken):
        open_key_file(text, PASSWORD)
    with pytest.raises(RepositoryBroken):
        Config.decoded(cryptor.encrypt(text), cryptor)
    with pytest.raises(RepositoryBroken):
        parsed("0" * 64, text)


@pytest.mark.parametrize(
    "members",
    [
        {"version": "2\n"},
        {"version": 10**4000},
        {"id": 7},
        {"id": ["0"] * 64},
        {"chunker_polynomial": "-7"},
        {"chunker_polynomial": "f" * 60_000},
    ],
)
def test_a_config_that_cannot_be_true_is_refused(members: dict[str, object]) -> None:
    """The test of a polynomial with some hundred thousand coefficients would take hours."""
    cryptor = Cryptor(Keys.random())
    whole = {"version": 2, "id": "0" * 64, "chunker_polynomial": "3da3358b4dc173"}
    assert Config.decoded(cryptor.encrypt(json.dumps(whole).encode()), cryptor).polynomial == 0x3DA3358B4DC173
    with pytest.raises(RepositoryBroken):
        Config.decoded(cryptor.encrypt(json.dumps(whole | members).encode()), cryptor)


def test_a_key_file_with_few_large_blocks_is_opened_within_its_memory() -> None:
    """Found by a fuzzer: beside N blocks there are two more and p, which count when N is small."""
    _, content = new_key_file(Keys.random(), PASSWORD, datetime.now(UTC), "host")
    unusual = json.loads(content) | {"N": 2, "r": 11_111}
    with pytest.raises(WrongKey):
        open_key_file(json.dumps(unusual).encode(), PASSWORD)


def test_random_polynomials_are_irreducible() -> None:
    """restic tests the one in the config, and refuses the repository otherwise."""
    assert is_irreducible(0x3DA3358B4DC173)  # the one in restic's own tests
    assert not is_irreducible(0x3DA3358B4DC173 ^ 2)
    assert not is_irreducible(0b101)  # (x + 1) squared
    polynomial = random_irreducible()
    assert polynomial.bit_length() == 54
    assert is_irreducible(polynomial)


def test_a_config_of_another_version_is_refused() -> None:
    cryptor = Cryptor(Keys.random())
    config = Config.random()
    assert Config.decoded(config.encoded(cryptor), cryptor) == config
    other = cryptor.encrypt(json.dumps({"version": 1, "id": config.id, "chunker_polynomial": "3"}).encode())
    with pytest.raises(RepositoryBroken, match="version 1"):
        Config.decoded(other, cryptor)


BLOBS = st.builds(
    lambda i, tree, length, plain: Blob(i, tree, 0, length, plain),
    st.binary(min_size=32, max_size=32), st.booleans(), st.integers(32, 1 << 20), st.integers(0, 1 << 20),
)  # fmt: skip


def header_of(blobs: list[Blob]) -> bytes:
    return b"".join(
        header_entry(blob.id, blob.length, blob.plain_bytes, is_tree=blob.is_tree) for blob in blobs
    )


@given(st.lists(BLOBS, max_size=20))
def test_the_header_of_a_pack_comes_back(blobs: list[Blob]) -> None:
    found = [*blobs_in(header_of(blobs))]
    assert [(b.id, b.is_tree, b.length, b.plain_bytes) for b in found] == [
        (b.id, b.is_tree, b.length, b.plain_bytes) for b in blobs
    ]


@given(st.binary(max_size=200))
def test_any_header_is_read_or_refused(header: bytes) -> None:
    try:
        blobs = [*blobs_in(header)]
    except RepositoryBroken:
        return
    assert header_of(blobs) == header


def test_an_index_ends_before_eight_mebibytes() -> None:
    """Readers load a whole index into memory."""
    blobs = [Blob(os.urandom(32), False, number, 100, 200) for number in range(8000)]
    packs = [(f"{number:064x}", blobs) for number in range(20)]
    made = [(names, b"".join(pieces)) for names, pieces in encoded_indexes(packs)]
    assert [name for names, _ in made for name in names] == [name for name, _ in packs]
    assert all(len(index) < 8 << 20 and json.loads(index) for _, index in made)
    assert len(made) > 1


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
GOOD_NODE: dict[str, object] = {"name": "n", "type": "file", "mode": 420, "uid": 0, "gid": 0, "content": []}
GOOD_NODE["mtime"] = "2023-11-14T22:13:20Z"


@given(st.sampled_from([*GOOD_NODE, "ctime", "size", "links", "linktarget_raw", "subtree"]), JSON_VALUES)
def test_any_node_is_read_or_refused(member: str, value: object) -> None:
    """A tree comes from the store: a member with another type must not end the agent."""
    try:
        node = saved_node(GOOD_NODE | {member: value})
    except RepositoryBroken:
        return
    assert node.name not in (b"", b".", b"..")
    assert b"/" not in node.name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", r"a\x00b", r"..\x2fx", "a\\"])
def test_a_node_with_an_unsafe_name_is_refused(name: str) -> None:
    with pytest.raises(RepositoryBroken):
        saved_node(GOOD_NODE | {"name": name})
