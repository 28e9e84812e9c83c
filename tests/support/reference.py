"""The documents that list every setting and the API: written by `make reference`, compared by a test."""

import json
from pathlib import Path

from agent.faces.http.api.openapi import openapi
from agent.settings.keys import KEYS, Key

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "config" / "reference.json"
OPERATING = ROOT / "docs" / "operating.md"
OPENAPI = ROOT / "docs" / "openapi.json"
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->\n"


def reference_json() -> str:
    """Every key with default (null: must be given), unit and meaning."""
    entries = {key.name: {"default": key.default, "unit": key.kind.unit, "help": key.help} for key in KEYS}
    return json.dumps(entries, indent=4, ensure_ascii=False) + "\n"


def settings_table() -> str:
    """Every key as a row of a table in Markdown; Kanto's first."""
    rows = ["| key | default | unit | meaning |", "|---|---|---|---|"]
    rows += [_row(key) for key in KEYS]
    return "\n".join(rows) + "\n"


def _row(key: Key) -> str:
    default = "(required)" if key.default is None else f"`{json.dumps(key.default)}`"
    return f"| `{key.name}` | {default} | {key.kind.unit} | {key.help} |"


def table_in(document: str) -> str:
    """The table that stands in `document` now."""
    return document.partition(BEGIN)[2].partition(END)[0]


def openapi_text() -> str:
    """The description of the HTTP API, as `edge-backup openapi` prints it."""
    return json.dumps(openapi(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    OPENAPI.write_text(openapi_text())
    REFERENCE.write_text(reference_json())
    document = OPERATING.read_text()
    OPERATING.write_text(document.replace(table_in(document), settings_table()))


if __name__ == "__main__":
    main()
