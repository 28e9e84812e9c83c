"""How many fault points a suite tried, and which of them ended badly; one table at the end of the run.

with tally("crash: backup") as points:
    for number in points.chosen(total):
        with points.trying(f"killed at call {number}"):
            ...  # an AssertionError here is a violation; the suite goes on
"""

import os
import random
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

LONG = os.environ.get("FAULTS") == "long"
"""`make faults` tries every point; otherwise each suite takes an evenly spaced choice."""
_SEED = 20240229


@dataclass
class Tally:
    suite: str
    tried: int = 0
    violations: list[str] = field(default_factory=list)
    seconds: float = 0

    @contextmanager
    def trying(self, point: str) -> Iterator[None]:
        """One fault point; whatever fails inside is noted, and the next one is tried."""
        self.tried += 1
        try:
            yield
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = " ".join(str(error).split())[-700:] or repr(error)
            self.violations.append(f"{point}: {text} ({where.name}:{where.lineno})")
            print(f"{self.suite}: {self.violations[-1]}", flush=True)

    def chosen(self, total: int, short: int, long: int | None = None) -> Sequence[int]:
        """The numbers 1 to `total`: about `short` of them, evenly spaced; in the long form `long`, or all."""
        wanted = (total if long is None else long) if LONG else short
        if total <= wanted:
            return range(1, total + 1)
        step = total / wanted
        begin = random.Random(f"{_SEED}{self.suite}").random() * step
        return sorted({1 + int(begin + step * number) for number in range(wanted)} & {*range(1, total + 1)})


tallies: list[Tally] = []
told: list[str] = []
"""Other lines for the end of the run."""


@contextmanager
def tally(suite: str) -> Iterator[Tally]:
    """Count the points of a suite; fails at its end when there were violations, or no points at all."""
    points, begun_s = Tally(suite), time.monotonic()
    tallies.append(points)
    try:
        yield points
    finally:
        points.seconds = time.monotonic() - begun_s
    assert points.tried, f"{suite}: no point was tried"
    assert not points.violations, "\n".join([f"{suite}: violations", *points.violations[:20]])


def table() -> list[str]:
    """One line for each suite, with its count of points and violations."""
    if not tallies:
        return []
    width = max(len(tally.suite) for tally in tallies)
    lines = [f"{'suite':{width}}  points tried  violations  seconds"]
    lines += [
        f"{tally.suite:{width}}  {tally.tried:12,}  {len(tally.violations):10,}  {tally.seconds:7.1f}"
        for tally in tallies
    ]
    tried, bad = sum(tally.tried for tally in tallies), sum(len(tally.violations) for tally in tallies)
    return [*lines, f"{'all':{width}}  {tried:12,}  {bad:10,}  {sum(t.seconds for t in tallies):7.1f}"]


def as_output() -> dict[str, Any]:
    """Return what this process has counted, as one process of pytest hands it to another."""
    return {"tallies": [asdict(each) for each in tallies], "told": told}


def add_output(output: Mapping[str, Any]) -> None:
    """Add what another process has counted."""
    tallies.extend(Tally(**each) for each in output.get("tallies", ()))
    told.extend(output.get("told", ()))


def tell(text: str) -> None:
    """Say a line at the end of the run: the counts are part of the result."""
    told.append(text)
