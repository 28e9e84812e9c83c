"""The command line of `edge-backup send`."""

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from agent.send.arguments import Order, parse_arguments

MARK = "marked-secret-b77e"
TO = ("--broker", "tcp://gateway", "--device", "edge:device")


def order(operation: str, *arguments: str) -> Order:
    return parse_arguments([operation, *TO, *arguments])


def test_a_command_has_its_id_options_and_directory() -> None:
    made = order("restore", "--correlation-id", "X", "-o", "storage.provider=local", "--dir", "/data")
    assert (made.broker.host, made.broker.port, made.broker.tls) == ("gateway", 1883, False)
    assert made.broker.clean_session
    assert made.identity.thing == "edge/device"
    assert (made.feature_id, made.request_id, made.timeout_s, made.json) == (
        "BackupAndRestore",
        "",
        3600,
        False,
    )
    assert made.value == {
        "correlationID": "X",
        "options": {"storage.provider": "local", "backup.dir": "/data"},
    }


@pytest.mark.parametrize(
    ("operation", "arguments", "value"),
    [
        ("cancel", ["--correlation-id", "X"], {"correlationID": "X"}),
        (
            "cancel",
            ["--correlation-id", "X", "--status-code", "c", "--message", "m"],
            {"correlationID": "X", "statusCode": "c", "message": "m"},
        ),
        ("activate", [], {}),
        ("activate", ["--from", "1", "--to", "2"], {"from": "1", "to": "2"}),
        ("deactivate", [], {}),
    ],
)  # fmt: skip
def test_the_other_operations_have_fields_of_their_own(
    operation: str, arguments: list[str], value: dict[str, Any]
) -> None:
    assert order(operation, *arguments).value == value


def test_an_operation_without_an_id_gets_one_of_its_own() -> None:
    ids = {order("backup").correlation_id for _ in range(2)}
    assert len(ids) == 2
    assert all(uuid.UUID(text) for text in ids)


def test_broker_over_tls_with_a_password_that_cannot_be_printed(tmp_path: Path) -> None:
    for name in ("ca", "cert", "key", "password"):
        (tmp_path / name).write_text(f"{MARK}\n")
    made = order(
        *("deactivate", "--broker", "ssl://other", "--ca", f"{tmp_path}/ca", "--cert", f"{tmp_path}/cert"),
        *("--key", f"{tmp_path}/key", "--username", "u", "--password-file", f"{tmp_path}/password"),
    )
    assert (made.broker.host, made.broker.port, made.broker.tls) == ("other", 8883, True)
    assert made.broker.password == MARK
    assert MARK not in repr(made)


def test_secret_options_cannot_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", MARK)
    made = order("backup", "--secret", "https.url=env:KEPT")
    assert made.value["options"] == {"https.url": MARK}
    assert made.secrets == {MARK}
    assert MARK not in repr(made)
    answer = order(
        "backup", "--answer", "storage.provider=aws", "--answer-secret", "aws.session.token=env:KEPT"
    )
    assert answer.destination == {"storage.provider": "aws", "aws.session.token": MARK}
    assert "options" not in answer.value
    assert MARK not in repr(answer)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: operation"),
        (["destroy", *TO], "invalid choice"),
        (["backup"], "required: --broker, --device"),
        (["backup", *TO, "--broker", "gateway"], "expected tcp://host"),
        (["backup", *TO, "--device", "no-namespace"], "expected <namespace>:<name>"),
        (["backup", *TO, "--feature", "a/b"], "--feature: must be printable, without / + #"),
        (["backup", *TO, "--request-id", "#"], "--request-id: must be printable"),
        (["backup", *TO, "--timeout", "10"], "--timeout: expected numbers with units"),
        (["backup", *TO, "--timeout", "0s"], "--timeout: must be above 0"),
        (["start", *TO], "required: --correlation-id"),
        (["cancel", *TO], "required: --correlation-id"),
        (["backup", *TO, "--from", "1"], "unrecognized arguments: --from"),
        (["activate", *TO, "--correlation-id", "X"], "unrecognized arguments: --correlation-id"),
        (["start", *TO, "--correlation-id", "X", "--answer", "a=b"], "unrecognized arguments: --answer a"),
        (["backup", *TO, "-o", "a=1", "-o", "a=2"], "'a' is given twice"),
        (["backup", *TO, "--dir", "/d", "-o", "backup.dir=/e"], "'backup.dir' is given twice"),
        (["backup", *TO, "-o", f"aws.session.token={MARK}"], "'aws.session.token' is a secret: everybody"),
        (["backup", *TO, "--secret", f"k={MARK}"], "expected KEY=SOURCE"),
        (["backup", *TO, "--secret", "k=@/does/not/exist"], "'/does/not/exist' cannot be read"),
        (["backup", *TO, "-o", "a=b", f"session.token={MARK}"], "unrecognized arguments: session.token"),
        (["backup", *TO, "-o", "https.url=x", "--answer", "a=b"], "--answer, not both"),
        (["backup", *TO, "--ca", "/does/not/exist"], "there is no file '/does/not/exist'"),
        (["backup", *TO, "--ca", __file__], "are for a broker with TLS"),
        (["backup", *TO, "--broker", "ssl://h", "--cert", __file__], "--cert and --key go together"),
        (["backup", *TO, "--password-file", __file__], "--password-file needs --username"),
    ],
)  # fmt: skip
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(arguments)
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert words in " ".join(output.err.split())
    assert output.out == ""
    assert MARK not in output.err


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import json, sys\nfrom agent.cli import main\n"
        "try: main(['send', 'backup', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'pydantic', 'structlog', 'paho', 'rich', 'ssl'} & set(sys.modules)\n"
        "print(json.dumps(sorted(heavy)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize(
    "argv",
    [
        ["describe", *TO, "--json", "--correlation-id", "backup"],
        [*TO, "describe", "--json", "--correlation-id", "backup"],
        ["--correlation-id", "backup", *TO, "--json", "describe"],
    ],
)
def test_the_operation_may_stand_behind_its_options(argv: list[str]) -> None:
    """Also behind a value that is the name of an operation."""
    sent = parse_arguments(argv)
    assert (sent.operation, sent.correlation_id, sent.json) == ("describe", "backup", True)
