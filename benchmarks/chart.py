"""A bar chart as SVG: horizontal, in groups, readable on light and dark pages."""

from collections.abc import Mapping
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _RIGHT = 860, 190, 90
_BAR, _GAP, _GROUP_GAP, _TOP = 16, 5, 34, 34
_OURS, _THEIRS = "#2f81f7", "#8b949e"
_STYLE = "text{font:13px system-ui,sans-serif;fill:#57606a}.t{font-weight:600}"


def bar_chart(title: str, groups: Mapping[str, Mapping[str, float]], highlighted: str, unit: str) -> str:
    """One bar for each value of each group, on one scale; names that begin with `highlighted` stand out."""
    largest = max(value for values in groups.values() for value in values.values())
    scale, y, parts = (_WIDTH - _LEFT - _RIGHT) / largest, _TOP, [_text(0, 16, title, "t")]
    for group, values in groups.items():
        parts.append(_text(0, y + 12, group, "t"))
        y += _BAR + _GAP
        for name, value in values.items():
            parts += _bar(y, name, value, scale, unit, ours=name.startswith(highlighted))
            y += _BAR + _GAP
        y += _GROUP_GAP - _BAR
    size = f'viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" height="{y}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{_STYLE}</style>\n{body}\n</svg>\n'


def _bar(y: int, name: str, value: float, scale: float, unit: str, *, ours: bool) -> list[str]:
    width = max(value * scale, 1)
    destination = f'x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2"'
    return [
        _text(_LEFT - 8, y + 12, name, "", "end"),
        f'<rect {destination} fill="{_OURS if ours else _THEIRS}"/>',
        _text(_LEFT + width + 6, y + 12, f"{value:.3g} {unit}"),
    ]


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
