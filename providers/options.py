"""Options of a command, checked: every wrong key is named with what was expected, and never a value."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from providers.address import parse_address
from providers.errors import BadOptions


@dataclass(frozen=True, slots=True)
class Option:
    """The rule for one option. `expected` completes "option 'x' must be …"."""

    pattern: str = r"\S(.*\S)?"
    expected: str = "text without blanks at its ends"
    required: bool = False
    parse: Callable[[str], object] = str
    """For what a pattern cannot say: raises ValueError."""

    def accepts(self, value: str) -> bool:
        try:
            self.parse(value)
        except ValueError:
            return False
        return re.fullmatch(self.pattern, value) is not None


HTTP_URL = Option(
    r"https?://[^/?#@\s]+(/[^?#\s]*)?",
    "an http or https URL without credentials and query",
    parse=parse_address,
)


def checked(options: Mapping[str, str], prefix: str, known: Mapping[str, Option]) -> dict[str, str]:
    """Return the options that begin with `prefix`; an empty value means absent.

    Raises `BadOptions` for keys that are missing, unknown, or whose value does not match.
    """
    if problems := problems_in(options, prefix, known):
        raise BadOptions(problems)
    return _given(options, prefix)


def problems_in(options: Mapping[str, str], prefix: str, known: Mapping[str, Option]) -> dict[str, str]:
    """Return what was expected of each wrong key among those that begin with `prefix`."""
    given = _given(options, prefix)
    problems = {
        key: f"is unknown; known are {', '.join(sorted(known))}" for key in given.keys() - known.keys()
    }
    for key, option in known.items():
        if key not in given:
            if option.required:
                problems[key] = "is missing"
        elif not option.accepts(given[key]):
            problems[key] = f"must be {option.expected}"
    return problems


def _given(options: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {key: value for key, value in options.items() if key.startswith(prefix) and value}
