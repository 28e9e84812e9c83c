"""JSON in files that people write, where a key that is given twice is a mistake that nobody sees."""

import json
from typing import Any


def loads(text: str | bytes) -> tuple[Any, list[str]]:
    """Return the value of a JSON text, and the keys that one object has twice; the last of them counts.

    Raises as `json.loads`.
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
