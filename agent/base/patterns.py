"""What a backup passes over: patterns as in a `.gitignore` file, relative to the directory."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

MAX_PATTERNS = 100
MAX_PATTERN_LENGTH = 1000
MAX_ASTERISKS = 3
"""Runs of them in one pattern. A regular expression is tried in all ways, which grows with their power:
with seven, one hostile file name would keep the agent busy for minutes."""

Excluded = Callable[[str], bool]
"""Whether a relative path is passed over; that of a directory ends in a slash."""


def check_pattern(text: str) -> str:
    """Return the pattern. Raises ValueError when it means nothing, or could take too long."""
    if len(text) > MAX_PATTERN_LENGTH or len(re.findall(r"\*+", text)) > MAX_ASTERISKS:
        raise ValueError(f"more than {MAX_PATTERN_LENGTH} letters or {MAX_ASTERISKS} asterisks")
    _compiled([text])
    return text


def check_patterns(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns. Raises ValueError as `check_pattern` does, and for too many of them."""
    patterns = tuple(map(check_pattern, texts))
    if len(patterns) > MAX_PATTERNS:
        raise ValueError(f"more than {MAX_PATTERNS} patterns")
    return patterns


def excluding(*lists: Iterable[str]) -> Excluded | None:
    """What any of the lists of checked patterns excludes; None when they are all empty.

    Each list is read for itself, as a `.gitignore` file of its own: a `!` in one takes nothing back that
    another excludes. What is in an excluded directory is never looked at.
    """
    matchers = [_compiled(patterns) for patterns in map(list, lists) if patterns]
    if not matchers:
        return None
    return lambda path: any(matches(path) for matches in matchers)


def anchored(excluded: Excluded | None, directory: Path) -> Excluded | None:
    """The same for paths below `directory`, of which the patterns are to see the absolute path."""
    if excluded is None:
        return None
    prefix = f"{directory}/".lstrip("/")
    return lambda path: excluded(prefix + path)


def _compiled(patterns: Iterable[str]) -> Excluded:
    from pathspec import GitIgnoreSpec  # most devices have no patterns

    try:
        return GitIgnoreSpec.from_lines(patterns).match_file
    except (re.error, ValueError) as error:
        raise ValueError("a pattern is incomplete, or has a range that runs backwards") from error
