"""Ordered sending: nothing that must arrive is lost, nothing overtakes, whatever the connection does."""

import sqlite3
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.journal import Journal
from agent.mqtt import outbox as outbox_module
from agent.mqtt.outbox import MAX_WAITING_REPLIES, WINDOW, Outbox
from tests.support.journals import sql

PROPERTIES = st.sampled_from(["lastOperation", "lastUpload"])


class Line:
    """A broker's side of the connection: what it was sent, and what it has still to acknowledge."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.unacknowledged: dict[int, bytes] = {}
        self.broken = False

    def publish(self, _topic: str, payload: bytes) -> int | None:
        if self.broken:
            return None
        self.heard.append(payload)
        self.unacknowledged[len(self.heard)] = payload
        return len(self.heard)

    def acknowledge(self, outbox: Outbox) -> bytes:
        """The oldest message, as brokers do; its payload."""
        number = next(iter(self.unacknowledged))
        payload = self.unacknowledged.pop(number)
        outbox.sent(number)
        return payload

    def acknowledge_all(self, outbox: Outbox) -> None:
        while self.unacknowledged:
            self.acknowledge(outbox)


@pytest.fixture
def outbox(journal: Journal) -> Outbox:
    return Outbox(journal.outbox)


@pytest.fixture
def line() -> Line:
    return Line()


class Conversation(RuleBasedStateMachine):
    """Any sequence of saying, sending, losing the connection and restarting, against a simple reference.

    Payloads are numbers that count up, so that order can be read off what was heard.
    """

    def __init__(self) -> None:
        super().__init__()
        self._work = tempfile.TemporaryDirectory()
        self._journal = Journal(Path(self._work.name) / "journal.db")
        self._outbox, self._line, self._up = Outbox(self._journal.outbox), Line(), False
        self._number = 0
        self._property: dict[bytes, str] = {}
        self._kept: list[bytes] = []
        self._said: set[bytes] = set()
        self._latest: dict[str, bytes] = {}
        self._heard: list[bytes] = []
        self._delivered: set[bytes] = set()

    def _next(self, property_name: str = "") -> bytes:
        self._number += 1
        payload = b"%d" % self._number
        self._property[payload] = property_name
        return payload

    @rule()
    def reply(self) -> None:
        payload = self._next()
        self._said.add(payload)
        self._outbox.reply("r", payload)

    @rule()
    def say(self) -> None:
        payload = self._next()
        self._said.add(payload)
        self._outbox.say("e", payload)

    @rule(property_name=PROPERTIES)
    def keep(self, property_name: str) -> None:
        payload = self._next(property_name)
        self._kept.append(payload)
        self._latest[property_name] = payload
        self._outbox.keep("e", payload, property_name)

    @rule(property_name=PROPERTIES)
    def update(self, property_name: str) -> None:
        payload = self._next(property_name)
        self._latest[property_name] = payload
        self._outbox.update("e", payload, property_name)

    @precondition(lambda self: not self._up)
    @rule()
    def connect(self) -> None:
        self._line, self._up = Line(), True
        self._outbox.up(self._line.publish, [])

    @precondition(lambda self: self._up)
    @rule()
    def lose_the_connection(self) -> None:
        self._collect()
        self._line, self._up = Line(), False
        self._outbox.down()

    @precondition(lambda self: self._up)
    @rule()
    def break_the_connection_unnoticed(self) -> None:
        """Publishing says that it did not work before the loss is told."""
        self._line.broken = True

    @precondition(lambda self: self._line.unacknowledged)
    @rule()
    def acknowledge(self) -> None:
        self._delivered.add(self._line.acknowledge(self._outbox))

    @rule()
    def restart(self) -> None:
        """Replies and progress may be lost with the process; what is kept may not."""
        self._collect()
        self._outbox, self._line, self._up = Outbox(self._journal.outbox), Line(), False
        self._said.clear()
        kept = {payload for payload in self._kept if payload not in self._delivered}
        self._latest = {name: value for name, value in self._latest.items() if value in kept}

    @invariant()
    def the_window_is_respected(self) -> None:
        assert len(self._line.unacknowledged) <= WINDOW

    def _collect(self) -> None:
        self._heard += self._line.heard
        self._line.heard = []

    def teardown(self) -> None:
        try:
            self._outbox.down()
            self._collect()
            self._line = Line()
            self._outbox.up(self._line.publish, [])
            while self._line.unacknowledged:
                self._delivered.add(self._line.acknowledge(self._outbox))
            self._collect()
            self._all_that_must_be_there_is_in_order()
        finally:
            self._journal.close()
            self._work.cleanup()

    def _all_that_must_be_there_is_in_order(self) -> None:
        assert self._outbox.empty
        assert self._delivered >= set(self._kept)
        assert set(self._heard) >= self._said
        first_heard = list(dict.fromkeys(self._heard))
        lasting = [payload for payload in first_heard if not self._property[payload] or payload in self._kept]
        assert lasting == sorted(lasting, key=int), "a message overtook another"
        for name, latest in self._latest.items():
            values = [payload for payload in first_heard if self._property[payload] == name]
            assert values == sorted(values, key=int), f"an older value of {name} followed a newer one"
            assert [payload for payload in self._heard if self._property[payload] == name][-1] == latest


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_nothing_is_said_before_the_unit_of_work_is_on_the_disk(
    journal: Journal, outbox: Outbox, line: Line
) -> None:
    """The agent must not say anything that the journal could not keep."""
    outbox.up(line.publish, [])
    with journal.unit():
        outbox.reply("r", b"1")
        outbox.keep("e", b"2")
        assert line.heard == []
    assert line.heard == [b"1", b"2"]


def test_what_was_put_in_by_a_unit_that_failed_is_never_said(
    journal: Journal, outbox: Outbox, line: Line
) -> None:
    outbox.up(line.publish, [])
    outbox.say("e", b"1")
    with suppress(RuntimeError), journal.unit():
        outbox.reply("r", b"2")
        outbox.keep("e", b"3", "lastUpload")
        outbox.update("e", b"4", "lastUpload")
        raise RuntimeError
    outbox.say("e", b"5")
    assert line.heard == [b"1", b"5"]
    assert journal.outbox.kept() == []


def test_at_most_a_window_of_messages_is_unacknowledged(outbox: Outbox, line: Line) -> None:
    """Brokers drop what exceeds their own queue."""
    for number in range(WINDOW + 5):
        outbox.say("e", b"%d" % number)
    outbox.up(line.publish, [])
    assert len(line.heard) == WINDOW
    line.acknowledge(outbox)
    assert len(line.heard) == WINDOW + 1


def test_what_was_not_acknowledged_is_sent_again_identical_and_first(outbox: Outbox, line: Line) -> None:
    """At least once: the loss may have swallowed the message or only its acknowledgement."""
    outbox.up(line.publish, [])
    for payload in (b"1", b"2", b"3"):
        outbox.keep("e", payload)
    line.acknowledge(outbox)
    outbox.down()
    outbox.keep("e", b"4")
    again = Line()
    outbox.up(again.publish, [])
    assert again.heard == [b"2", b"3", b"4"]


def test_the_announcement_goes_before_all_that_waits(outbox: Outbox, line: Line) -> None:
    """A modify of the feature would wipe what was sent before it."""
    outbox.keep("e", b"waits")
    outbox.up(line.publish, [("e", b"feature"), ("e", b"property")])
    assert line.heard == [b"feature", b"property", b"waits"]


def test_an_announcement_is_not_sent_again_on_the_next_connection(outbox: Outbox) -> None:
    """There is a new one on every connect; an old one after it would wipe newer values, and a broker
    that hangs up on every announcement would make the queue grow for ever."""
    for number in (b"1", b"2", b"3"):
        line = Line()
        outbox.up(line.publish, [("e", b"announcement " + number)])
        outbox.down()
    assert line.heard == [b"announcement 3"]
    assert outbox.empty


def test_what_is_kept_survives_a_restart_in_its_order(journal: Journal, line: Line) -> None:
    before = Outbox(journal.outbox)
    for number in range(3):
        before.keep("e", b"%d" % number)
    after = Outbox(journal.outbox)
    after.up(line.publish, [])
    assert line.heard == [b"0", b"1", b"2"]
    line.acknowledge_all(after)
    assert Outbox(journal.outbox).empty


def test_replies_and_progress_do_not_survive_a_restart(journal: Journal) -> None:
    """Flash wears, and nobody waits for an answer any more."""
    before = Outbox(journal.outbox)
    before.reply("r", b"1")
    before.say("e", b"2")
    before.update("e", b"3", "lastUpload")
    assert Outbox(journal.outbox).empty


def test_while_offline_a_newer_value_takes_the_place_of_a_waiting_one(outbox: Outbox, line: Line) -> None:
    for percent in (b"10", b"20", b"30"):
        outbox.update("e", percent, "lastUpload")
    outbox.up(line.publish, [])
    assert line.heard == [b"30"]


def test_progress_put_in_twice_in_one_unit_does_not_fall(
    journal: Journal, outbox: Outbox, line: Line
) -> None:
    """The newest value is the one that the twin is left with."""
    with journal.unit():
        outbox.update("e", b"10", "lastUpload")
        outbox.update("e", b"20", "lastUpload")
    outbox.update("e", b"30", "lastUpload")
    outbox.up(line.publish, [])
    assert line.heard[-1] == b"30"


def test_progress_does_not_overtake_a_state_that_came_before_it(outbox: Outbox, line: Line) -> None:
    """Two uploads while offline: the second's progress must not take the place of the first's."""
    outbox.keep("e", b"first UPLOADING", "lastUpload")
    outbox.update("e", b"first 50", "lastUpload")
    outbox.keep("e", b"first SUCCESS", "lastUpload")
    outbox.keep("e", b"second UPLOADING", "lastUpload")
    outbox.update("e", b"second 10", "lastUpload")
    outbox.up(line.publish, [])
    assert line.heard[-2:] == [b"second UPLOADING", b"second 10"]


def test_states_are_never_coalesced(outbox: Outbox, line: Line) -> None:
    """WIRE section 2: exactly two values of `lastOperation` per operation, also after a long time offline."""
    states = [b"1 STARTED", b"1 FINISHED", b"2 STARTED", b"2 FINISHED"]
    for state in states:
        outbox.keep("e", state, "lastOperation")
    outbox.up(line.publish, [])
    assert line.heard == states


def test_a_reply_that_could_not_be_sent_in_time_is_dropped(
    outbox: Outbox, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WIRE section 1: after 60 s nobody waits for it; what surrounds it goes out."""
    outbox.say("e", b"1")
    monkeypatch.setattr(outbox_module, "REPLY_LIFETIME_S", 0)
    outbox.reply("r", b"2")
    outbox.say("e", b"3")
    outbox.up(line.publish, [])
    assert line.heard == [b"1", b"3"]


