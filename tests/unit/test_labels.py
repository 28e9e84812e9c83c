"""Name, description and retention date of a backup are taken as given, or refused by name."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.job import Label
from agent.base.refusals import Reason, Refused
from agent.base.text import Number
from agent.jobs.requests.backup import read_label
from agent.jobs.requests.raw import read_raw
from tests.support.fakes import Device

NOW = datetime(2026, 11, 21, 22, 28, 8, 388229, UTC)
LATER = datetime(2027, 1, 31, 12, tzinfo=UTC)


def label(**options: object) -> Label:
    value = {"options": {f"backup.{key}": item for key, item in options.items()}}
    return read_label(read_raw("backup", value).options, NOW)


def test_nothing_said_is_an_empty_label() -> None:
    assert label() == label(name="", description=None, retentionDate="") == Label()
    assert Label().facts() == {}


@pytest.mark.parametrize("name", ["a", "_", "-x", "before-update_2.1", "A" * 64, "7", "x.."])
def test_a_name_is_taken_as_it_is(name: str) -> None:
    assert label(name=name).name == name


@pytest.mark.parametrize(
    "date",
    [
        Number("1801396800000"), "1801396800000", "2027-01-31T12:00:00Z",
        "2027-01-31t13:00:00.000+01:00",
    ],
)  # fmt: skip
def test_a_retention_date_is_milliseconds_since_1970_or_rfc_3339(date: object) -> None:
    value = label(retentionDate=date)
    assert value.retention_date == LATER
    assert value.facts() == {"retention_date": "2027-01-31T12:00:00.000000Z"}


@given(st.integers(1_800_000_000_000, 250_000_000_000_000))
def test_every_time_to_come_is_taken_in_both_spellings(milliseconds: int) -> None:
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    assert label(retentionDate=str(milliseconds)).retention_date == when
    there = when.astimezone(timezone(timedelta(hours=-3)))
    assert label(retentionDate=there.isoformat()).retention_date == when


def test_all_of_it_goes_into_the_history() -> None:
    facts = label(name="n", description="d\u00e9j\u00e0 vu\n2", retentionDate="2027-01-31T12:00:00Z").facts()
    assert facts == {
        "name": "n", "description": "d\u00e9j\u00e0 vu\n2", "retention_date": "2027-01-31T12:00:00.000000Z",
    }  # fmt: skip


BAD_NAMES = ["a/b", "..", ".hidden", "x" * 65, "b\u00e4r", "a b", "a\n", "a\0", "a:b", "*", ["a"]]
BAD_DATES = [
    "tomorrow", "-1", "1.5", "2027-01-31", "2027-02-30T00:00:00Z", "2027-01-31T12:00:00", "9" * 15, "9" * 16,
    "9999-12-31T23:59:59-01:00", "\u0661\u0662",
]  # fmt: skip
PAST = ["0", "1795300088388", "2026-11-21T22:28:08.388229Z", "1999-01-01T00:00:00Z"]


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        *[("name", value, "must be 1 to 64 letters") for value in BAD_NAMES],
        ("description", "x" * 1001, "must not have more than 1000 characters"),
        *[("retentionDate", value, "must be milliseconds since 1970, or an RFC 3339") for value in BAD_DATES],
        *[("retentionDate", value, "must be in the future") for value in PAST],
    ],
)
def test_what_cannot_be_is_refused_by_name(option: str, value: object, says: str) -> None:
    with pytest.raises(Refused) as caught:
        label(**{option: value})
    assert caught.value.reason is Reason.INVALID
    assert caught.value.message.startswith(f"option 'backup.{option}' {says}")


def described(device: Device) -> dict[str, Any]:
    """Return the history's entry of the only job."""
    device.finish()
    ((_, message),) = device.command("describe", {"correlationId": "one"}, request_id="d")
    return dict(message["value"])


def test_the_archive_has_the_name_and_the_history_all_of_it(device: Device) -> None:
    options = {
        "backup.name": "before-update",
        "backup.description": "d",
        "backup.retentionDate": "99999999999999",
    }
    device.command("backup", {"correlationId": "one", "options": {"storage.provider": "local", **options}})
    entry = described(device)
    assert re.fullmatch(r"before-update-[-.0-9]{23}-[0-9a-f]{8}\.zip", entry["archive"])
    assert entry["place"] == f"local:device/{entry['archive']}"
    assert (entry["name"], entry["description"]) == ("before-update", "d")
    assert entry["retentionDate"] == "5138-11-16T09:46:39.999000Z"
    assert device.journal.jobs.knows_archive(entry["archive"])
    assert not device.journal.jobs.knows_archive(f"{entry['archive']}x")


def test_the_name_is_that_of_the_staged_archive_too(device: Device) -> None:
    device.command("backup", {"correlationId": "one", "options": {"backup.name": "n"}})
    entry = described(device)
    assert entry["place"].endswith(f"/backups/{entry['archive']}")
    assert entry["archive"].startswith("n-")


def test_a_backup_that_failed_keeps_its_label(device: Device) -> None:
    options = {"storage.provider": "generic", "https.url": "http://127.0.0.1:9/x", "backup.name": "n"}
    device.command("backup", {"correlationId": "one", "options": options})
    entry = described(device)
    assert (entry["state"], entry["name"]) == ("FAILED", "n")
    assert "archive" not in entry
