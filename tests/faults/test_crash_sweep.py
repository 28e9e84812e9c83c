"""The agent is killed right before any call that changes the disk, in any of its threads, and started again.

SIGKILL keeps what the kernel has; what a power cut takes is in test_power_cut.py.
"""

import pytest

from tests.faults.stage import Stage
from tests.faults.stories import STORIES
from tests.faults.tally import LONG, tally

SHORT_POINTS = 3


@pytest.mark.timeout(7200 if LONG else 1800)  # a snapshot has more than 500 calls, each some seconds
@pytest.mark.parametrize("name", STORIES)
def test_killed_at_any_call_everything_is_old_or_new_and_told_once(name: str, stage: Stage) -> None:
    total = len(stage.rehearse(name))
    with tally(f"killed: {name}") as points:
        for number in points.chosen(total, SHORT_POINTS):
            with points.trying(f"call {number} of {total}"):
                stage.killed(name, number)