def test_of_too_many_waiting_replies_the_oldest_are_dropped(outbox: Outbox, line: Line) -> None:
    """Somebody who floods an agent that is offline must not fill its memory."""
    outbox.keep("e", b"state")
    for number in range(MAX_WAITING_REPLIES + 3):
        outbox.reply("r", b"%d" % number)
    outbox.up(line.publish, [])
    line.acknowledge_all(outbox)
    assert line.heard == [b"state", *(b"%d" % number for number in range(3, MAX_WAITING_REPLIES + 3))]


@pytest.mark.slow
def test_of_too_many_waiting_messages_the_oldest_are_given_up_also_in_the_journal(
    journal: Journal, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weeks without a broker must not fill memory and disk. The twin ends with the newest values."""
    monkeypatch.setattr(outbox_module, "MAX_WAITING", 100)
    outbox = Outbox(journal.outbox)
    outbox.keep("e", b"upload", "lastUpload")
    for number in range(3000):
        outbox.keep("e", b"%d" % number, "lastOperation")
    wanted = [b"upload", *(b"%d" % number for number in range(2901, 3000))]
    assert [payload for _, _, payload, _ in journal.outbox.kept()] == wanted
    again = Outbox(journal.outbox)
    again.up(line.publish, [("e", b"feature")])
    line.acknowledge_all(again)
    assert line.heard == [b"feature", *wanted]
    assert again.empty


def test_an_acknowledgement_of_an_earlier_connection_is_ignored(outbox: Outbox, line: Line) -> None:
    outbox.sent(77)
    outbox.up(line.publish, [])
    outbox.sent(77)
    assert outbox.empty


def test_the_rest_goes_out_although_the_journal_cannot_forget(
    journal: Journal, outbox: Outbox, line: Line
) -> None:
    """A full disk must not silence an agent whose connection is good."""
    for number in range(WINDOW + 1):
        outbox.keep("e", b"%d" % number)
    outbox.up(line.publish, [])
    sql(journal.path, "CREATE TRIGGER full BEFORE DELETE ON outbox BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(sqlite3.Error):
        line.acknowledge(outbox)
    assert len(line.heard) == WINDOW + 1
