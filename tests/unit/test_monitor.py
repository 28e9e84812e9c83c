"""How far a job has come, by a clock that the test moves."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from agent.base.job import Job, Kind
from agent.jobs.progress import RATE_WINDOW_S, JobProgress

JOB = Job("0" * 16, Kind.BACKUP, "c", datetime(2026, 1, 2, tzinfo=UTC))


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_nothing_runs_before_and_after() -> None:
    changes: list[Mapping[str, Any] | None] = []
    progress = JobProgress(lambda: changes.append(progress.value()))
    assert progress.value() is None
    progress.began(JOB)
    progress.ended()
    assert [change and change["phase"] for change in changes] == ["starting", None]


def test_what_comes_late_from_a_job_that_has_ended_is_nothing() -> None:
    progress = JobProgress(lambda: None)
    progress.moved(5)
    progress.entered("archiving")
    assert progress.value() is None


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """So that a transfer that hangs is seen to hang."""
    clock = Clock()
    progress = JobProgress(lambda: None, clock)
    progress.began(JOB)
    progress.entered("uploading")
    for second in range(1, 6):
        clock.now_s = 100 + second
        progress.moved(second * 1000)
    value = progress.value()
    assert value
    assert (value["bytes"], value["bytesPerSecond"]) == (5000, 1000)
    for second in range(6, 30):
        clock.now_s = 100 + second
        progress.moved(5000)
    assert RATE_WINDOW_S < 20
    value = progress.value()
    assert value
    assert (value["bytes"], value["bytesPerSecond"]) == (5000, 0)


def test_percent_and_time_left_are_known_when_the_total_is() -> None:
    clock = Clock()
    progress = JobProgress(lambda: None, clock)
    progress.began(JOB)
    progress.entered("archiving")
    assert told(progress) == (None, None, None)
    progress.expected(10_000)
    assert told(progress) == (0, 10_000, None)
    clock.now_s += 2
    progress.moved(3_999)
    assert told(progress) == (39, 10_000, 4)
    progress.entered("uploading")
    assert told(progress) == (None, None, None)


def test_more_than_was_expected_is_not_yet_the_end() -> None:
    """The size of the last backup is a guess at that of the next one."""
    clock = Clock()
    progress = JobProgress(lambda: None, clock)
    progress.began(JOB)
    progress.entered("archiving")
    progress.expected(100)
    clock.now_s += 1
    progress.moved(100)
    assert told(progress) == (99, 100, 0)
    progress.moved(250)
    assert told(progress) == (99, 100, None)


def test_of_nothing_there_is_no_percentage() -> None:
    progress = JobProgress(lambda: None)
    progress.began(JOB)
    progress.entered("unpacking")
    progress.expected(0)
    assert told(progress) == (None, 0, None)


def told(progress: JobProgress) -> tuple[object, object, object]:
    value = progress.value()
    assert value
    return value["percent"], value["totalBytes"], value["remainingSeconds"]


def test_each_phase_counts_its_own_bytes() -> None:
    progress = JobProgress(lambda: None)
    progress.began(JOB)
    progress.entered("archiving")
    progress.moved(5)
    progress.entered("uploading")
    value = progress.value()
    assert value
    assert (value["phase"], value["bytes"], value["bytesPerSecond"]) == ("uploading", 0, 0)
