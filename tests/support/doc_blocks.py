"""The commands and settings that stand in a document, to be executed and used as they are."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_HEADING_OR_BLOCK = re.compile(
    r"^#+ (?P<heading>[^\n]+)$|"
    r"^(?:<!-- (?P<mark>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block, the heading that it stands under, and the comment in the line above it, if any."""

    heading: str
    language: str
    text: str
    mark: str


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page of docs/ in their order."""
    heading = ""
    for found in _HEADING_OR_BLOCK.finditer((DOCS / page).read_text("utf-8")):
        if found["heading"]:
            heading = found["heading"]
        else:
            yield Block(heading, found["language"], found["text"], found["mark"] or "")
