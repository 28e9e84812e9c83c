"""Directories by descriptor: any path, at any depth, is reached in time that grows with its length."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.restore.directories import Tree
from tests.support.archives import open_descriptors

LEVELS = 300
NAMES = ["a", "ab", "b"]


@pytest.fixture(scope="module")
def tops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of `a`, and beside each of its directories some that are called almost so."""
    top = tmp_path_factory.mktemp("tree")
    fd = os.open(top, os.O_RDONLY)
    for _ in range(LEVELS):
        for name in NAMES:
            os.mkdir(name, dir_fd=fd)
        below = os.open("a", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    return top


PATHS = st.tuples(st.integers(0, LEVELS - 1), st.sampled_from(["", *NAMES])).map(
    lambda place: "/".join(["a"] * place[0] + [place[1]] * bool(place[1]))
)


@settings(max_examples=100, deadline=None)
@given(paths=st.lists(PATHS, max_size=12))
def test_every_path_leads_where_it_says(tops: Path, paths: list[str]) -> None:
    before = open_descriptors()
    top = os.open(tops, os.O_RDONLY)
    tree = Tree(top)
    for path in paths:
        assert os.path.samestat(os.fstat(tree.directory(path)), os.stat(tops / path))
    assert open_descriptors() - before < 40
    tree.close()
    os.close(top)
    assert open_descriptors() == before


def test_going_back_up_opens_each_level_once(tops: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From every thirty-second level it began at the top again: twice the depth took four times as long."""
    top = os.open(tops, os.O_RDONLY)
    tree = Tree(top)
    opened: list[object] = []
    real_open = os.open

    def counting(*arguments: object, **more: object) -> int:
        opened.append(arguments)
        return real_open(*arguments, **more)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(os, "open", counting)
    for depth in [*range(LEVELS), *reversed(range(LEVELS))]:
        tree.directory("/".join(["a"] * depth))
    tree.close()
    os.close(top)
    assert len(opened) <= 2 * LEVELS


def test_a_level_that_was_moved_elsewhere_is_not_gone_back_to(tmp_path: Path) -> None:
    """Its parent is another one now, and what is asked for is reached from the top, or not at all."""
    (tmp_path / "top" / "/".join(["a"] * 80)).mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    top = os.open(tmp_path / "top", os.O_RDONLY)
    tree = Tree(top)
    tree.directory("/".join(["a"] * 80))
    deep = tmp_path / "top" / "/".join(["a"] * 44)
    (deep / "a").rename(tmp_path / "elsewhere" / "a")
    assert os.path.samestat(os.fstat(tree.directory("/".join(["a"] * 44))), deep.stat())
    tree.close()
    os.close(top)
