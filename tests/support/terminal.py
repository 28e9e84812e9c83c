"""A picture of a terminal, for the documents: text as SVG, in a font that the reader has."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

_LINE, _WIDTH, _MARGIN = 18, 7.85, 16
_FIXED_SPACE = "&#160;"  # several common ones would become one
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def picture(lines: Sequence[str]) -> str:
    """Return the lines as a terminal shows them; what was typed begins with `$ `."""
    width = int(max(map(len, lines)) * _WIDTH) + 2 * _MARGIN
    height = len(lines) * _LINE + 2 * _MARGIN
    rows = "\n".join(_row(number, line) for number, line in enumerate(lines, 1))
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size}>
<rect width="100%" height="100%" rx="6" fill="#1e2430"/>
<g font-family="{_FONT}" font-size="13" fill="#d5dbe6">
{rows}
</g>
</svg>
"""


def _row(number: int, line: str) -> str:
    typed = ' fill="#8fd18f"' if line.startswith("$ ") else ""
    text = escape(line).replace(" ", _FIXED_SPACE)
    return f'<text x="{_MARGIN}" y="{_MARGIN - 4 + number * _LINE}"{typed}>{text}</text>'
