"""Retention in the agent: the device's places, what the journal knows, and when it runs."""

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.base.refusals import Reason, Refused
from agent.base.sources import ArchiveSource, Extent, KnownArchive
from agent.base.times import format_time, parse_time
from agent.jobs.recurring import Recurring
from agent.jobs.requests.control import PruneRequest
from agent.mqtt.hono import Identity
from providers.api import Stored
from providers.errors import AccessDenied
from providers.local import Local
from tests.support.fakes import Device
from tests.support.journals import sql
from tests.support.old_archives import DAY, old_archives, there
from tests.support.settings_files import private_file
from tests.support.stalling import Stalling, stalling


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    return {
        "targets.device.path": str(tmp_path / "archives"),
        "targets.stick.path": str(tmp_path / "stick"),
        "retention.keepLast": "2",
    }


@pytest.fixture
def device(tmp_path: Path, settings: dict[str, str]) -> Iterator[Device]:
    device = Device(tmp_path, settings)
    (device.data / "file").write_text("content")
    yield device
    device.close()


def prune(device: Device, **value: Any) -> dict[str, dict[str, Any]]:
    """Return the local command's answer for each place."""
    asked = device.locally("prune", value or None)
    device.finish()
    assert asked.done(20)
    answer = asked.result()
    return {each["place"]: each for each in answer["places"]}


def test_every_place_keeps_its_own_newest_archives(device: Device, tmp_path: Path) -> None:
    names = old_archives(tmp_path / "archives", range(4))
    (tmp_path / "archives" / "golden.zip").write_bytes(b"somebody named it")
    on_stick = old_archives(tmp_path / "stick", range(2, 5))
    done = prune(device)
    assert there(tmp_path / "archives") == {"golden.zip", *names[:2]}
    assert there(tmp_path / "stick") == set(on_stick[:2])
    assert done["target device"] == {
        "place": "target device", "removed": names[:1:-1], "kept": 2, "problem": "", "retryable": False,
        "failed": False, "freed": done["target device"]["freed"], "note": "",
    }  # fmt: skip
    assert done["target stick"]["removed"] == on_stick[2:]


def test_an_archive_of_a_former_id_is_this_device_s_when_the_journal_saw_it_being_made(
    device: Device, tmp_path: Path
) -> None:
    """A device that is named anew keeps its old archives in order, and lets those of a namesake alone."""
    there_first = old_archives(tmp_path / "archives", range(4))
    options = {"storage.provider": "local", "local.target": "device"}
    for number in range(3):
        device.command("backup", {"options": options}, request_id=f"r{number}")
        device.finish()
    made = sorted(there(tmp_path / "archives") - set(there_first))
    device.service.session.adopt(Identity("edge:renamed"))
    device.finish()
    assert prune(device)["target device"]["removed"] == made[:1]
    assert there(tmp_path / "archives") == {*there_first, *made[1:]}


def test_the_history_says_which_archives_are_gone(device: Device, tmp_path: Path) -> None:
    """So a list of what can be restored does not name them."""
    (tmp_path / "archives").mkdir()
    options = {"storage.provider": "local", "local.target": "device"}
    for number in range(4):
        device.command("backup", {"options": options}, request_id=f"r{number}")
        device.finish()
    prune(device)
    made = device.service.engine.made.all().ended
    assert [each.facts.get("removed", False) for each in made] == [False, False, True, True]
    assert {each.facts["archive"] for each in made[:2]} == there(tmp_path / "archives")


def test_a_dry_run_removes_nothing(device: Device, tmp_path: Path) -> None:
    names = old_archives(tmp_path / "archives", range(4))
    (tmp_path / "stick").mkdir()
    assert prune(device, dryRun=True)["target device"]["removed"] == names[:1:-1]
    assert there(tmp_path / "archives") == set(names)
    assert prune(device)["target device"]["removed"] == names[:1:-1]


def test_a_place_that_is_not_there_is_passed_over(device: Device, tmp_path: Path) -> None:
    names = old_archives(tmp_path / "archives", range(3))
    done = prune(device)
    assert done["target stick"]["problem"] == "target 'stick' is not there: plug it in or create it"
    assert (done["target stick"]["failed"], done["target device"]["failed"]) == (False, False)
    assert there(tmp_path / "archives") == set(names[:2])


