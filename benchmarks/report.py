"""Results of a benchmark: a table for people, all figures for programs."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Usage

RESULTS = Path(__file__).with_name("results")
_FIGURE = re.compile(r"([\d.]+[^\d ]*)?")  # 3.07, 5.8×, 64MiB, nothing; not "1 GiB log"


@dataclass(frozen=True, slots=True)
class Report:
    """`facts` say where and how, `notes` what a reader has to know, `figures` hold every single run."""

    name: str
    title: str
    facts: Mapping[str, str]
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    figures: dict[str, Any]

    def markdown(self) -> str:
        facts = "\n".join(f"- {name}: {fact}" for name, fact in self.facts.items())
        return "\n\n".join(
            [f"# {self.title}", facts, table(self.headings, self.rows), *self.notes, ""]
        ).rstrip("\n") + "\n"  # fmt: skip

    def publish(self, directory: Path = RESULTS) -> None:
        """Print it, and write `<name>.md` and `<name>.json` into `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        text = self.markdown()
        (directory / f"{self.name}.md").write_text(text, "utf-8")
        document = json.dumps(asdict(self), indent=2, default=_plain, ensure_ascii=False)
        (directory / f"{self.name}.json").write_text(document + "\n", "utf-8")
        print(text)


def _plain(value: object) -> object:
    if isinstance(value, Usage):
        return asdict(value)
    raise TypeError(f"no JSON is known for {type(value).__name__}")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that also reads well as text. Columns of figures are aligned to the right."""
    columns = list(zip(headings, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    pads = [">" if all(map(_FIGURE.fullmatch, column[1:])) else "<" for column in columns]
    rule = ["-" * (width - 1) + (":" if pad == ">" else "-") for pad, width in zip(pads, widths, strict=True)]
    lines = [
        " | ".join(f"{cell:{pad}{width}}" for cell, pad, width in zip(cells, pads, widths, strict=True))
        for cells in (headings, rule, *rows)
    ]
    return "\n".join(f"| {line} |" for line in lines)


def seconds(value_s: float) -> str:
    """Three digits that count: 0.512, 3.07, 34.1."""
    return f"{value_s:.{2 if value_s >= 1 else 3}f}" if value_s < 10 else f"{value_s:.1f}"


def megabytes(size_bytes: int) -> str:
    """In units of 1,000,000 bytes, as archives are quoted."""
    return f"{size_bytes / 1e6:.1f}"


def mebibytes(size_bytes: int) -> str:
    """In units of 1,048,576 bytes, as memory is."""
    return f"{size_bytes / (1 << 20):.0f}"
