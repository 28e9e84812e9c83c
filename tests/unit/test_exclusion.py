"""Patterns mean what git takes them for, and cannot keep the agent busy."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.base.patterns import Excluded, check_patterns, excluding
from tests.support.require import require

WORDS = st.sampled_from(
    ["a", "b", "*", "?", "**", "[ab]", "[!a]", "[[:alpha:]-]", "a*", "*b", "a**b", "ab", "\\a"]
)
PATTERNS = st.builds(
    lambda no, root, words, end: no + root + "/".join(words) + end,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "/"]),
    st.lists(WORDS, min_size=1, max_size=4),
    st.sampled_from(["", "/"]),
)
FILES = ["a", "b", "ab/a", "ab/b/a", "aa/a/b", "ba/ab"]


@given(st.lists(PATTERNS, min_size=1, max_size=3))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_what_is_excluded_is_what_git_ignores(
    tmp_path_factory: pytest.TempPathFactory, patterns: list[str]
) -> None:
    """`git check-ignore` decides over the same names."""
    require(shutil.which("git") is not None, "git (Debian package git)")
    root = tmp_path_factory.mktemp("tree")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    (root / ".git/info/exclude").write_text("\n".join(patterns) + "\n")
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", *FILES], cwd=root, capture_output=True, text=True, check=False
    )
    excluded = excluding(patterns)
    assert excluded
    assert [name for name in FILES if _passed_over(name, excluded)] == done.stdout.split()


def _passed_over(name: str, excluded: Excluded) -> bool:
    parts = Path(name).parts
    ways = ["/".join(parts[:depth]) + "/" for depth in range(1, len(parts))]
    return any(map(excluded, [*ways, name]))


def test_lists_take_nothing_back_from_each_other() -> None:
    """The owner of the device excludes; no command takes that back."""
    excluded = excluding(["secret"], ["!secret", "other"])
    assert excluded
    assert [name for name in ("secret", "other", "data") if excluded(name)] == ["secret", "other"]


def test_without_patterns_nothing_is_asked() -> None:
    assert excluding([], ()) is None


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 400 + "b", "a" * 255),
        ("**/a/**/b/**/key", "a/b/" * 1000 + "x"),
        ("?" * 200 + "*" + "[a-z]" * 100, "a" * 255),
        ("**/" * 300 + "x", "y/" * 2000),
    ],
)
def test_the_cost_of_a_pattern_does_not_grow_with_its_power(pattern: str, path: str) -> None:
    """A regular expression would hold the interpreter for minutes. Calls are counted, not seconds."""
    excluded = excluding(check_patterns([pattern]))
    assert excluded
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        assert not excluded(path)
    finally:
        sys.setprofile(None)
    assert calls < 60 * (len(pattern) + 1) * path.count("/") + 5000


def test_a_name_in_a_directory_costs_no_look_at_the_whole_path_again() -> None:
    """The state after the directory is kept; without it a deep tree would cost the square of its depth."""
    excluded = excluding(["**/x/**/y", "/a/*/b/"])
    assert excluded
    deep = "d/" * 1000
    assert not excluded(deep)
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        assert not excluded(f"{deep}file")
    finally:
        sys.setprofile(None)
    assert calls < 20


@pytest.mark.parametrize(
    "texts",
    [["x"] * 101, ["x" * 1001], ["/".join("a" * 200)] * 6, ["[a"], ["[z-a]"], ["a\\"], ["!"], ["[[:no:]]"]],
)
def test_patterns_that_cost_too_much_or_mean_nothing_are_refused(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"pattern|parts"):
        check_patterns(texts)


@given(
    st.lists(st.text("ab*?[]!-^\\/: #", max_size=12), max_size=4), st.text("ab/]-", min_size=1, max_size=12)
)
def test_any_text_is_a_pattern_or_is_refused(patterns: list[str], path: str) -> None:
    try:
        excluded = excluding(check_patterns(patterns))
    except ValueError:
        return
    assert excluded is None or excluded(path) in (True, False)
