"""WIRE section 1's rule about commands that come again, clause by clause."""

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.base.job import Job, Kind
from agent.faces.ditto.redelivery import Redeliveries, Repeated, Verdict
from agent.journal import Journal
from agent.journal.commands import KEPT_COMMANDS, CommandId
from tests.support.journals import sql

COMMAND = CommandId("edge:device", "r1", "backup", "c1")
ONE_WAY = replace(COMMAND, request_id="")
PAYLOAD, OTHER_PAYLOAD = b'{"value":1}', b'{"value":2}'
REPLY = ("command//edge:device/res/r1/204", b'{"status":204}')
JOB = Job("job-1", Kind.BACKUP, "X", datetime(2026, 1, 1, tzinfo=UTC))
WINDOW_S = 120.0


@pytest.fixture
def seen(journal: Journal) -> Redeliveries:
    return Redeliveries(journal, WINDOW_S)


def judge(
    seen: Redeliveries,
    command: CommandId = COMMAND,
    payload: bytes = PAYLOAD,
    *,
    short: bool = False,
    dup: bool = False,
) -> Verdict | Repeated:
    return seen.judge(command, payload, short=short, dup=dup)


def remember(
    seen: Redeliveries,
    command: CommandId = COMMAND,
    *,
    short: bool = False,
    reply: tuple[str, bytes] | None = REPLY,
    job_id: str | None = None,
) -> None:
    seen.remember(command, PAYLOAD, short, reply, job_id)


def let_pass(journal: Journal, seconds: float) -> None:
    """As if what the journal knows had come so much earlier."""
    sql(journal.path, "UPDATE commands SET boot_s = boot_s - ?", (seconds,))


def reboot(journal: Journal) -> None:
    sql(journal.path, "UPDATE commands SET boot_id = 'the one before', boot_s = boot_s + 1000000")


def test_a_command_that_was_never_seen_is_new(seen: Redeliveries) -> None:
    assert judge(seen) is Verdict.NEW


def test_an_equal_command_within_the_window_gets_the_same_answer(
    journal: Journal, seen: Redeliveries
) -> None:
    """QoS 1 delivers at least once; the answer is repeated byte for byte, and nothing runs."""
    remember(seen)
    let_pass(journal, WINDOW_S - 10)
    assert judge(seen) == Repeated(*REPLY)


def test_a_command_that_got_no_answer_gets_none_again(seen: Redeliveries) -> None:
    remember(seen, reply=None)
    assert judge(seen) == Repeated(None, None)


def test_an_equal_command_after_the_window_is_a_new_one(journal: Journal, seen: Redeliveries) -> None:
    """Somebody who sends the same file by hand again tomorrow wants a backup."""
    remember(seen)
    let_pass(journal, WINDOW_S + 1)
    assert judge(seen) is Verdict.NEW


def test_without_a_window_only_dup_and_a_running_job_count(journal: Journal) -> None:
    seen = Redeliveries(journal, 0)
    remember(seen)
    assert judge(seen) is Verdict.NEW
    assert judge(seen, dup=True) == Repeated(*REPLY)


def test_after_a_reboot_the_window_is_over(journal: Journal, seen: Redeliveries) -> None:
    """The boot clock begins again at zero, so times of another boot say nothing."""
    remember(seen)
    reboot(journal)
    assert judge(seen) is Verdict.NEW


@pytest.mark.parametrize("request_id", ["r1", ""])
def test_the_dup_flag_makes_a_known_command_a_repetition_at_any_time(
    journal: Journal, seen: Redeliveries, request_id: str
) -> None:
    """The broker says so itself, also after a reboot of the device."""
    command = replace(COMMAND, request_id=request_id)
    remember(seen, command)
    reboot(journal)
    assert judge(seen, command, dup=True) == Repeated(*REPLY)


def test_a_dup_that_the_journal_does_not_know_is_a_new_command(seen: Redeliveries) -> None:
    """The first delivery was lost with a crash before it was in the journal."""
    assert judge(seen, dup=True) is Verdict.NEW


def test_while_its_job_runs_a_command_is_a_repetition_at_any_time(
    journal: Journal, seen: Redeliveries
) -> None:
    journal.jobs.started(JOB, Path("/data"), [])
    remember(seen, job_id=JOB.id)
    let_pass(journal, WINDOW_S + 1)
    assert judge(seen) == Repeated(*REPLY)
    journal.jobs.ended(JOB.finished(JOB.started))
    assert judge(seen) is Verdict.NEW


def test_a_job_that_a_crash_ended_still_runs_until_it_is_reported(
    journal: Journal, seen: Redeliveries
) -> None:
    """The redelivered command of an interrupted job must not start it a second time."""
    journal.jobs.started(JOB, Path("/data"), [])
    remember(seen, job_id=JOB.id)
    reboot(journal)
    assert judge(Redeliveries(journal, WINDOW_S)) == Repeated(*REPLY)


@pytest.mark.parametrize("field", ["device", "request_id", "subject", "correlation_id"])
def test_a_command_that_differs_in_any_part_of_its_identity_is_new(seen: Redeliveries, field: str) -> None:
    """Device level, request id, subject and the correlation-id header tell commands apart."""
    remember(seen)
    assert judge(seen, replace(COMMAND, **{field: "other"})) is Verdict.NEW


