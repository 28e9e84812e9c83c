"""The short forms of `make soak`."""

from tests.faults.soak import MAX_GROWTH_BYTES, MAX_JOURNAL_BYTES, memory_directory, soaking
from tests.faults.tally import tell


def test_two_hundred_jobs_with_faults_leave_nothing_behind() -> None:
    with memory_directory() as work, soaking(work, seed=2) as soak:
        soak.run(100)
        warm = soak.settled()
        soak.run(200)
        after = soak.settled(warm)
        grown = after.memory_bytes - warm.memory_bytes
        tell(f"{soak.done.total()} jobs: memory grew by {grown >> 10:,} KiB, {after}")
        assert grown < MAX_GROWTH_BYTES
        assert soak.journal_bytes() < MAX_JOURNAL_BYTES
        assert soak.leftovers() == set()


def test_a_life_with_kills_leaves_nothing_behind() -> None:
    """Every command has its one outcome, whenever in its job the agent was killed."""
    with memory_directory() as work, soaking(work, seed=3, kill=True) as soak:
        soak.run(30)
        for number in range(8):
            soak.killed(f"killed {number}")
        soak.done["killed"] += 8
        tell(f"{soak.done.total()} jobs, killed {soak.done['killed']} times")
        assert soak.journal_bytes() < MAX_JOURNAL_BYTES
        assert soak.leftovers() == set()
