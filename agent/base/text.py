"""Texts of foreign origin: JSON scalars, keys in any letter case, names for a terminal, ids; JSON."""

import json
import sys
from collections.abc import Mapping
from typing import Any

MAX_TEXT_LENGTH = 400
"""In a message that leaves the device, longer texts are cut."""
_SHOWN_LETTERS = 200


class Number(str):
    """A JSON number by its text, exactly as received: ids and options may be numbers and are echoed."""

    __slots__ = ()


def scalar_text(value: object) -> str | None:
    """Return the text of a JSON scalar; None for null, objects and lists."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str) else None


def compact_json(value: object) -> bytes:
    """Return compact JSON in UTF-8, with question marks for what UTF-8 cannot encode."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def json_with_repeats(text: str | bytes) -> tuple[Any, list[str]]:
    """Return the value of a JSON text, and the keys that one object has twice; the last of them counts.

    People who write files do not see that mistake. Raises as `json.loads`.
    """
    twice: list[str] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found and key not in twice:
                twice.append(key)
            found[key] = value
        return found

    return json.loads(text, object_pairs_hook=members), twice


def encodable(text: str) -> str:
    """Return the text with question marks for what UTF-8 cannot encode, as of names that are other bytes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def folded(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mapping with keys in lower case; of keys that differ only in case, the last one wins."""
    return {key.lower(): item for key, item in value.items()}


def clipped(text: str, length: int = MAX_TEXT_LENGTH) -> str:
    """Cut the text to `length` characters, the last one an ellipsis."""
    return text if len(text) <= length else text[: max(0, length - 1)] + "…"


def readable(name: str) -> str:
    """Return `name` for a message: printable, on one line, of bounded length, valid Unicode."""
    return printable(clipped(name, _SHOWN_LETTERS))


def printable(text: str) -> str:
    """Escape control characters: a hostile name must not forge lines or control a terminal."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")


def names_are_utf8() -> bool:
    """Return True when this process decodes file names as UTF-8 (other bytes as surrogates), as archives do.

    Python decodes them as the locale says, and would restore a file under another name.
    """
    return sys.getfilesystemencoding() == "utf-8"


def valid_level(text: str) -> bool:
    """Return True for one level of a topic or a path: printable, without `/`, wildcards and spaces."""
    return bool(text) and text.isprintable() and not set("/+# ") & set(text)


def valid_device_id(device_id: str) -> bool:
    """Return True for `<namespace>:<name>` without characters that would break a topic."""
    namespace, _, name = device_id.partition(":")
    return bool(namespace and name) and valid_level(device_id)


def composed(text: str) -> str:
    """Return the text in Unicode's form NFC: one keyboard types "ü" as a letter, another as two."""
    import unicodedata  # with the first passcode: its tables take memory

    return unicodedata.normalize("NFC", text)


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return "1 file" or "2 files"; `plural` is for nouns that take no "s"."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"