def test_another_payload_under_the_same_request_id_is_a_conflict(
    journal: Journal, seen: Redeliveries
) -> None:
    """Two commands that the backend cannot tell apart by their answers: 409, but only for the window."""
    remember(seen)
    assert judge(seen, payload=OTHER_PAYLOAD) is Verdict.CONFLICT
    let_pass(journal, WINDOW_S + 1)
    assert judge(seen, payload=OTHER_PAYLOAD) is Verdict.NEW


def test_without_a_request_id_another_payload_is_another_command(seen: Redeliveries) -> None:
    """The API document's literal `<UUID>` as correlation-id makes all its commands look alike."""
    remember(seen, ONE_WAY)
    assert judge(seen, ONE_WAY, OTHER_PAYLOAD) is Verdict.NEW
    assert judge(seen, ONE_WAY) == Repeated(*REPLY)


def test_the_first_of_two_commands_is_still_known_after_the_second(seen: Redeliveries) -> None:
    remember(seen, ONE_WAY)
    seen.remember(ONE_WAY, OTHER_PAYLOAD, False, ("t", b"2"), None)
    assert judge(seen, ONE_WAY) == Repeated(*REPLY)
    assert judge(seen, ONE_WAY, OTHER_PAYLOAD) == Repeated("t", b"2")


def test_a_new_run_of_the_same_command_counts_for_the_next_window(
    journal: Journal, seen: Redeliveries
) -> None:
    """The newest answer is the one that is repeated."""
    remember(seen, ONE_WAY)
    let_pass(journal, WINDOW_S + 1)
    seen.remember(ONE_WAY, PAYLOAD, False, ("t", b"second"), None)
    assert judge(seen, ONE_WAY) == Repeated("t", b"second")


@pytest.mark.parametrize("first_is_short", [True, False])
def test_the_other_form_of_the_same_command_is_swallowed(seen: Redeliveries, first_is_short: bool) -> None:
    """Kanto's connector publishes every command in both forms; one answer is enough."""
    remember(seen, short=first_is_short)
    assert judge(seen, short=not first_is_short) is Verdict.OTHER_FORM
    assert judge(seen, short=first_is_short) == Repeated(*REPLY)


def test_everything_is_known_after_a_restart(journal: Journal, seen: Redeliveries) -> None:
    """The digest's key stays with the journal, and the window goes on."""
    remember(seen)
    journal.close()
    reopened = Journal(journal.path)
    seen = Redeliveries(reopened, WINDOW_S)
    assert judge(seen) == Repeated(*REPLY)
    assert judge(seen, payload=OTHER_PAYLOAD) is Verdict.CONFLICT
    assert judge(seen, short=True) is Verdict.OTHER_FORM
    let_pass(reopened, WINDOW_S + 1)
    assert judge(seen) is Verdict.NEW
    assert judge(seen, dup=True) == Repeated(*REPLY)
    reopened.close()


def test_no_payload_is_kept(journal: Journal, seen: Redeliveries) -> None:
    """It may hold credentials; a keyed digest of it is enough, and cannot be guessed at from outside."""
    secret = b"AWSSECRETACCESSKEY-hunter2"
    seen.remember(COMMAND, secret, False, REPLY, None)
    journal.close()
    for file in journal.path.parent.iterdir():
        assert b"hunter2" not in file.read_bytes()
    assert digest_in(journal.path) != digest_of_same_command_elsewhere(journal.path, secret)


def digest_in(path: Path) -> bytes:
    db = sqlite3.connect(path)
    (digest,) = db.execute("SELECT digest FROM commands").fetchone()
    db.close()
    return bytes(digest)


def digest_of_same_command_elsewhere(path: Path, payload: bytes) -> bytes:
    other = Journal(path.with_name("other.db"))
    Redeliveries(other, WINDOW_S).remember(COMMAND, payload, False, REPLY, None)
    other.close()
    return digest_in(other.path)


def test_old_commands_are_forgotten(journal: Journal, seen: Redeliveries) -> None:
    """The journal does not grow for ever."""
    with journal.unit():
        for number in range(KEPT_COMMANDS + 5):
            remember(seen, replace(COMMAND, request_id=str(number)))
    assert sql(journal.path, "SELECT count(*) FROM commands") == [(KEPT_COMMANDS,)]
    assert judge(seen, replace(COMMAND, request_id="4")) is Verdict.NEW
    assert judge(seen, replace(COMMAND, request_id="5")) == Repeated(*REPLY)


def test_a_flood_of_commands_does_not_make_a_running_one_unknown(
    journal: Journal, seen: Redeliveries
) -> None:
    """A long restore, and a backend that asks a thousand times meanwhile: its redelivery runs nothing."""
    journal.jobs.started(JOB, Path("/data"), [])
    with journal.unit():
        remember(seen, job_id=JOB.id)
        for number in range(KEPT_COMMANDS + 5):
            remember(seen, replace(COMMAND, request_id=str(number)))
    assert judge(seen) == Repeated(*REPLY)
