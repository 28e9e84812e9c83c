"""The documents that list every setting and the API: written by `make reference`, compared by a test."""

import json
from pathlib import Path
from typing import Any

from agent.faces.http.api.openapi import openapi
from agent.settings.keys import KEYS, Key
from agent.settings.sections import FIRST, SECTIONS

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "config" / "reference.json"
SETTINGS = ROOT / "docs" / "settings.md"
OPENAPI = ROOT / "docs" / "openapi.json"
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->\n"


def reference_json() -> str:
    """Every key with default (null: must be given), unit and meaning."""
    entries = {key.name: {"default": key.default, "unit": key.kind.unit, "help": key.help} for key in KEYS}
    return json.dumps(entries, indent=4, ensure_ascii=False) + "\n"


def settings_tables() -> str:
    """The twelve settings to begin with, with examples and as a file, then every section's in Markdown."""
    by_name = {key.name: key for key in KEYS}
    first = ["| key | default | unit | example | meaning |", "|---|---|---|---|---|"]
    first += [_row(by_name[name], json.dumps(example)) for name, example in FIRST.items()]
    file = json.dumps(first_file(), indent=2, ensure_ascii=False)
    parts = ["## The twelve to begin with", "\n".join(first), "As a file:", f"```json\n{file}\n```"]
    for section in SECTIONS:
        rows = ["| key | default | unit | meaning |", "|---|---|---|---|", *map(_row, section.keys())]
        parts += [f"## {section.title}", "\n".join(rows)]
    return "\n" + "\n\n".join(parts) + "\n\n"


def first_file() -> dict[str, Any]:
    """The examples of the twelve settings as one configuration file."""
    file: dict[str, Any] = {}
    for name, example in FIRST.items():
        chosen = "nightly" if name.startswith("schedules.") else "cloud"
        *groups, last = name.replace("<name>", chosen).split(".")
        group = file
        for each in groups:
            group = group.setdefault(each, {})
        group[last] = example
    return file


def _row(key: Key, *examples: str) -> str:
    default = "(required)" if key.default is None else f"`{json.dumps(key.default)}`"
    cells = [f"`{key.name}`", default, key.kind.unit, *(f"`{example}`" for example in examples), key.help]
    return f"| {' | '.join(cells)} |"


def generated_in(document: str) -> str:
    """Return the text between the marks in `document`."""
    return document.partition(BEGIN)[2].partition(END)[0]


def openapi_text() -> str:
    """The description of the HTTP API, as `edge-backup openapi` prints it."""
    return json.dumps(openapi(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    OPENAPI.write_text(openapi_text())
    REFERENCE.write_text(reference_json())
    document = SETTINGS.read_text()
    before, begin, _ = document.partition(BEGIN)
    after = document.partition(END)[2]
    SETTINGS.write_text(f"{before}{begin}{settings_tables()}{END}{after}")


if __name__ == "__main__":
    main()
