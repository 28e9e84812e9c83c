"""The level `auto` follows what limits the job, whatever the speeds are."""

import pytest

from agent.formats.zip.effort import Effort
from tests.support.archives import LEVELS

MB = 1_000_000
SPEEDS = {0: (500 * MB, 0.26), 1: (90 * MB, 0.24), 2: (50 * MB, 0.22)}
"""Speed of one thread on a log, and the ratio, at each step of `auto`."""


class Job:
    """A second at a time, like the writer of archives: the slower of two threads and the taker decides."""

    def __init__(self, taker_bytes_per_s: float, level: str = "auto") -> None:
        self.effort, self.takes = Effort(level, threads=2), taker_bytes_per_s

    def at(self) -> int:
        return self.effort.steps.index(self.effort.step)

    def goes_on(self, seconds: float, shrinks: bool = True) -> list[int]:
        """Where it was after each tenth of a second."""
        seen = []
        for _ in range(round(seconds * 10)):
            compresses, ratio = SPEEDS[self.at()] if shrinks else (10_000 * MB, 1.0)
            made = min(2 * compresses * ratio, self.takes) * 0.1
            self.effort.step.did(int(made / ratio), int(made), made / ratio / compresses)
            self.effort.taken(int(made), made / self.takes, 0.1)
            seen.append(self.at())
        return seen


def test_a_slow_destination_is_sent_less() -> None:
    assert Job(5 * MB).goes_on(1)[-1] == 2


def test_a_fast_one_does_not_wait_for_the_compressor() -> None:
    assert set(Job(800 * MB).goes_on(5)) == {0}


def test_in_between_it_takes_the_step_that_keeps_the_destination_busy() -> None:
    assert set(Job(30 * MB).goes_on(10)[50:]) == {1}


def test_it_follows_a_destination_that_changes() -> None:
    job = Job(5 * MB)
    assert job.goes_on(1)[-1] == 2
    job.takes = 800 * MB
    assert job.goes_on(3)[-1] == 0
    job.takes = 5 * MB
    assert job.goes_on(10)[-1] == 2


def test_what_does_not_shrink_says_nothing_about_the_steps() -> None:
    """Or else the first log after encrypted files would be compressed at a speed that nobody can use."""
    job = Job(800 * MB)
    assert set(job.goes_on(5, shrinks=False)) == {0}
    assert set(job.goes_on(1)) == {0}
    assert set(job.goes_on(5, shrinks=False)) == {0}


@pytest.mark.parametrize("level", [level for level in LEVELS if level != "auto"])
def test_every_other_level_stays_as_it_is(level: str) -> None:
    assert set(Job(5 * MB, level).goes_on(5)) == {0}
