"""Patterns as in a `.gitignore` file, matched in bounded time whatever the pattern and the name.

Source: gitignore(5), "PATTERN FORMAT", and fnmatch(3). A pattern is a list of segments between slashes. A
path is matched segment by segment, and the state after a directory is kept for the names in it. Matching a
segment never backtracks: between two asterisks the leftmost match is as good as any other.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.base.text import encodable, readable

MAX_PATTERNS = 100
MAX_PATTERN_LENGTH = 1000
MAX_SEGMENTS = 1000
"""In all patterns of a list together; a name costs at most this many comparisons."""

Excluded = Callable[[str], bool]
"""Returns True for an excluded relative path; the path of a directory ends in a slash."""

_DEEP = "**"
_CLASSES = {
    "alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "blank": r" \t", "cntrl": r"\x00-\x1f\x7f", "digit": "0-9",
    "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~", "space": r"\s", "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}  # fmt: skip

PatternLists = tuple[tuple[str, ...], ...]
"""Lists of patterns that are applied independently, see `excluding`."""


def check_patterns(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns. Raises ValueError for one that means nothing, and for more than are allowed."""
    patterns = tuple(texts)
    if len(patterns) > MAX_PATTERNS or any(len(pattern) > MAX_PATTERN_LENGTH for pattern in patterns):
        raise ValueError(f"more than {MAX_PATTERNS} patterns, or one with over {MAX_PATTERN_LENGTH} letters")
    for pattern in patterns:
        if encodable(pattern) != pattern:  # manifests could not have it
            raise ValueError(f"'{readable(pattern)}' is not UTF-8: use '?'")
    if sum(len(rule.segments) for rule in map(_parsed, patterns) if rule) > MAX_SEGMENTS:
        raise ValueError(f"more than {MAX_SEGMENTS} parts between slashes")
    return patterns


def excluding(*lists: Iterable[str]) -> Excluded | None:
    """Return a matcher of paths that any of the lists of checked patterns excludes; None without patterns.

    Each list works as a `.gitignore` file of its own: a `!` in one list does not include what another
    excludes. Everything in an excluded directory is excluded.
    """
    matchers = [
        _Matcher(rules) for patterns in lists if (rules := list(filter(None, map(_parsed, patterns))))
    ]
    if not matchers:
        return None
    return lambda path: any(matcher(path) for matcher in matchers)


def anchored(excluded: Excluded | None, directory: Path) -> Excluded | None:
    """Return a matcher of paths below `directory` that shows their absolute path to `excluded`."""
    if excluded is None:
        return None
    prefix = f"{directory}/".lstrip("/")
    return lambda path: excluded(prefix + path)


