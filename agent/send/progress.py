"""The progress of a job for people: one line, which is kept up to date on a terminal.

The job may be that of a device that is not to be trusted, or of an older agent: every member may be missing.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, TextIO, TypeGuard

from agent.base.job import phase_text
from agent.base.text import printable

PLAIN_S = 10.0
"""The time between two lines where there is no terminal, also before the first: short jobs print none."""
_SAME_LINE = "\r\x1b[K"
_USUAL_COLUMNS = 80
_MOST = 10**13
"""The most bytes or seconds that are shown: a device may report nonsense."""


class ProgressLine:
    """Belongs to one thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._written = stream, False
        self.is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._due_s = time.monotonic() + PLAIN_S

    def show(self, text: str) -> None:
        """Replace the line on a terminal; elsewhere write one now and then."""
        if self.is_terminal:
            self._write(f"{_SAME_LINE}{printable(text)[: self._columns() - 1]}")
            self._written = True
        elif time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + PLAIN_S
            self._write(f"{printable(text)}\n")

    def clear(self) -> None:
        """Remove the line from a terminal: something else is written now."""
        if self._written:
            self._write(_SAME_LINE)
            self._written = False

    def _columns(self) -> int:
        """Return the width of the terminal: a line that wraps could not be replaced."""
        with suppress(OSError):
            return os.get_terminal_size(self._stream.fileno()).columns or _USUAL_COLUMNS
        return _USUAL_COLUMNS

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def progress_text(job: Mapping[str, Any]) -> str:
    """Return phase, percent, bytes, rate and time left of a job, as far as they are known."""
    return ", ".join([phase_text(str(job.get("phase", ""))), *_figures(job)])


def percent_text(percent: object) -> str:
    """Return a percentage between 0 and 100; "" when `percent` is no number."""
    return f"{max(0, min(100, percent))} %" if _is_number(percent) else ""


def size_text(size_bytes: int) -> str:
    """Return the size in the largest unit that it fills, in three or four digits."""
    count, units = float(size_bytes), iter(("B", "KiB", "MiB", "GiB"))
    unit = next(units)
    while round(count) >= 1024 and unit != "TiB":
        count, unit = count / 1024, next(units, "TiB")
    return f"{count:.3g} {unit}" if count < 999.5 else f"{count:.0f} {unit}"


def _figures(job: Mapping[str, Any]) -> Iterator[str]:
    done, total, rate = (_number(job, name) for name in ("bytes", "totalBytes", "bytesPerSecond"))
    if 0 < total < done:  # the total was an estimate, and a percentage would stand still
        yield f"{size_text(done)}, more than the {size_text(total)} expected"
    else:
        yield from filter(None, [percent_text(job.get("percent"))])
        if done:
            yield f"{size_text(done)} of {size_text(total)}" if total else size_text(done)
    if done:
        yield f"{size_text(rate)}/s"
    if _is_number(job.get("remainingSeconds")):
        yield f"{timedelta(seconds=_number(job, 'remainingSeconds'))} left"


def _number(job: Mapping[str, Any], name: str) -> int:
    value = job.get(name)
    return max(0, min(value, _MOST)) if _is_number(value) else 0


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
