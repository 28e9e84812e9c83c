"""Patterns mean what git takes them for, and cannot keep the agent busy."""

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.base.patterns import Excluded, check_pattern, excluding
from tests.support.require import require

WORDS = st.sampled_from(["a", "b", "*", "?", "**", "[ab]", "a*", "*b", "ab"])
PATTERNS = st.builds(
    lambda no, root, words, end: no + root + "/".join(words) + end,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "/"]),
    st.lists(WORDS, min_size=1, max_size=3),
    st.sampled_from(["", "/"]),
).filter(lambda text: len(re.findall(r"\*+", text)) <= 3 and not text.endswith("**/"))
FILES = ["a", "b", "ab/a", "ab/b/a", "aa/a/b", "ba/ab"]


@given(st.lists(PATTERNS, min_size=1, max_size=3))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_what_is_excluded_is_what_git_ignores(
    tmp_path_factory: pytest.TempPathFactory, patterns: list[str]
) -> None:
    """`git check-ignore` decides over the same names, directory by directory as a walk comes to them.

    The library reads patterns that end in `**/` differently, and these alone are left out here.
    """
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
    """What the device's owner excludes stays excluded whatever a command says."""
    excluded = excluding(["secret"], ["!secret", "other"])
    assert excluded
    assert [name for name in ("secret", "other", "data") if excluded(name)] == ["secret", "other"]


def test_without_patterns_nothing_is_asked() -> None:
    assert excluding([], ()) is None


def test_the_worst_pattern_on_the_worst_name_takes_no_time_to_speak_of() -> None:
    excluded = excluding([check_pattern("*a*a*ab")])
    assert excluded
    started_s = time.perf_counter()
    assert not excluded("a" * 255)
    assert time.perf_counter() - started_s < 2
    with pytest.raises(ValueError, match="3 asterisks"):
        check_pattern("*a*a*a*ab")
