"""The display of an exchange."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.send.backend import Heard, OutgoingCommand
from agent.send.exchange import Ending, MessageKind
from agent.send.talk import Json, Lines, complain, without_secrets

PATH = "/features/BackupAndRestore/properties/lastUpload"


def upload(**value: Any) -> Heard:
    return Heard("e", {"path": PATH, "value": value})


def test_plain_lines_carry_state_progress_and_reason(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.sent(OutgoingCommand("backup", {"correlationID": "X", "options": {"aws.session.token": "hidden"}}))
    lines.heard(MessageKind.LAST_UPLOAD, upload(state="UPLOADING", progress=35))
    lines.heard(MessageKind.LAST_UPLOAD, upload(state="FAILED", progress=35, statusCode="c", message="why"))
    lines.ended(Ending(True, "done"))
    assert capsys.readouterr().out.splitlines() == [
        "→ backup  X",
        "← UPLOADING  35 %",
        "← FAILED  35 %  c  why",
        "done",
    ]


def test_a_device_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Lines().heard(MessageKind.LAST_UPLOAD, upload(state="\x1b]0;title\x07\nforged line"))
    complain("\x1b[2J")
    output = capsys.readouterr()
    assert output.out == "← \\x1b]0;title\\x07\\nforged line\n"
    assert output.err == "edge-backup send: \\x1b[2J\n"


def test_json_carries_the_message_as_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    heard = upload(state="UPLOADING\n", progress=35, message="Grüße")
    shown = Json()
    shown.sent(OutgoingCommand("backup", {}))
    shown.heard(MessageKind.LAST_UPLOAD, heard)
    shown.ended(Ending(True, "done"))
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"kind": "lastUpload", "topic": "e", "message": heard.message}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(value=values, secret=st.text(alphabet="abc", min_size=4), around=st.text())
def test_a_secret_is_found_wherever_it_hides_and_the_rest_stays(value: Any, secret: str, around: str) -> None:
    assert without_secrets(value, []) == value
    hidden = without_secrets([value, {secret: [around + secret]}], [secret])
    assert secret not in json.dumps(hidden)
