"""Each message of the device leads to a step of the exchange, without a device."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.send.arguments import parse_arguments
from agent.send.backend import Heard, OutgoingCommand
from agent.send.exchange import Ending, Exchange, MessageKind, Phase, parent_of

FEATURE = "/features/BackupAndRestore"
ANSWER_LOCAL = ("--answer", "storage.provider=local")


def exchange(operation: str, *arguments: str) -> tuple[Exchange, OutgoingCommand]:
    """An exchange whose command is on its way."""
    to = ("--broker", "tcp://gateway", "--device", "edge:device")
    begun = Exchange(parse_arguments([operation, *to, *arguments]))
    (command,) = begun.due()
    return begun, command


def answer(command: OutgoingCommand, status: int = 204, message: str = "") -> Heard:
    value = {"value": {"status": status, "error": "messages:x", "message": message}} if message else {}
    envelope = {
        "headers": {"correlation-id": command.header_id},
        "path": f"{FEATURE}/outbox/messages/{command.operation}",
        "status": status,
    }
    return Heard(f"command//edge:device/res//{command.operation}", envelope | value)


def told(name: str, correlation_id: str, state: str, **more: Any) -> Heard:
    value = {"correlationId": correlation_id, "state": state, "statusCode": "", "message": "", **more}
    return Heard("e", {"path": f"{FEATURE}/properties/{name}", "value": value})


def request(child_id: str) -> Heard:
    value = {"correlationId": child_id, "options": {"file.path": "/a.zip"}}
    return Heard("e", {"path": f"{FEATURE}/outbox/messages/request", "value": value})


@pytest.mark.parametrize("operation", ["cancel", "activate", "deactivate", "trigger", "discard", "confirm"])
def test_operations_without_an_end_of_their_own_end_with_the_answer(operation: str) -> None:
    named = operation in ("cancel", "discard", "confirm")
    arguments = ["--correlation-id", "X"] if named else []
    ex, command = exchange(operation, *arguments)
    assert ex.hear(answer(command)) is MessageKind.ANSWER
    assert ex.outcome == Ending(True, "accepted")


@pytest.mark.parametrize("operation", ["status", "history", "describe", "info"])
def test_a_question_ends_with_its_answer(operation: str) -> None:
    ex, command = exchange(operation, *(["--correlation-id", "X"] if operation == "describe" else []))
    ex.hear(answer(command, 200))
    assert ex.outcome == Ending(True, "answered")


@pytest.mark.parametrize(
    ("operation", "arguments", "told"),
    [("restore", ["-o", "restore.preview=true"], "send status")],
)
def test_what_has_no_last_operation_ends_with_where_to_look(
    operation: str, arguments: list[str], told: str
) -> None:
    ex, command = exchange(operation, *arguments)
    ex.hear(answer(command))
    assert ex.outcome is not None
    assert ex.outcome.good
    assert told in ex.outcome.text


def status(**job: Any) -> Heard:
    """A message of the status feature."""
    return Heard("e", {"path": "/features/BackupAndRestoreStatus", "value": {"properties": {"job": job}}})


def ended_as(correlation_id: str, **last: Any) -> Heard:
    return status(phase="idle", last={"correlationId": correlation_id, **last})


def test_a_verification_is_followed_by_the_status_feature() -> None:
    """It has no `lastOperation`."""
    ex, command = exchange("verify", "--correlation-id", "X")
    ex.hear(answer(command))
    assert ex.hear(ended_as("earlier", state="FINISHED")) is None
    assert ex.awaited is Phase.STATUS
    assert ex.hear(status(phase="checking", correlationId="X", percent=5)) is MessageKind.JOB
    assert (ex.awaited, ex.outcome) == (Phase.JOB, None)
    ex.hear(ended_as("X", state="FAILED", statusCode="archive-damaged", message="why"))
    assert ex.outcome == Ending(False, "failed: FAILED, archive-damaged, why")


def test_a_short_verification_is_told_once() -> None:
    ex, command = exchange("verify", "--correlation-id", "X")
    ex.hear(answer(command))
    ex.hear(ended_as("X", state="FINISHED"))
    assert ex.outcome == Ending(True, "done")


def test_a_verification_that_nobody_tells_of_ends_with_where_to_look() -> None:
    """The feature is switched off, or a newer job came before it was told again."""
    ex, command = exchange("verify", "--correlation-id", "X")
    ex.hear(answer(command))
    assert "send describe" in ex.given_up("edge:device", time_is_up=False).text
    ex.hear(status(phase="checking", correlationId="X"))
    ex.hear(status(phase="archiving", correlationId="newer"))
    assert ex.outcome
    assert (ex.outcome.good, "send describe" in ex.outcome.text) == (True, True)


def test_a_preview_that_is_finalized_ends_as_the_restore_that_it_is() -> None:
    ex, command = exchange("finalize", "--correlation-id", "X")
    ex.hear(answer(command))
    ex.hear(told("lastOperation", "X", "RESTORE_FINISHED"))
    assert ex.outcome == Ending(True, "done")


def test_a_backup_to_a_store_asks_nobody_where() -> None:
    ex, command = exchange("backup", "--correlation-id", "X", "-o", "backup.store=cloud")
    ex.hear(answer(command))
    ex.hear(told("lastOperation", "X", "BACKUP_FINISHED"))
    assert ex.outcome == Ending(True, "done")


@pytest.mark.parametrize("status", [0, 400, 404, 409, 500])
def test_every_other_status_is_a_refusal(status: int) -> None:
    ex, command = exchange("restore")
    ex.hear(answer(command, status, "because"))
    assert ex.outcome == Ending(False, f"refused: {status} because")


def test_a_refusal_without_a_readable_value_is_one_all_the_same() -> None:
    ex, command = exchange("restore")
    heard = answer(command, 500)
    heard.message["value"] = ["not", "an", "object"]
    ex.hear(heard)
    assert ex.outcome == Ending(False, "refused: 500")


def test_a_job_ends_with_its_last_operation_and_others_do_not_matter() -> None:
    ex, command = exchange("restore", "--correlation-id", "X")
    early = told("lastOperation", "X", "RESTORE_FINISHED")
    assert ex.hear(early) is None, "an earlier job with the same id: the answer comes first"
    ex.hear(answer(command))
    assert ex.hear(told("lastOperation", "Y", "RESTORE_FINISHED")) is None
    assert ex.hear(told("lastUpload", "X", "SUCCESS")) is None
    assert ex.hear(told("lastOperation", "X", "RESTORE_STARTED")) is MessageKind.LAST_OPERATION
    assert ex.outcome is None
    ex.hear(told("lastOperation", "X", "RESTORE_FAILED", statusCode="not-found", message="gone"))
    assert ex.outcome == Ending(False, "failed: RESTORE_FAILED, not-found, gone")


def test_an_end_that_comes_with_an_announcement_counts() -> None:
    """After a broker restart the agent says its last values together."""
    ex, command = exchange("backup", "--correlation-id", "X", "-o", "storage.provider=local")
    ex.hear(answer(command))
    last = {"correlationId": "X", "state": "BACKUP_FINISHED"}
    value = {"definition": [], "properties": {"lastOperation": last}}
    assert ex.hear(Heard("e", {"path": FEATURE, "value": value})) is MessageKind.LAST_OPERATION
    assert ex.outcome == Ending(True, "done")


def handed_over(*arguments: str) -> tuple[Exchange, list[OutgoingCommand]]:
    """A backup of which the archive is ready, after the upload request; what was sent upon it."""
    ex, command = exchange("backup", "--correlation-id", "X", *arguments)
    ex.hear(answer(command))
    ex.hear(told("lastOperation", "X", "BACKUP_FINISHED"))
    assert ex.phase is Phase.REQUEST
    assert ex.hear(request("Y#1")) is None
    assert ex.hear(request("X#1")) is MessageKind.REQUEST
    return ex, ex.due()


def test_without_a_destination_the_archive_waits() -> None:
    ex, sent = handed_over()
    assert ex.outcome
    assert ex.outcome.good
    assert "send start --correlation-id 'X#1'" in ex.outcome.text
    assert sent == []


def test_the_request_is_answered_and_the_upload_followed() -> None:
    ex, (start,) = handed_over(*ANSWER_LOCAL)
    assert (start.operation, start.value) == (
        "start",
        {"correlationID": "X#1", "options": {"storage.provider": "local"}},
    )
    ex.hear(answer(start))
    assert ex.hear(told("lastUpload", "X", "UPLOADING", progress=10)) is MessageKind.LAST_UPLOAD
    assert ex.outcome is None
    ex.hear(told("lastUpload", "X", "SUCCESS"))
    assert ex.outcome == Ending(True, "done")


def test_a_request_that_comes_twice_is_no_failure() -> None:
    """It is sent at least once; the second `start` meets the upload that the first one began."""
    ex, (first,) = handed_over(*ANSWER_LOCAL)
    ex.hear(request("X#1"))
    (second,) = ex.due()
    ex.hear(answer(first))
    assert ex.hear(answer(second, 409, "already in progress")) is MessageKind.ANSWER
    assert ex.outcome is None


def test_the_answer_to_a_start_is_awaited_before_the_upload() -> None:
    """A `start` expires when its sender gives up on the answer; so it is waited for like a first answer."""
    ex, (start,) = handed_over(*ANSWER_LOCAL)
    assert [ex.phase, ex.awaited] == [Phase.REQUEST, Phase.ANSWER]
    assert "no answer from 'edge:device'" in ex.given_up("edge:device", time_is_up=False).text
    ex.hear(answer(start))
    assert [ex.phase, ex.awaited] == [Phase.UPLOAD, Phase.UPLOAD]


def test_a_destination_that_is_refused_is_a_failure() -> None:
    ex, (start,) = handed_over(*ANSWER_LOCAL)
    ex.hear(answer(start, 400, "no such target"))
    assert ex.outcome == Ending(False, "refused: upload 'X#1': 400 no such target")


@pytest.mark.parametrize("state", ["FAILED", "CANCELED"])
def test_an_upload_that_does_not_succeed_is_a_failure(state: str) -> None:
    ex, (start,) = handed_over(*ANSWER_LOCAL)
    ex.hear(answer(start))
    ex.hear(told("lastUpload", "X", state, statusCode="code"))
    assert ex.outcome == Ending(False, f"failed: {state}, code")


def test_start_follows_the_parent_and_answers_for_its_own_child_only() -> None:
    ex, command = exchange("start", "--correlation-id", "X#2", "-o", "storage.provider=local")
    ex.hear(answer(command))
    assert ex.hear(request("X#1")) is None
    assert ex.hear(request("X#2")) is MessageKind.REQUEST, "the credentials have expired"
    (again,) = ex.due()
    assert again.value["options"] == {"storage.provider": "local"}
    ex.hear(told("lastUpload", "X", "SUCCESS"))
    assert ex.outcome == Ending(True, "done")


def test_silence_is_explained_by_what_was_waited_for() -> None:
    ex, command = exchange("backup", "--correlation-id", "X")
    assert "no answer from 'edge:device'" in ex.given_up("edge:device", time_is_up=True).text
    ex.hear(answer(command))
    assert "the last message was none" in ex.given_up("edge:device", time_is_up=True).text
    ex.hear(told("lastOperation", "X", "BACKUP_FINISHED"))
    assert "the device sent no upload request" in ex.given_up("edge:device", time_is_up=False).text
    assert not ex.given_up("edge:device", time_is_up=False).good


def test_a_trigger_that_is_asked_nothing_found_nothing() -> None:
    """Which is good, unless there was no time to find out."""
    ex, command = exchange("trigger", *ANSWER_LOCAL)
    ex.hear(answer(command))
    assert ex.phase is Phase.REQUEST
    assert ex.given_up("edge:device", time_is_up=False) == Ending(True, "no archive waits on the device")
    assert not ex.given_up("edge:device", time_is_up=True).good


@pytest.mark.parametrize(("child", "parent"), [("X#1", "X"), ("a#n#2", "a#n"), ("X", "X"), ("#1", "#1")])
def test_the_parent_of_a_child_id(child: str, parent: str) -> None:
    assert parent_of(child) == parent


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["correlationId", "state", "properties", "lastOperation", "correlation-id"])
            | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
paths = st.sampled_from(
    [
        FEATURE,
        f"{FEATURE}/properties/lastOperation",
        f"{FEATURE}/properties/lastUpload",
        f"{FEATURE}/outbox/messages/request",
        f"{FEATURE}/outbox/messages/backup",
    ]
)


@given(
    topic=st.sampled_from(["e", "command//edge:device/res//backup"]),
    path=paths,
    headers=json_values,
    value=json_values,
    status=json_values,
)
def test_nothing_that_a_device_says_is_a_crash(
    topic: str, path: str, headers: Any, value: Any, status: Any
) -> None:
    """A device that is broken, or is not ours, is ignored or believed, in every phase."""
    heard = Heard(topic, {"path": path, "headers": headers, "value": value, "status": status})
    ex, command = exchange("backup", "--correlation-id", "X", *ANSWER_LOCAL)
    ex.hear(heard)
    ex, command = exchange("backup", "--correlation-id", "X", *ANSWER_LOCAL)
    ex.hear(answer(command))
    ex.hear(heard)
    ex, (start,) = handed_over(*ANSWER_LOCAL)
    ex.hear(heard)
    ex.hear(answer(start))
    ex.hear(heard)