Fits = Callable[[str], bool]
"""Returns True for a name that fits a segment of a pattern."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """One pattern. None stands for `**`: any number of directories, and at the end any name, at least one."""

    segments: Sequence[Fits | None]
    excludes: bool
    directories_only: bool

    def begin(self) -> int:
        """Return the state before the first name: bit n is set when n segments may have matched."""
        return self._skipping(1)

    def after(self, state: int, name: str) -> int:
        """Return the state after one more name of the path."""
        reached = 0
        for number, fits in enumerate(self.segments):
            if not state >> number & 1:
                continue
            if fits is None:
                reached |= 1 << number
                if number == len(self.segments) - 1:
                    reached |= 1 << number + 1
            elif fits(name):
                reached |= 1 << number + 1
        return self._skipping(reached)

    def _skipping(self, state: int) -> int:
        for number, fits in enumerate(self.segments[:-1]):
            if fits is None and state >> number & 1:
                state |= 1 << number + 1
        return state

    def matches(self, state: int, name: str, *, directory: bool) -> bool:
        """Return True when the pattern matches the path that ends in `name`; `state` is that before it."""
        if (self.directories_only and not directory) or not state >> len(self.segments) - 1 & 1:
            return False
        last = self.segments[-1]
        return last is None or last(name)


class _Matcher:
    """The patterns of one list. It remembers its position in the tree, so it belongs to one thread."""

    def __init__(self, rules: Sequence[_Rule]) -> None:
        self._rules = rules
        self._above: list[tuple[str, list[int]]] = [("", [rule.begin() for rule in rules])]
        """The directories above the last path, none of them excluded, each with the states of the rules."""

    def __call__(self, path: str) -> bool:
        while not path.startswith(self._above[-1][0]):
            self._above.pop()
        prefix, states = self._above[-1]
        *directories, name = path[len(prefix) :].rstrip("/").split("/")
        for directory in directories:
            if self._excludes(states, directory, directory=True):
                return True
            states = [rule.after(state, directory) for rule, state in zip(self._rules, states, strict=True)]
            prefix += f"{directory}/"
            self._above.append((prefix, states))
        return self._excludes(states, name, directory=path.endswith("/"))

    def _excludes(self, states: Sequence[int], name: str, *, directory: bool) -> bool:
        """Return the decision of the last pattern that matches."""
        for rule, state in zip(reversed(self._rules), reversed(states), strict=True):
            if rule.matches(state, name, directory=directory):
                return rule.excludes
        return False


def _parsed(text: str) -> _Rule | None:
    """Return the rule of one line; None for an empty line and for a comment. Raises ValueError."""
    pattern = re.sub(r"(?<!\\) +$", "", text)
    if not pattern or pattern.startswith("#"):
        return None
    excludes = not pattern.startswith("!")
    pattern = pattern if excludes else pattern[1:]
    directories_only = pattern.endswith("/") and len(pattern) > 1
    words = pattern.rstrip("/").split("/")
    if words == [""]:
        raise ValueError("a pattern without a name")
    if len(words) == 1:
        words = [_DEEP, "*" if words[0] == _DEEP else words[0]]
    elif words[0] == "":
        words = words[1:]
    segments = [None if word == _DEEP else _segment(word) for word in words]
    return _Rule(segments, excludes, directories_only)


def _segment(word: str) -> Fits:
    """Return a matcher of names for one segment of a pattern. Raises ValueError."""
    if not re.search(r"[\\*?\[]", word):
        return word.__eq__
    pieces: list[list[str]] = [[]]
    for part in _parts(word):
        if part == "*":
            pieces.append([])
        else:
            pieces[-1].append(part)
    return _Glob([(re.compile("".join(piece), re.DOTALL), len(piece)) for piece in pieces])


class _Glob:
    """Pieces of a fixed length, each an expression that does not backtrack, with any text between them."""

    def __init__(self, pieces: Sequence[tuple[re.Pattern[str], int]]) -> None:
        (self._first, self._first_length), *rest = pieces
        self._middle, self._last = rest[:-1], rest[-1] if rest else None

    def __call__(self, name: str) -> bool:
        if not self._first.match(name):
            return False
        reached = self._first_length
        if self._last is None:
            return reached == len(name)
        for piece, length in self._middle:
            found = piece.search(name, reached)
            if not found:
                return False
            reached = found.start() + length
        last, length = self._last
        return len(name) - length >= reached and last.match(name, len(name) - length) is not None


def _parts(word: str) -> Iterator[str]:
    """Yield the parts of a segment: `*`, or a regular expression for one letter."""
    rest = word
    while rest:
        letter, rest = rest[0], rest[1:]
        if letter == "*":
            rest = rest.lstrip("*")
            yield "*"
        elif letter == "?":
            yield "."
        elif letter == "[":
            expression, rest = _bracket(rest)
            yield expression
        elif letter == "\\":
            if not rest:
                raise ValueError("a pattern ends in a backslash")
            yield re.escape(rest[0])
            rest = rest[1:]
        else:
            yield re.escape(letter)


_MEMBER = re.compile(r"\[:(\w*):\]|(\\.|[^\\])(?:-(\\.|[^\\\]]))?", re.DOTALL)
"""In brackets: a class, or a letter, or two with a hyphen between them."""


def _bracket(rest: str) -> tuple[str, str]:
    """Return the expression for the class that a `[` begins, and the rest. Raises ValueError."""
    negated = rest[:1] in ("!", "^")
    position = 1 if negated else 0
    members = ""
    while not members or rest[position : position + 1] != "]":
        found = _MEMBER.match(rest, position)
        if not found:
            raise ValueError("a pattern has a '[' without its ']'")
        members += _member(*found.groups())
        position = found.end()
    return f"[{'^' if negated else ''}{members}]", rest[position + 1 :]


def _member(named: str | None, first: str | None, last: str | None) -> str:
    if named is not None:
        if named not in _CLASSES:
            raise ValueError("a pattern names an unknown class of characters")
        return _CLASSES[named]
    begin = (first or "")[-1]
    end = last[-1] if last else begin
    if end < begin:
        raise ValueError("a pattern has a range that runs backwards")
    return f"{re.escape(begin)}-{re.escape(end)}"
