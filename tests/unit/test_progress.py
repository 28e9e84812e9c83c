"""The progress of a job in words, and where it is written."""

import io
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.send.progress import ProgressLine, percent_text, progress_text

JOB = {
    "phase": "uploading",
    "percent": 35,
    "bytes": 35 << 20,
    "totalBytes": 100 << 20,
    "bytesPerSecond": 5 << 20,
    "remainingSeconds": 13,
}


def test_a_line_has_phase_percent_bytes_rate_and_time_left() -> None:
    assert progress_text(JOB) == "uploading, 35 %, 35 MiB of 100 MiB, 5 MiB/s, 0:00:13 left"
    assert progress_text({**JOB, "percent": None, "totalBytes": None, "remainingSeconds": None}) == (
        "uploading, 35 MiB, 5 MiB/s"
    )


def test_a_restore_on_trial_says_what_it_waits_for() -> None:
    """`trial` is the word of the wire: it told nobody that the restore needs `edge-backup confirm`."""
    job = {"phase": "trial", "percent": None, "remainingSeconds": 597}
    assert progress_text(job) == "waits for confirm, 0:09:57 left"


def test_more_than_was_expected_is_said_instead_of_a_percentage_that_stands_still() -> None:
    """The total is an estimate: with a growing directory the line stood at 99 %, as if stuck."""
    assert progress_text({**JOB, "percent": 99, "bytes": 130 << 20, "remainingSeconds": None}) == (
        "uploading, 130 MiB, more than the 100 MiB expected, 5 MiB/s"
    )
    assert progress_text({**JOB, "percent": 130}).startswith("uploading, 100 %, 35 MiB of 100 MiB")


numbers = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(job=st.fixed_dictionaries({}, optional=dict.fromkeys(JOB, numbers)))
def test_whatever_a_device_says_becomes_a_line(job: dict[str, Any]) -> None:
    """It may be old, broken, or not to be trusted."""
    text = progress_text(json.loads(json.dumps(job)))
    figures = text.removeprefix(str(job.get("phase", "")))
    assert all(0 <= int(each) <= 100 for each in re.findall(r"(-?\d+) %", figures))
    assert percent_text(job.get("percent")) in ("", *(f"{each} %" for each in range(101)))


def test_without_a_terminal_a_line_comes_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short job says nothing: scripts and cron read what is there."""
    now_s = 1000.0
    monkeypatch.setattr("agent.send.progress.time.monotonic", lambda: now_s)
    written = io.StringIO()
    line = ProgressLine(written)
    for seconds in (0, 5, 9, 11, 12, 20, 22, 50):
        now_s = 1000.0 + seconds
        line.show(f"after {seconds} s\x1b[2J")
    line.clear()
    assert written.getvalue().splitlines() == [f"after {each} s\\x1b[2J" for each in (11, 22, 50)]
