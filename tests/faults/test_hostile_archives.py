"""Whatever an archive holds: nothing outside the target changes, and a refused one changes nothing at all."""

import itertools
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.formats.zip.metadata import own_extra
from tests.faults.tally import LONG, tell
from tests.support import hostile
from tests.support.archives import Crafted, crafted, deflated
from tests.support.sandbox import Outcomes

EXAMPLES, STEP = (5_000, 1) if LONG else (150, 5)
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.timeout(300)
def test_no_archive_of_the_corpus_gets_out_or_leaves_anything() -> None:
    outcomes = Outcomes()
    for tried, data in itertools.islice(hostile.corpus(), 0, None, STEP):
        outcomes.attack(tried, data)
    tell(f"hostile archives: {outcomes}")
    assert outcomes.violations == []
    assert outcomes.codes["restored"] > 100 // STEP
    assert outcomes.codes["archive-invalid"] > 1000 // STEP


_parts = st.sampled_from(
    [
        b"..",
        b".",
        b"",
        b"a",
        b"A",
        b"link",
        b"d",
        b"outside",
        b"secret",
        b"one",
        b"x" * 255,
        b"\xff",
        b"a\\..",
    ]
)
_names = st.one_of(
    st.lists(_parts, min_size=1, max_size=5).map(b"/".join),
    st.sampled_from([b"a", b"b", b"a/b", b"b/c", b"link", b"link/x", b"d/e/f", b"A"]),
    st.sampled_from(hostile.NAMES),
    st.binary(max_size=20),
)
_contents = st.one_of(st.sampled_from(hostile.LINK_TARGETS), st.binary(max_size=50), st.just(bytes(9000)))
_entries = st.builds(
    Crafted,
    name=_names,
    content=_contents,
    made_by=st.sampled_from(hostile.SYSTEMS),
    mode=st.sampled_from((*hostile.KINDS, hostile.DIRECTORY, hostile.LINK, hostile.REGULAR)),
    extra=st.one_of(
        st.just(b""), st.sampled_from(hostile.EXTRAS), _names.map(lambda name: own_extra(1, name[:999], {}))
    ),
)


@pytest.mark.timeout(300)
def test_no_combination_of_entries_gets_out_or_leaves_anything() -> None:
    outcomes = Outcomes()

    @FUZZ
    @given(st.lists(_entries, max_size=6))
    def attacked(entries: list[Crafted]) -> None:
        outcomes.attack(repr(entries), crafted(*entries))
        assert outcomes.violations == []

    attacked()
    tell(f"combinations of hostile entries: {outcomes}")


_TEXT = b"text " * 100
_HONEST = crafted(
    Crafted(b"a/", b"", mode=hostile.DIRECTORY),
    Crafted(b"a/old", _TEXT, method=8, data=deflated(_TEXT), extra=own_extra(1, None, {"user.x": b"1"})),
    Crafted(b"s", b"a/old", mode=hostile.LINK),
    Crafted(b"tool", b"x" * 60, mode=stat.S_IFREG | 0o755, extra=hostile.EXTRAS[-1]),
)  # fmt: skip


@pytest.mark.timeout(300)
def test_no_change_of_bytes_makes_an_archive_get_out_or_leave_anything() -> None:
    outcomes = Outcomes()

    @FUZZ
    @given(
        st.lists(st.tuples(st.integers(0, len(_HONEST) - 1), st.binary(min_size=1, max_size=8)), max_size=5),
        st.integers(0, len(_HONEST)),
        st.binary(max_size=40),
    )
    def attacked(changes: list[tuple[int, bytes]], destination: int, inserted: bytes) -> None:
        data = bytearray(_HONEST)
        for offset, new in changes:
            data[offset : offset + len(new)] = new
        data[destination:destination] = inserted
        outcomes.attack(data.hex(), bytes(data))
        assert outcomes.violations == []

    attacked()
    tell(f"changed bytes: {outcomes}")
