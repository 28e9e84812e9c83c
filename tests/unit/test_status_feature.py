"""The twin's status feature is told little, and enough."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.faces.ditto.twin_updates import StatusFeature
from agent.journal import Journal
from agent.mailbox import Mailbox
from agent.mqtt.outbox import Outbox
from agent.settings.load import load
from tests.support.fakes import THING, Wire

TWIN = f"{THING}/things/twin"
PATH = "/features/BackupAndRestoreStatus"
IDLE = {"phase": "idle", "last": None}
JOB = {"id": "0" * 16, "correlationId": "c", "kind": "backup", "phase": "archiving", "bytes": 5}


class Rig:
    def __init__(self, work: Path, **settings: str) -> None:
        self.journal, self.mailbox, self.wire = Journal(work / "journal.db"), Mailbox(), Wire()
        self.outbox = Outbox(self.journal.outbox)
        self.job: Mapping[str, Any] = IDLE
        loaded = load({"storage": str(work), **settings}, None, {}).settings
        self.feature = StatusFeature(
            loaded, self.mailbox, self.outbox, thing=lambda: THING, properties=lambda: {"job": self.job}
        )
        self.outbox.up(self.wire.publish, [])

    def let_the_interval_pass(self) -> None:
        while not (action := self.mailbox.next()):
            pass
        action()

    def said(self) -> list[tuple[str, Any]]:
        return [(message["path"], message["value"]) for _, message in self.wire.sent]


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr("agent.faces.ditto.twin_updates.INTERVAL_S", 0.001)
    rig = Rig(tmp_path)
    yield rig
    rig.journal.close()


def test_after_each_connect_the_whole_feature_is_told_once(rig: Rig) -> None:
    """Also when nothing has changed: the twin may have lost it, or hold what was true before a crash."""
    for _ in range(2):
        rig.feature.connected()
        rig.let_the_interval_pass()
        rig.feature.changed()
        rig.let_the_interval_pass()
    assert rig.said() == 2 * [(PATH, {"properties": {"job": IDLE}})]


def test_of_many_changes_in_an_interval_the_last_is_told(rig: Rig) -> None:
    for count in range(10):
        rig.job = {**JOB, "bytes": count}
        rig.feature.changed()
    assert rig.said() == []
    rig.let_the_interval_pass()
    assert rig.said() == [(PATH, {"properties": {"job": {**JOB, "bytes": 9}}})]


def test_what_is_as_before_when_the_interval_ends_costs_no_message(rig: Rig) -> None:
    rig.feature.connected()
    rig.let_the_interval_pass()
    rig.job = JOB
    rig.feature.changed()
    rig.job = IDLE
    rig.let_the_interval_pass()
    assert len(rig.said()) == 1


def test_while_offline_only_the_newest_value_waits(rig: Rig) -> None:
    rig.job = JOB
    rig.feature.changed()
    rig.let_the_interval_pass()
    rig.wire.online = False
    for count in range(3):
        rig.job = {**JOB, "bytes": count}
        rig.feature.changed()
        rig.let_the_interval_pass()
    rig.wire.online = True
    rig.outbox.up(rig.wire.publish, [])
    assert rig.said()[1:] == [(PATH, {"properties": {"job": {**JOB, "bytes": 2}}})]


def test_in_installations_that_merge_nothing_of_others_is_wiped(tmp_path: Path) -> None:
    rig = Rig(tmp_path, announce="merge")
    rig.feature.changed()
    rig.feature.tell()
    assert [message["topic"] for _, message in rig.wire.sent] == [f"{TWIN}/commands/merge"]
    rig.journal.close()


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    rig = Rig(tmp_path, **{"twin.status": "false"})
    rig.feature.connected()
    assert rig.mailbox.timers == []
    assert rig.said() == []
    rig.journal.close()
