"""The names of what was left out: kept for the newest backups, told as far as they fit."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.job import Job, Kind
from agent.base.text import compact_json
from agent.jobs.queries.fitting import shortened
from agent.jobs.queries.history import History
from agent.jobs.requests.control import DescribeRequest
from agent.journal import Journal
from agent.journal.archives import MOST_JOBS
from tests.support.journals import sql

NAMES = [(f"directory/socket-{number}", "socket") for number in range(1000)]
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def ended(journal: Journal, job_id: str, names: list[tuple[str, str]], more: int = 0) -> None:
    job = Job(job_id, Kind.BACKUP, f"c-{job_id}", NOW)
    journal.jobs.started(job, Path("/data"), [])
    journal.jobs.ended(job.finished(NOW), {"unexportable": len(names) + more})
    journal.skipped.keep(job_id, names)


def test_all_names_come_back_in_order(journal: Journal) -> None:
    ended(journal, "a", NAMES)
    assert journal.skipped.of("a") == NAMES
    assert journal.skipped.of("b") == []


def test_only_the_newest_backups_keep_theirs_and_none_outlives_its_job(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db", kept_jobs=MOST_JOBS + 2)
    for number in range(MOST_JOBS + 1):
        ended(journal, f"{number:02}", [(f"n{number}", "FIFO")])
    kept = [number for number in range(MOST_JOBS + 1) if journal.skipped.of(f"{number:02}")]
    assert kept == list(range(1, MOST_JOBS + 1))
    for number in range(MOST_JOBS + 2):
        ended(journal, f"x{number:02}", [])
    ((count,),) = sql(journal.path, "SELECT count(*) FROM left_out")
    assert count == 0
    journal.close()


@pytest.mark.parametrize("room_bytes", [700, 1500, 1 << 20])
def test_describe_tells_as_many_as_fit_and_how_many_did_not(journal: Journal, room_bytes: int) -> None:
    ended(journal, "a", NAMES, more=5)  # a report keeps the first 1,000
    entry = History(journal).describe(DescribeRequest("a"), room_bytes)
    assert len(compact_json(entry)) <= room_bytes
    told = len(entry["leftOut"])
    assert 0 < told <= 1000
    assert told + entry.get("leftOutMore", 0) == entry["unexportable"] == 1005


VALUES = st.fixed_dictionaries(
    {
        "count": st.integers(0, 10**9),
        "list": st.lists(st.text(max_size=20), max_size=30),
        "object": st.dictionaries(st.text(max_size=5), st.integers(), max_size=30),
    }
)


@given(VALUES, st.integers(80, 400))
def test_what_is_shortened_fits_and_says_how_much_is_missing(value: dict[str, Any], room_bytes: int) -> None:
    found = shortened(value, ("list", "object"), room_bytes)
    assert len(compact_json(found)) <= room_bytes
    assert found["count"] == value["count"]
    for key in ("list", "object"):
        assert len(found[key]) + found.get(f"{key}More", 0) == len(value[key])
    if len(compact_json(value)) <= room_bytes:
        assert found == value
