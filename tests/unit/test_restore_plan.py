"""The plan on the disk says exactly what was planned, in both directions, for any file name."""

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.restore.metadata import Meta
from agent.restore.plan import Act, Step, backwards, forwards, from_line, lines_backwards, to_line

names = st.binary(min_size=1).filter(lambda raw: b"\0" not in raw).map(os.fsdecode)
ids, times_ns = st.integers(0, 1 << 32), st.integers(-(1 << 62), 1 << 62)
xattrs = st.none() | st.dictionaries(names, st.binary())
metas = st.builds(Meta, st.integers(0, 0o7777), ids, ids, times_ns, xattrs)
steps = st.builds(
    Step, st.integers(0, 1 << 40), st.sampled_from(Act), names, st.none() | metas, st.none() | metas
)


@given(st.lists(steps))
def test_steps_come_back_as_they_were_in_both_directions(planned: list[Step]) -> None:
    file = io.BytesIO(b"".join(map(to_line, planned)))
    assert list(forwards(file)) == planned
    assert list(backwards(file)) == planned[::-1]


@given(st.lists(st.integers(0, 70_000), max_size=8))
def test_lines_are_read_backwards_across_blocks_of_any_alignment(sizes: list[int]) -> None:
    lines = [bytes([65 + number]) * (size + 1) for number, size in enumerate(sizes)]
    assert list(lines_backwards(io.BytesIO(b"".join(line + b"\n" for line in lines)))) == lines[::-1]


@given(st.binary() | st.sampled_from([b"null", b"[]", b'[1,"add"]', b'[1,"no such act","a",null,null]']))
def test_what_is_no_step_is_a_value_error_and_nothing_else(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a step of a restore plan"):
        from_line(line)
