"""How far a job has come, by a clock that the test moves."""

from datetime import UTC, datetime

from agent.base.job import Job, Kind
from agent.jobs.progress import RATE_WINDOW_S, Monitor

JOB = Job("0" * 16, Kind.BACKUP, "c", datetime(2026, 1, 2, tzinfo=UTC))


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_nothing_runs_before_and_after() -> None:
    monitor, changes = Monitor(), []
    monitor.changed = lambda: changes.append(monitor.value())
    assert monitor.value() is None
    monitor.began(JOB)
    monitor.ended()
    assert [change and change["phase"] for change in changes] == ["starting", None]


def test_what_comes_late_from_a_job_that_has_ended_is_nothing() -> None:
    monitor = Monitor()
    monitor.moved(5)
    monitor.entered("archiving")
    assert monitor.value() is None


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """So that a transfer that hangs is seen to hang."""
    clock = Clock()
    monitor = Monitor(clock)
    monitor.began(JOB)
    monitor.entered("uploading")
    for second in range(1, 6):
        clock.now_s = 100 + second
        monitor.moved(second * 1000)
    value = monitor.value()
    assert value
    assert (value["bytes"], value["bytesPerSecond"]) == (5000, 1000)
    for second in range(6, 30):
        clock.now_s = 100 + second
        monitor.moved(5000)
    assert RATE_WINDOW_S < 20
    value = monitor.value()
    assert value
    assert (value["bytes"], value["bytesPerSecond"]) == (5000, 0)


def test_percent_and_time_left_are_known_when_the_total_is() -> None:
    clock = Clock()
    monitor = Monitor(clock)
    monitor.began(JOB)
    monitor.entered("archiving")
    assert told(monitor) == (None, None, None)
    monitor.expected(10_000)
    assert told(monitor) == (0, 10_000, None)
    clock.now_s += 2
    monitor.moved(3_999)
    assert told(monitor) == (39, 10_000, 4)
    monitor.entered("uploading")
    assert told(monitor) == (None, None, None)


def test_more_than_was_expected_is_not_yet_the_end() -> None:
    """The size of the last backup is a guess at that of the next one."""
    clock = Clock()
    monitor = Monitor(clock)
    monitor.began(JOB)
    monitor.entered("archiving")
    monitor.expected(100)
    clock.now_s += 1
    monitor.moved(100)
    assert told(monitor) == (99, 100, 0)
    monitor.moved(250)
    assert told(monitor) == (99, 100, None)


def test_of_nothing_there_is_no_percentage() -> None:
    monitor = Monitor()
    monitor.began(JOB)
    monitor.entered("unpacking")
    monitor.expected(0)
    assert told(monitor) == (None, 0, None)


def told(monitor: Monitor) -> tuple[object, object, object]:
    value = monitor.value()
    assert value
    return value["percent"], value["totalBytes"], value["remainingSeconds"]


def test_each_phase_counts_its_own_bytes() -> None:
    monitor = Monitor()
    monitor.began(JOB)
    monitor.entered("archiving")
    monitor.moved(5)
    monitor.entered("uploading")
    value = monitor.value()
    assert value
    assert (value["phase"], value["bytes"], value["bytesPerSecond"]) == ("uploading", 0, 0)