def test_a_place_that_cannot_be_listed_has_failed(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the local command ends with status 1: whoever runs it by a timer reads no text."""

    def denied(_storage: Local, _prefix: str) -> Iterator[Stored]:
        raise AccessDenied("this user cannot read there")

    (tmp_path / "archives").mkdir()
    monkeypatch.setattr(Local, "list", denied)
    done = prune(device)["target device"]
    assert (done["failed"], done["problem"]) == (True, "this user cannot read there")


def test_an_archive_from_the_future_is_left_alone_and_told(device: Device, tmp_path: Path) -> None:
    """It would be the newest for ever; without it the others would never go."""
    names = old_archives(tmp_path / "archives", [-4000, 0, 1, 2])
    (tmp_path / "stick").mkdir()
    done = prune(device)["target device"]
    assert there(tmp_path / "archives") == set(names[:3])
    assert (done["removed"], done["problem"]) == (names[3:], "")
    assert done["note"] == (
        f"1 left alone, as nobody knows what they are of or when they were made, such as '{names[0]}'"
    )


def test_every_source_keeps_its_own_newest_archives(device: Device, tmp_path: Path) -> None:
    """Without names, backups of two directories are two series. What is learned of them is kept."""
    archives = tmp_path / "archives"
    app = old_archives(archives, range(3), source="/srv/app")
    data = old_archives(archives, range(3), source="/srv/data")
    (tmp_path / "stick").mkdir()
    assert set(prune(device)["target device"]["removed"]) == {app[2], data[2]}
    known = device.journal.archives.known()
    assert known[data[0]] == KnownArchive(ArchiveSource("/srv/data"), Extent(0, 0))


def test_what_an_archive_is_of_that_says_nothing_is_left_alone(device: Device, tmp_path: Path) -> None:
    """It may be encrypted, or damaged: nobody knows whose place it would take."""
    names = old_archives(tmp_path / "archives", range(4))
    (tmp_path / "archives" / names[0]).write_bytes(b"no archive")
    (tmp_path / "stick").mkdir()
    done = prune(device)["target device"]
    assert there(tmp_path / "archives") == set(names[:3])
    assert names[0] in done["note"]


def test_an_emptied_directory_does_not_push_out_the_last_full_archive(device: Device, tmp_path: Path) -> None:
    """The disk was not mounted for two nights, and `keepLast` is 2."""
    (tmp_path / "archives").mkdir()
    full = backup(device)
    (device.data / "file").unlink()
    empty = [backup(device), backup(device), backup(device)]
    (tmp_path / "stick").mkdir()
    message = device.values()[-1]["message"]
    assert message.startswith("only 0 files, and 1 the last time: is everything mounted?")
    assert prune(device)["target device"]["removed"] == empty[:1]
    assert there(tmp_path / "archives") == {full, *empty[1:]}


def backup(device: Device, **options: str) -> str:
    """Make an archive in the target `device`; its name."""
    before = set(device.values()[-1:] and there(Path(device.settings.targets["device"].path)))
    value = {"correlationID": secrets.token_hex(4), "options": {"storage.provider": "local", **options}}
    device.command("backup", value, request_id="")
    device.finish()
    assert device.values()[-1]["state"] == "BACKUP_FINISHED", device.values()[-1]
    (made,) = there(Path(device.settings.targets["device"].path)) - before
    return made


def test_a_retention_date_protects_even_when_its_backup_has_left_the_history(
    device: Device, tmp_path: Path
) -> None:
    """A year is longer than the history."""
    (tmp_path / "archives").mkdir()
    tomorrow = format_time(datetime.now(UTC) + DAY)
    made = backup(device, **{"backup.retentionDate": tomorrow})
    (tmp_path / "stick").mkdir()
    prune(device)
    sql(device.journal.path, "DELETE FROM jobs")
    newer = [backup(device, **{"options.n": str(number)}) for number in range(3)]
    prune(device)
    assert there(tmp_path / "archives") == {made, *newer[1:]}
    dates = json.loads(device.journal.notes.read("retention.dates") or "")
    device.journal.notes.keep(
        "retention.dates", json.dumps(dict.fromkeys(dates, tomorrow.replace("20", "19", 1)))
    )
    assert prune(device)["target device"]["removed"] == [made]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"dryRun": "yes"}, "'dryRun' must be true or false"),
        ({"dryRun": None}, "'dryRun' must be true or false"),
        (["dryRun"], "invalid 'prune' parameters: the value must be an object"),
    ],
)
def test_a_request_that_cannot_be_understood_removes_nothing(device: Device, value: Any, says: str) -> None:
    asked = device.locally("prune", value)
    assert asked.done(20)
    with pytest.raises(Refused) as refused:
        asked.result()
    assert (refused.value.reason, refused.value.message) == (Reason.INVALID, says)


def cloud(work: Path, url: str) -> dict[str, str]:
    """Settings of a store there."""
    secrets = work / "keys.json"
    private_file(secrets, json.dumps({"aws.access.key.id": "x", "aws.secret.access.key": "y"}))
    return {
        "stores.cloud.provider": "aws",
        "stores.cloud.options": json.dumps({"aws.s3.bucket": "backups", "aws.endpoint.url": url}),
        "stores.cloud.credentials": str(secrets),
    }


@pytest.fixture
def never_answers(settings: dict[str, str], tmp_path: Path) -> Iterator[Stalling]:
    """A store behind a server that takes requests and does not answer."""
    with stalling() as destination:
        settings |= cloud(tmp_path, f"http://127.0.0.1:{destination.port}")
        yield destination


def test_it_ends_at_once_when_the_agent_stops(never_answers: Stalling, device: Device) -> None:
    answers: list[Mapping[str, Any]] = []
    prunes = device.service.engine.prunes
    prunes.prune(PruneRequest(), 0, answers.append)
    assert never_answers.reached.wait(20)
    began_s = time.monotonic()
    prunes.stop("the agent was stopped")
    device.finish()
    assert time.monotonic() - began_s < 15
    assert answers
    assert answers[0]
    assert answers[0]["places"] == [
        {
            "place": "all destinations",
            "removed": [],
            "kept": 0,
            "problem": "the agent was stopped",
            "retryable": True,
            "failed": True,
            "freed": 0,
            "note": "",
        }
    ]


def test_a_caller_need_not_wait_for_ever(
    never_answers: Stalling, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local socket gives up after a minute; the work goes on, and is answered once."""
    monkeypatch.setattr("agent.jobs.prune.ANSWER_WITHIN_S", 0.0)
    answers: list[Mapping[str, Any]] = []
    prunes = device.service.engine.prunes
    prunes.prune(PruneRequest(), 0, answers.append)
    while not answers:
        device.take()
    assert not prunes.idle
    with pytest.raises(Refused, match="right now"):
        prunes.prune(PruneRequest(), 0, answers.append)
    prunes.stop("enough")
    device.finish()
    assert answers == [{"dryRun": False, "running": True, "places": []}]


def test_of_two_wishes_for_one_archive_the_longer_counts(device: Device, tmp_path: Path) -> None:
    """With `skipUnchanged` a second backup has the archive of the first."""
    (tmp_path / "archives").mkdir()
    near, far = (format_time(datetime.now(UTC) + days * DAY) for days in (1, 9))
    for number, date in enumerate((far, near)):
        options = {"storage.provider": "local", "backup.retentionDate": date, "options.n": str(number)}
        device.command("backup", {"options": options}, request_id="")
        device.finish()
    ((name,),) = sql(device.journal.path, "SELECT json_extract(facts, '$.archive') FROM jobs LIMIT 1")
    sql(device.journal.path, "UPDATE jobs SET facts = json_set(facts, '$.archive', ?)", (name,))
    assert list(device.service.engine.prunes.dates()) == [name]
    assert format_time(device.service.engine.prunes.dates()[name]) == far


# -- when it runs


class Times:
    """A `Recurring` whose last time was so long ago, and how often it acted."""

    def __init__(self, device: Device, ago: timedelta | None, *, possible: bool = True) -> None:
        if ago is not None:
            device.journal.notes.keep("recurring.x", format_time(datetime.now(UTC) - ago))
        self.acted = 0
        self.possible = possible
        self.recurring = Recurring("x", DAY, device.journal, device.mailbox, self._act)
        self.recurring.begin()

    def _act(self) -> bool:
        self.acted += 1
        return self.possible


@pytest.mark.parametrize(
    ("ago", "acted"), [(None, 0), (DAY / 2, 0), (DAY, 1), (40 * DAY, 1), (-DAY, 1)],
    ids=["first start", "this day", "a day ago", "off for long", "the clock was put back"],
)  # fmt: skip
def test_it_is_due_a_period_after_the_last_time_by_the_journal(
    device: Device, ago: timedelta | None, acted: int
) -> None:
    assert Times(device, ago).acted == acted
    assert Times(device, None).acted == 0, "once is enough"


def test_what_was_not_possible_is_due_again(device: Device) -> None:
    assert Times(device, 2 * DAY, possible=False).acted == 1
    assert Times(device, None).acted == 1


def test_what_came_to_nothing_is_due_again_a_few_times(device: Device) -> None:
    """The network may come later than the agent; and a place that is gone for good costs no traffic."""
    times = Times(device, 2 * DAY)
    for acted in (2, 3, 4):
        times.recurring.put_off()
        times.recurring.look()
        assert times.acted == acted
    times.recurring.put_off()
    times.recurring.look()
    assert times.acted == 4
    for acted in (5, 6):
        device.journal.notes.keep("recurring.x", format_time(datetime.now(UTC) - DAY))  # the next day
        times.recurring.look()
        assert times.acted == acted


@pytest.fixture
def unreachable(settings: dict[str, str], tmp_path: Path) -> None:
    settings |= cloud(tmp_path, "http://127.0.0.1:1")


@pytest.mark.usefixtures("unreachable")
def test_a_store_that_cannot_be_reached_is_tried_again(device: Device, tmp_path: Path) -> None:
    """And the places of the device are done all the same."""
    names = old_archives(tmp_path / "archives", range(4))
    device.journal.notes.keep("recurring.prune", format_time(datetime.now(UTC) - 2 * DAY))
    device.service.identified()
    device.finish()
    assert there(tmp_path / "archives") == set(names[:2])
    last = parse_time(device.journal.notes.read("recurring.prune") or "")
    assert timedelta(0) <= datetime.now(UTC) - DAY - last < timedelta(minutes=1), "due again"


def test_once_a_day_old_archives_go(device: Device, tmp_path: Path) -> None:
    names = old_archives(tmp_path / "archives", range(4))
    device.journal.notes.keep("recurring.prune", format_time(datetime.now(UTC) - 2 * DAY))
    device.service.identified()
    device.finish()
    assert there(tmp_path / "archives") == set(names[:2])


@pytest.fixture
def no_rules(settings: dict[str, str]) -> None:
    del settings["retention.keepLast"]


@pytest.mark.usefixtures("no_rules")
def test_without_rules_and_dates_nothing_is_even_looked_at(device: Device, tmp_path: Path) -> None:
    names = old_archives(tmp_path / "archives", range(4))
    device.journal.notes.keep("recurring.prune", format_time(datetime.now(UTC) - 2 * DAY))
    device.service.identified()
    assert device.service.engine.prunes.idle
    assert there(tmp_path / "archives") == set(names)


def test_a_clock_that_leaps_removes_nothing_by_date_that_day(device: Device, tmp_path: Path) -> None:
    """Once in 2036 every retention date would have passed; a day later the clock is believed."""
    names = old_archives(tmp_path / "archives", range(3))
    (tmp_path / "stick").mkdir()
    notes, passed = device.journal.notes, {name: format_time(datetime.now(UTC) - DAY) for name in names}
    notes.keep("retention.dates", json.dumps(passed))
    notes.keep("retention.clock", format_time(datetime.now(UTC) - 400 * DAY))
    assert prune(device)["target device"]["removed"] == []
    notes.keep("retention.clock", format_time(datetime.now(UTC) - DAY))
    assert set(prune(device)["target device"]["removed"]) == set(names[1:])
