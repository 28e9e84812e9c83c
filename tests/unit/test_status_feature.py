"""What the twin's status feature is told, and how little."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.journal import Journal
from agent.mailbox import Mailbox
from agent.messaging.ditto import MAX_MESSAGE_BYTES
from agent.messaging.outbox import Outbox
from agent.settings_load import load
from agent.status_feature import StatusFeature
from tests.support.fakes import THING, Wire

PATH = "/features/BackupAndRestoreStatus"
JOB = {"id": "0" * 16, "correlationId": "c", "kind": "backup", "phase": "archiving", "bytes": 5}


class Rig:
    def __init__(self, work: Path, **settings: str) -> None:
        self.journal, self.mailbox, self.wire = Journal(work / "journal.db"), Mailbox(), Wire()
        self.outbox = Outbox(self.journal)
        self.job: Mapping[str, Any] | None = None
        loaded = load({"storage": str(work), **settings}, None, {}).settings
        self.feature = StatusFeature(
            loaded, self.mailbox, self.outbox, thing=lambda: THING, job=lambda: self.job
        )
        self.outbox.up(self.wire.publish, [])

    def let_the_interval_pass(self) -> None:
        while not (action := self.mailbox._next()):
            pass
        action()

    def said(self) -> list[tuple[str, Any]]:
        return [(message["path"], message["value"]) for _, message in self.wire.sent]


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr("agent.status_feature.INTERVAL_S", 0.001)
    rig = Rig(tmp_path)
    yield rig
    rig.journal.close()


def test_after_a_connect_the_whole_feature_is_told_and_then_its_property(rig: Rig) -> None:
    for _ in range(2):
        rig.feature.connected()
        rig.job = JOB
        rig.feature.changed()
        rig.let_the_interval_pass()
        rig.job = None
        rig.feature.changed()
        rig.let_the_interval_pass()
    assert rig.said() == 2 * [
        (PATH, {"properties": {"job": JOB}}),
        (f"{PATH}/properties/job", {"phase": "idle"}),
    ]


def test_of_many_changes_in_an_interval_the_last_is_told(rig: Rig) -> None:
    for count in range(10):
        rig.job = {**JOB, "bytes": count}
        rig.feature.changed()
    assert rig.said() == []
    rig.let_the_interval_pass()
    assert rig.said() == [(PATH, {"properties": {"job": {**JOB, "bytes": 9}}})]


def test_a_job_that_is_over_within_the_interval_costs_no_message(rig: Rig) -> None:
    rig.job = JOB
    rig.feature.changed()
    rig.job = None
    rig.feature.changed()
    rig.let_the_interval_pass()
    assert rig.said() == []


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
    rig.outbox.flush()
    assert rig.said()[1:] == [(f"{PATH}/properties/job", {**JOB, "bytes": 2})]


def test_a_long_id_does_not_make_the_message_too_long(rig: Rig) -> None:
    rig.job = {**JOB, "correlationId": "\u00e4" * 128 + '"' * 128}
    rig.feature.changed()
    rig.let_the_interval_pass()
    assert max(len(payload) for _, payload in rig.wire.raw) <= MAX_MESSAGE_BYTES


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    rig = Rig(tmp_path, **{"twin.status": "false"})
    rig.job = JOB
    rig.feature.changed()
    assert rig.mailbox._timers == []
    assert rig.said() == []
    rig.journal.close()
