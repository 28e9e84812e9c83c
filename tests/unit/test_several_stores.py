"""A schedule with several stores: one archive is made and sent to each, with an outcome for each."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.base.job import Kind
from agent.jobs.attempts import BACK_OFF
from agent.jobs.schedule_record import ScheduleRecord, Standing
from agent.jobs.verify import verdicts
from tests.support.fakes import Device
from tests.support.settings_files import private_file
from tests.support.stalling import Stalling, stalling

STORES = ("first", "second")


class Site:
    """A device whose periodic backups go to several local stores, and what is at each."""

    def __init__(
        self, work: Path, stores: str = "first,second", *, absent: str = "", **settings: str
    ) -> None:
        self.work, self.made = work, work / "made"
        command = work / "count"
        command.write_text(f"#!/bin/sh\necho made >> {self.made}\n")
        command.chmod(0o755)
        given = {"schedules.kanto.store": stores, "beforeBackupCmd": str(command)}
        for name in STORES:
            if name != absent:
                (work / name).mkdir()
            given |= {
                f"targets.{name}.path": str(work / name),
                f"stores.{name}.provider": "local",
                f"stores.{name}.options": json.dumps({"local.target": name}),
            }
        (work / "data").mkdir()
        (work / "data" / "file").write_text("content")
        self.device = Device(work, {"active": "true", "period": "24h", **given, **settings})

    def archives(self, store: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.work / store).glob("*.zip")}

    def ends(self) -> list[tuple[str, str]]:
        """Store and status code of each backup that has ended."""
        ended = self.device.journal.jobs.ended_of(Kind.BACKUP)
        return [(record.facts["store"], record.status_code) for record in ended]

    def record(self, store: str) -> ScheduleRecord:
        return ScheduleRecord(self.device.journal, "", store)

    def wait_is_over(self, store: str) -> None:
        """The record as it is when the wait for the next try is over."""
        now = self.record(store).read()
        assert now.attempt
        assert now.attempt.failed
        over = replace(now.attempt, failed=now.attempt.failed - BACK_OFF[-1])
        self.record(store).keep(replace(now, attempt=over))

    def times_made(self) -> int:
        return len(self.made.read_text().splitlines()) if self.made.exists() else 0

    @property
    def kept(self) -> Path:
        """The archive on the device, for the stores that have not got it."""
        return self.work / "storage" / "shared" / "kanto"

    def take_until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.device.take()


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def build(*stores: str, **settings: str) -> Site:
        made.append(site := Site(tmp_path, *stores, **settings))
        return site

    yield build
    for site in made:
        site.device.close()


def in_web(work: Path, place: Stalling) -> dict[str, str]:
    """A store behind HTTP that lets a transfer begin, and then waits."""
    credentials = work / "web.json"
    private_file(credentials, json.dumps({"https.url": place.url}))
    return {"stores.web.provider": "generic", "stores.web.credentials": str(credentials)}


def test_one_archive_is_made_and_each_store_has_it_with_an_outcome_of_its_own(
    sites: Callable[..., Site],
) -> None:
    site = sites()
    site.take_until(lambda: len(site.ends()) == 2)
    assert dict(site.ends()) == {"first": "", "second": ""}
    assert site.archives("first") == site.archives("second")
    assert len(site.archives("first")) == site.times_made() == 1
    messages = [value["message"] for value in site.device.values() if value["state"] == "BACKUP_FINISHED"]
    assert sorted(messages) == ["stored at 'first'", "stored at 'second'"]
    entries = [dict(record.facts) for record in site.device.journal.jobs.ended_of(Kind.BACKUP)]
    facts = ("schedule", "archive", "files", "content_bytes", "sha256")
    assert [entries[0][fact] for fact in facts] == [entries[1][fact] for fact in facts]
    site.take_until(lambda: not site.kept.exists())
    assert [site.record(store).read() for store in STORES] == [Standing()] * 2


def test_a_store_that_is_absent_fails_alone_and_is_tried_alone_with_the_same_archive(
    sites: Callable[..., Site], tmp_path: Path
) -> None:
    site = sites(absent="first")
    site.take_until(lambda: ("second", "") in site.ends())
    state = site.device.service.engine.schedules.periodic.ticks.state().value()
    assert state["stores"]["first"]["late"]
    assert not state["stores"]["second"]["late"]
    assert state["stores"]["second"]["last"]["state"] == "FINISHED"
    site.wait_is_over("first")
    (tmp_path / "first").mkdir()
    made_before = site.times_made()
    site.device.restart()
    site.take_until(lambda: ("first", "") in site.ends())
    assert site.times_made() == made_before, "the archive was there"
    assert set(site.archives("first")) <= set(site.archives("second"))
    assert [store for store, code in site.ends() if not code].count("second") == 1


def test_the_message_of_a_job_that_failed_names_its_store(sites: Callable[..., Site], tmp_path: Path) -> None:
    with stalling() as place:
        place.answer = b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        place.release.set()
        site = sites("web,second", **in_web(tmp_path, place))
        site.take_until(lambda: len(site.ends()) == 2)
    assert dict(site.ends())["second"] == ""
    (message,) = [value["message"] for value in site.device.values() if value["state"] == "BACKUP_FAILED"]
    assert message.startswith("store 'web': ")
    state = site.device.service.engine.schedules.periodic.ticks.state().value()
    assert state["stores"]["web"]["last"]["statusCode"] == state["stores"]["web"]["lastError"] != ""
    assert site.kept.exists(), "web is tried again with it"


def test_a_crash_while_the_first_store_gets_the_archive_neither_makes_it_again_nor_sends_it_twice(
    sites: Callable[..., Site], tmp_path: Path
) -> None:
    with stalling() as place:
        site = sites("web,second", **in_web(tmp_path, place))
        assert place.reached.wait(20)
        site.device.restart()
        site.take_until(lambda: ("second", "") in site.ends())
        assert ("web", "interrupted") in site.ends()
        (name,) = site.archives("second")
        site.wait_is_over("web")
        place.release.set()
        site.device.restart()
        site.take_until(lambda: ("web", "") in site.ends())
    assert site.times_made() == 1
    (sent,) = [
        record.facts["archive"]
        for record in site.device.journal.jobs.ended_of(Kind.BACKUP)
        if (record.facts["store"], record.status_code) == ("web", "")
    ]
    assert sent == name
    site.take_until(lambda: not site.kept.exists())


def test_a_crash_between_two_stores_leaves_the_second_one_its_archive(sites: Callable[..., Site]) -> None:
    site = sites()
    site.take_until(lambda: len(site.ends()) == 1)
    ((done, _),) = site.ends()
    left = next(store for store in STORES if store != done)
    site.device.restart()
    site.take_until(lambda: (left, "") in site.ends())
    assert site.times_made() == 1
    assert site.archives("first") == site.archives("second")


def test_an_archive_that_was_cut_off_or_is_of_an_earlier_tick_is_made_again(
    sites: Callable[..., Site],
) -> None:
    site = sites()
    site.take_until(lambda: len(site.ends()) == 1)
    ((done, _),) = site.ends()
    left = next(store for store in STORES if store != done)
    (archive,) = site.kept.glob("*.zip")
    archive.write_bytes(b"cut off")
    site.wait_is_over(left)
    site.device.restart()
    site.take_until(lambda: (left, "") in site.ends())
    assert site.times_made() == 2
    assert b"cut off" not in site.archives(left).values()


def test_a_cancel_by_a_person_ends_the_backup_for_all_stores(
    sites: Callable[..., Site], tmp_path: Path
) -> None:
    with stalling() as place:
        site = sites("web,second", **in_web(tmp_path, place))
        assert place.reached.wait(20)
        running = site.record("web").read().attempt
        assert running
        site.device.command("cancel", {"correlationID": running.correlation_id, "statusCode": "enough"})
        site.take_until(lambda: bool(site.ends()) and not site.kept.exists())
    assert ("web", "enough") in site.ends()
    assert site.record("web").read().attempt is None
    assert site.record("second").read().attempt is None


def test_retention_removes_from_one_store_what_the_other_one_keeps(sites: Callable[..., Site]) -> None:
    """The archive of the other store stays in the lists of what can be restored."""
    site = sites(**{"retention.keepLast": "1"})
    site.take_until(lambda: len(site.ends()) == 2)
    (name,) = site.archives("first")
    site.device.journal.jobs.archive_removed(name, ["second"])
    gone = {
        record.facts["store"]: "removed" in record.facts
        for record in site.device.journal.jobs.ended_of(Kind.BACKUP)
    }
    assert gone == {"first": True, "second": False}


def test_a_repository_among_the_stores_saves_by_itself(sites: Callable[..., Site], tmp_path: Path) -> None:
    """It sends only what has changed; an archive of everything is of no use to it."""
    password = tmp_path / "password.json"
    private_file(password, '{"password": "correct horse"}')
    repository = {
        "stores.repo.provider": "local",
        "stores.repo.options": json.dumps({"local.target": "second"}),
        "stores.repo.format": "repository",
        "stores.repo.prefix": "repo",
        "stores.repo.credentials": str(password),
    }
    site = sites("first,second,repo", **repository)
    site.take_until(lambda: len(site.ends()) == 3)
    assert dict(site.ends()) == {"first": "", "second": "", "repo": ""}
    assert site.times_made() == 2
    assert site.archives("first") == site.archives("second")
    assert len(list((tmp_path / "second" / "repo" / "snapshots").iterdir())) == 1


def test_a_damaged_copy_says_nothing_of_the_copy_at_another_store(sites: Callable[..., Site]) -> None:
    """Retention would remove the good copy, because the other one is damaged."""
    site = sites()
    site.take_until(lambda: len(site.ends()) == 2)
    (name,) = site.archives("first")
    path = site.work / "first" / name
    path.write_bytes(path.read_bytes()[:-50])
    value = {"options": {"restore.store": "first", "restore.archive": name}}
    assert site.device.command("verify", value)[0][1]["status"] == 204
    site.device.finish()
    found = verdicts(site.device.journal)
    assert found.of(name, f"local:first/{name}") is False
    assert found.of(name, f"local:second/{name}") is None
