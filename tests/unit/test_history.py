"""The questions `history` and `describe`: complete, in order, and within the room that a message has."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.base.job import Job, Kind, State
from agent.base.refusals import Reason, Refused
from agent.base.text import compact_json
from agent.jobs.queries.history import History
from agent.jobs.requests.control import DescribeRequest, HistoryRequest
from agent.journal import Journal

START = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
ROOM_BYTES = 1700


def fill(journal: Journal, count: int, correlation_id: str = "c") -> list[str]:
    """Ids of jobs that ended one after another, newest first."""
    ids: list[str] = []
    for number in range(count):
        job = Job(f"{number:016x}", Kind.BACKUP, f"{correlation_id}{number}", START)
        journal.jobs.started(job, Path("/data"), [])
        ended = job.finished(START + timedelta(seconds=number), "all is well")
        journal.jobs.ended(ended, {"archive_bytes": number, "sha256": "ab" * 32})
        ids.insert(0, job.id)
    return ids


def test_pages_together_are_all_jobs_newest_first(journal: Journal) -> None:
    wanted, found, pages = fill(journal, 50), [], 0
    page = History(journal).history(HistoryRequest(), ROOM_BYTES)
    while True:
        assert len(compact_json(page)) <= ROOM_BYTES
        found += [entry["id"] for entry in page["entries"]]
        pages += 1
        if "next" not in page:
            break
        page = History(journal).history(HistoryRequest(page["next"]), ROOM_BYTES)
    assert found == wanted
    assert pages > 1


def test_a_job_that_runs_is_not_yet_history(journal: Journal) -> None:
    journal.jobs.started(Job("0" * 16, Kind.BACKUP, "c", START), Path("/data"), [])
    assert History(journal).history(HistoryRequest(), ROOM_BYTES) == {"entries": []}


def test_an_entry_is_found_by_its_id_and_by_the_backend_s(journal: Journal) -> None:
    fill(journal, 3)
    by_id = History(journal).describe(DescribeRequest(f"{1:016x}"), ROOM_BYTES)
    assert by_id == History(journal).describe(DescribeRequest("c1"), ROOM_BYTES)
    assert by_id == {
        "id": f"{1:016x}",
        "correlationId": "c1",
        "kind": "backup",
        "state": "FINISHED",
        "startTime": "2026-01-02T03:04:05.000678Z",
        "endTime": "2026-01-02T03:04:06.000678Z",
        "statusCode": "",
        "message": "all is well",
        "directory": "/data",
        "archiveBytes": 1,
        "sha256": "ab" * 32,
    }


def test_of_jobs_with_the_same_id_the_newest_is_described(journal: Journal) -> None:
    for number in (1, 2):
        job = Job(f"{number:016x}", Kind.BACKUP, "same", START)
        journal.jobs.started(job, Path("/data"), [])
        journal.jobs.ended(job.finished(START))
    assert History(journal).describe(DescribeRequest("same"), ROOM_BYTES)["id"] == f"{2:016x}"


def test_a_long_message_is_cut_to_the_room(journal: Journal) -> None:
    job = Job("0" * 16, Kind.RESTORE, "c", START)
    journal.jobs.started(job, Path("/data"), [])
    journal.jobs.ended(job.failed(START, "io-error", "\u00e4" * 4000))
    entry = History(journal).describe(DescribeRequest("c"), ROOM_BYTES)
    assert len(compact_json(entry)) <= ROOM_BYTES
    assert str(entry["message"]).endswith("\u2026")


def test_an_id_that_nobody_knows_is_a_404(journal: Journal) -> None:
    with pytest.raises(Refused) as caught:
        History(journal).history(HistoryRequest("nix"), ROOM_BYTES)
    assert caught.value.reason is Reason.NOT_FOUND
    with pytest.raises(Refused) as caught:
        History(journal).describe(DescribeRequest("nix"), ROOM_BYTES)
    assert caught.value.reason is Reason.NOT_FOUND


def test_what_the_last_backup_of_a_directory_held_is_known(journal: Journal) -> None:
    """Jobs that failed, that found nothing new, and those of other directories do not count."""
    assert journal.jobs.last_size("content_bytes", Path("/data")) is None
    ends = [("/data", {"content_bytes": 7}), ("/data", {}), ("/other", {"content_bytes": 9})]
    for number, (directory, facts) in enumerate(ends):
        job = Job(f"{number:016x}", Kind.BACKUP, "c", START)
        journal.jobs.started(job, Path(directory), [])
        journal.jobs.ended(job.finished(START), facts)
    failed = Job("f" * 16, Kind.BACKUP, "c", START)
    journal.jobs.started(failed, Path("/data"), [])
    journal.jobs.ended(failed.failed(START, "no-space", ""), {"content_bytes": 1})
    assert journal.jobs.last_size("content_bytes", Path("/data")) == 7
    assert History(journal).last_size("content_bytes") == 9


def test_the_last_job_fits_into_the_room(journal: Journal) -> None:
    assert History(journal).last(ROOM_BYTES) is None
    job = Job("0" * 16, Kind.BACKUP, "c", START)
    journal.jobs.started(job, Path("/data"), [])
    journal.jobs.ended(job.failed(START, "io-error", "\u00e4" * 4000))
    last = History(journal).last(500)
    assert last
    assert (last["id"], last["statusCode"]) == (job.id, "io-error")
    assert len(compact_json(last)) <= 500


def test_what_is_known_from_the_start_is_there_whatever_becomes_of_the_job(journal: Journal) -> None:
    for number, (message, facts) in enumerate([("", {}), ("", {"place": "local:device/b.zip"})]):
        job = Job(f"{number:016x}", Kind.BACKUP, "c", START)
        journal.jobs.started(job, Path("/data\n"), [], {"place": "local:device/a.zip", "store": "site"})
        journal.jobs.ended(job.failed(START, "no-space", message), facts)
    described = [History(journal).describe(DescribeRequest(f"{n:016x}"), ROOM_BYTES) for n in (0, 1)]
    assert [entry["place"] for entry in described] == ["local:device/a.zip", "local:device/b.zip"]
    assert {(entry["store"], entry["directory"]) for entry in described} == {("site", "/data\\n")}


def test_a_preview_that_waits_is_not_among_the_newest_jobs_that_ended(journal: Journal) -> None:
    """It has no end yet: the metrics, which show the end of each, were not written while a preview waited."""
    ended = Job("0" * 16, Kind.RESTORE, "c", START)
    journal.jobs.started(ended, Path("/data"), [])
    journal.jobs.ended(ended.finished(START))
    journal.jobs.started(Job("1" * 16, Kind.RESTORE, "c", START, State.PREVIEW), Path("/data"), [])
    assert [entry["id"] for entry in History(journal).newest()] == [ended.id]
