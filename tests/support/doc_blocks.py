"""The shell commands that stand in a document, to be executed as they are."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_FENCE = re.compile(r"^(?:<!-- (?P<mark>[^\n]+) -->\n)?```sh\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of shell commands, and the comment in the line above, if there is one."""

    heading: str
    text: str
    mark: str


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page of docs/ in their order, each with the heading that it stands under."""
    document = (DOCS / page).read_text("utf-8")
    for section in re.split(r"^#+ ", document, flags=re.MULTILINE)[1:]:
        heading = section.partition("\n")[0]
        for found in _FENCE.finditer(section):
            yield Block(heading, found["text"], found["mark"] or "")
