"""The record of a job: its exact values on the wire, and that it ends once."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.job import Job, Kind, State, Upload, UploadState
from agent.base.times import NEVER, format_time, parse_time
from agent.faces.ditto.twin_messages import last_operation, last_upload

START = datetime(2026, 11, 21, 22, 28, 8, 388229, UTC)
END = START + timedelta(seconds=5)
TAG = "0a1b2c3d"
JOB = Job("0123456789abcdef", Kind.BACKUP, "demo-backup-1", START)
UPLOAD = Upload("demo-backup-1#1", "demo-backup-1", {"k": "v"}, START)
TIMES = st.integers(0, 1 << 52).map(lambda us: datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us))


def test_the_first_value_of_last_operation_is_exactly_this() -> None:
    """WIRE section 2, byte for byte and key by key."""
    assert json.dumps(last_operation(JOB, ""), separators=(",", ":")) == (
        '{"correlationId":"demo-backup-1","state":"BACKUP_STARTED",'
        '"startTime":"2026-11-21T22:28:08.388229Z","endTime":"0001-01-01T00:00:00Z",'
        '"statusCode":"","message":"","progress":0,"info":null}'
    )


def test_a_good_end_has_progress_100_and_a_time() -> None:
    value = last_operation(JOB.finished(END, "1 entry skipped"), "1 entry skipped")
    assert value == last_operation(JOB, "") | {
        "state": "BACKUP_FINISHED",
        "endTime": "2026-11-21T22:28:13.388229Z",
        "message": "1 entry skipped",
        "progress": 100,
    }


def test_a_bad_end_has_a_code_and_a_message() -> None:
    value = last_operation(JOB.failed(END, "no-space", "the disk is full"), "the disk is full")
    assert (value["state"], value["progress"]) == ("BACKUP_FAILED", 0)
    assert (value["statusCode"], value["message"]) == ("no-space", "the disk is full")


@pytest.mark.parametrize("kind", Kind)
def test_states_have_the_operation_s_name_before_them(kind: Kind) -> None:
    job = Job("id", kind, "c", START)
    states = [last_operation(job, "")["state"], last_operation(job.finished(END), "")["state"]]
    states.append(last_operation(job.failed(END, "x", ""), "")["state"])
    assert states == [f"{kind.upper()}_{state}" for state in ("STARTED", "FINISHED", "FAILED")]


@pytest.mark.parametrize("ended", [JOB.finished(END), JOB.failed(END, "x", "")])
def test_a_job_ends_once(ended: Job) -> None:
    """Exactly two values of `lastOperation` per operation: a second end would be a third."""
    with pytest.raises(ValueError, match="cannot become"):
        ended.finished(END)
    with pytest.raises(ValueError, match="cannot become"):
        ended.failed(END, "x", "")
    assert ended.state in (State.FINISHED, State.FAILED)


def test_the_first_value_of_last_upload_is_exactly_this() -> None:
    """It carries the parent's id, and the options `info.*` in `info`."""
    assert json.dumps(last_upload(UPLOAD, ""), separators=(",", ":")) == (
        '{"correlationId":"demo-backup-1","state":"UPLOADING",'
        '"startTime":"2026-11-21T22:28:08.388229Z","endTime":"0001-01-01T00:00:00Z",'
        '"statusCode":"","message":"","progress":0,"info":{"k":"v"}}'
    )


def test_an_upload_ends_well_at_100_percent() -> None:
    value = last_upload(UPLOAD.moved(40).succeeded(END), "")
    assert value == last_upload(UPLOAD, "") | {
        "state": "SUCCESS",
        "progress": 100,
        "endTime": "2026-11-21T22:28:13.388229Z",
    }


def test_an_upload_that_fails_keeps_its_progress() -> None:
    value = last_upload(UPLOAD.moved(40).failed(END, "unreachable", "m"), "m")
    assert (value["state"], value["statusCode"], value["progress"]) == ("FAILED", "unreachable", 40)


def test_a_cancelled_upload_says_canceled() -> None:
    """With one l, as Kanto's backends expect it."""
    assert last_upload(UPLOAD.failed(END, "cancelled", "", cancelled=True), "")["state"] == "CANCELED"


@given(st.lists(st.integers(0, 200)))
def test_progress_never_falls_and_reaches_100_only_at_the_end(percents: list[int]) -> None:
    upload, seen = UPLOAD, [0]
    for percent in percents:
        upload = upload.moved(percent)
        seen.append(upload.progress)
    assert seen == sorted(seen)
    assert max(seen) < 100


@pytest.mark.parametrize("ended", [UPLOAD.succeeded(END), UPLOAD.failed(END, "x", "")])
def test_an_upload_ends_once(ended: Upload) -> None:
    with pytest.raises(ValueError, match="cannot end again"):
        ended.succeeded(END)
    with pytest.raises(ValueError, match="cannot end again"):
        ended.failed(END, "x", "")
    assert ended.state in (UploadState.SUCCESS, UploadState.FAILED)


def test_no_time_is_go_s_zero_time() -> None:
    assert format_time(None) == NEVER == "0001-01-01T00:00:00Z"


@given(TIMES)
def test_times_have_a_fixed_width_and_come_back(when: datetime) -> None:
    """UTC with six decimals, also when they are zero."""
    text = format_time(when)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    assert parse_time(text) == when


@given(TIMES, TIMES)
def test_the_order_of_texts_is_the_order_of_times(one: datetime, other: datetime) -> None:
    """Searches in Ditto compare texts."""
    assert (format_time(one) < format_time(other)) == (one < other)


def test_a_time_of_another_zone_is_told_in_utc() -> None:
    assert format_time(START.astimezone(timezone(timedelta(hours=5)))) == format_time(START)
