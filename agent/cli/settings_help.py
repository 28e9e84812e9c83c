"""The text of `edge-backup run --help`: twelve settings to begin with and the sections, or every setting."""

import json
import textwrap
from collections.abc import Iterable, Iterator

from agent.settings.keys import KEYS, Key
from agent.settings.sections import FIRST, SECTIONS

ALL = "all"
TOPICS = (*(section.name for section in SECTIONS), ALL)
"""The words that may follow `--help`."""
_WIDTH = 100


def overview() -> str:
    """Return the twelve settings that a fleet needs first, and the names of the sections."""
    by_name = {key.name: key for key in KEYS}
    first = [by_name[name] for name in FIRST]
    lines = ["settings to begin with:", *_entries(first), "", "all settings, by section:"]
    lines += [f"  --help {name:12}{title}" for name, title in _topics()]
    return "\n".join(lines)


def described(topic: str) -> str:
    """Return every setting of the section `topic`, or of all sections."""
    chosen = [section for section in SECTIONS if topic in (section.name, ALL)]
    return "\n\n".join("\n".join([f"{section.title}:", *_entries(section.keys())]) for section in chosen)


def _topics() -> Iterator[tuple[str, str]]:
    yield from ((section.name, f"{section.title} ({len(section.keys())})") for section in SECTIONS)
    yield ALL, f"Everything ({len(KEYS)})"


def _entries(keys: Iterable[Key]) -> Iterator[str]:
    for key in keys:
        yield f"  {key.name}  ({'; '.join(_facts(key))})"
        yield textwrap.fill(key.help, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _facts(key: Key) -> Iterator[str]:
    yield key.kind.unit
    if key.default is None:
        yield "required"
    elif key.default != "":
        yield f"default {json.dumps(key.default)}"
    if key.name in FIRST:
        yield f"example {json.dumps(FIRST[key.name])}"
