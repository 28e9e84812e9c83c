"""Whatever a repository holds: nothing outside the target changes, and a refused one changes nothing."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.base.roots import Root
from agent.restore.root import RestoreOptions
from agent.transfer.cancel import CancelToken
from tests.faults.tally import LONG, tell
from tests.support import hostile
from tests.support.crafted import TIME
from tests.support.hostile_repository import (
    NOWHERE,
    Attack,
    Ground,
    RepositoryInMemory,
    destination_of,
)
from tests.support.sandbox import LIMITS, MEMORY, Outcomes
from tests.support.snapshots import restored_from

EXAMPLES = 5_000 if LONG else 150
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

_LIMITS = replace(LIMITS, max_files=300)

_NAMES = st.one_of(
    st.sampled_from(["a", "b", "d", "f", "link", "one", "A", "a/old", "..", r"\x2e\x2e", r"a\x00", "\\"]),
    st.sampled_from(hostile.NAMES).map(lambda name: name.decode("utf-8", "surrogateescape")),
    st.text(max_size=20),
)
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 7, 1 << 31, 1 << 32, 1 << 63, 1 << 64, 10**4000, 1.5, 1e300]),
    st.sampled_from(["", "..", "a/b", r"\x00", NOWHERE, "file", "dir", "symlink", "data", "tree", TIME]),
    st.text(max_size=20),
    st.lists(st.sampled_from([NOWHERE, "", 0, None, {}]), max_size=3),
    st.just({}),
)
_ATTRIBUTES = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["user.x", "user.y", "security.capability", ""]), "value": st.just("eA==")}
    ),
    max_size=3,
)
_CHUNKS = st.sampled_from(
    ["honest"] * 6 + ["empty", "compressed", "bomb", "another content", "not compressed", "nowhere"]
)
_TREES = st.sampled_from(
    ["empty", "honest", "honest", "deep", "wide", "cycle", "chunk", "nowhere", "no list", "no members"]
)
_KINDS = "file", "dir", "symlink", "fifo"
_MEMBERS = (
    "name", "type", "mode", "mtime", "ctime", "uid", "gid", "inode", "device_id", "size", "links",
    "linktarget", "linktarget_raw", "extended_attributes", "content", "subtree",
)  # fmt: skip
_OVER = st.dictionaries(st.sampled_from(_MEMBERS), _VALUES, max_size=3)
_TARGETS = st.sampled_from([target.decode("utf-8", "surrogateescape") for target in hostile.LINK_TARGETS])


def _node(inner: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    """A file with its true size, a link or a directory; or a node in which anything may be wrong."""
    mode = st.sampled_from([0o644, 0o4755, 0o7777, 1 << 31, 1 << 23])
    names = st.fixed_dictionaries({"name": _NAMES, "mode": mode})
    file = st.integers(0, 3).map(lambda n: {"kind": "file", "content": ["honest"] * n, "size": 7 * n})
    twice = st.just({"kind": "file", "content": [], "links": 2, "inode": 7, "device_id": 1})
    link = _TARGETS.map(lambda target: {"kind": "symlink", "linktarget": target})
    directory = inner.map(lambda tree: {"kind": "dir", "subtree": tree})
    wrong = st.fixed_dictionaries(
        {"kind": st.sampled_from(_KINDS), "content": st.lists(_CHUNKS, max_size=3)},
        optional={"extended_attributes": _ATTRIBUTES, "over": _OVER},
    )
    kinds = st.one_of(file, file, twice, link, directory, wrong)
    return st.builds(lambda name, more: name | more, names, kinds)


_NODES = st.recursive(_TREES, lambda inner: st.lists(_node(inner), max_size=4), max_leaves=8)
_ENTRY = st.dictionaries(
    st.sampled_from(["id", "type", "offset", "length", "uncompressed_length", "blobs"]), _VALUES, max_size=2
)
_COST = {"N": st.sampled_from([1, 3, 4, 1 << 16, 1 << 20, 1 << 70, 2.0, -2, "2"]), "r": _VALUES, "p": _VALUES}
_ALTERED = st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=5))
_CHANGES = st.one_of(
    st.just({}),
    st.just({}),
    st.fixed_dictionaries(
        {"snapshot": st.dictionaries(st.sampled_from(["time", "tree", "paths", "tags", "summary"]), _VALUES)}
    ),
    st.fixed_dictionaries({"index": st.lists(st.tuples(st.integers(0, 50), _ENTRY), max_size=3)}),
    st.fixed_dictionaries(
        {
            "key": st.fixed_dictionaries(
                {}, optional=_COST | {"kdf": _VALUES, "salt": _VALUES, "data": _VALUES}
            )
        }
    ),
    st.fixed_dictionaries(
        {"config": st.dictionaries(st.sampled_from(["version", "id", "chunker_polynomial"]), _VALUES)}
    ),
    st.fixed_dictionaries(
        {"altered": st.dictionaries(st.sampled_from(["snapshots", "index", "keys", "config"]), _ALTERED)}
    ),
)
_ATTACKS = st.builds(
    lambda nodes, in_order, changes: Attack(nodes, in_order, **changes),
    st.lists(_node(_NODES), max_size=5),
    st.sampled_from([True, True, True, False]),
    _CHANGES,
)


@pytest.fixture
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        yield Path(directory)


@pytest.mark.timeout(600)
def test_no_repository_gets_out_or_leaves_anything(scratch: Path) -> None:
    outcomes, ground = Outcomes(), Ground()

    @FUZZ
    @given(_ATTACKS)
    def attacked(attack: Attack) -> None:
        storage, token = RepositoryInMemory(ground.built(attack)), CancelToken()
        source = destination_of(storage, token)

        def restore(target: Path) -> None:
            restored_from(source, [Root("", target)], scratch, token, RestoreOptions(limits=_LIMITS))

        outcomes.attack_by(repr(attack), restore)
        violations, outcomes.violations = outcomes.violations, []
        assert violations == []
        assert not any(scratch.iterdir())

    attacked()
    tell(f"hostile repositories: {outcomes}")
    assert outcomes.codes["restored"] > EXAMPLES / 20
