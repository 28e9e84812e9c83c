"""Shows an exchange to people and scripts.

What the device says is shown without the secrets that it was sent, and without control characters: a
device that is not to be trusted writes to this terminal.
"""

import json
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from agent.base.redaction import HIDDEN
from agent.base.text import printable
from agent.send.backend import Heard, OutgoingCommand
from agent.send.exchange import Ending, MessageKind, refusal
from agent.send.progress import ProgressLine, percent_text, progress_text


class Display(Protocol):
    def sent(self, command: OutgoingCommand) -> None: ...
    def heard(self, kind: MessageKind, heard: Heard) -> None: ...
    def ended(self, outcome: Ending) -> None: ...


@contextmanager
def display(*, as_json: bool) -> Iterator[Display]:
    """Yield a display: JSON if asked for, else lines."""
    if as_json:
        yield Json()
        return
    lines = Lines()
    try:
        yield lines
    finally:
        lines.close()


def without_secrets(value: Any, secrets: Collection[str]) -> Any:
    """Return the JSON value with every secret in its texts hidden."""
    if isinstance(value, dict):
        return {without_secrets(key, secrets): without_secrets(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item, secrets) for item in value]
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
    return value


class Json:
    """One object a line on stdout for each message of the device; the outcome is the exit status."""

    def sent(self, command: OutgoingCommand) -> None:
        """Show nothing: a command carries secrets."""

    def heard(self, kind: MessageKind, heard: Heard) -> None:
        _write(json.dumps({"kind": kind, "topic": heard.topic, "message": heard.message}))

    def ended(self, outcome: Ending) -> None:
        """Show nothing: the exit status tells a good ending, `complain` any other."""


class Lines:
    """A line for each message, and on a terminal the progress below them."""

    def __init__(self) -> None:
        self._progress = ProgressLine(sys.stdout)

    def sent(self, command: OutgoingCommand) -> None:
        self._print(f"→ {command.operation}  {command.value.get('correlationID', '')}".rstrip())

    def heard(self, kind: MessageKind, heard: Heard) -> None:
        uploading = (heard.last_upload or {}).get("state") == "UPLOADING"
        if kind is MessageKind.JOB or (uploading and self._progress.is_terminal):
            self._progress.show(_heard_line(kind, heard))
        else:
            self._print(_heard_line(kind, heard))

    def ended(self, outcome: Ending) -> None:
        if outcome.good:
            self._print(outcome.text)

    def close(self) -> None:
        self._progress.clear()

    def _print(self, line: str) -> None:
        self._progress.clear()
        _write(printable(line))


def complain(text: str) -> None:
    """Say on stderr why it did not work."""
    sys.stderr.write(f"edge-backup send: {printable(text)}\n")


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _heard_line(kind: MessageKind, heard: Heard) -> str:
    match kind:
        case MessageKind.ANSWER:
            told = json.dumps(heard.message["value"], ensure_ascii=False) if heard.status == 200 else ""
            text = f"{refusal(heard)}  {told}".rstrip()
        case MessageKind.REQUEST:
            text = f"asks where to upload {(heard.upload_request or {}).get('correlationId')}"
        case MessageKind.JOB:
            text = progress_text(heard.status_job or {})
        case MessageKind.LAST_OPERATION | MessageKind.LAST_UPLOAD:
            value = heard.last_operation or heard.last_upload or {}
            percent = percent_text(value.get("progress")) if value.get("progress") else ""
            parts = (value.get("state"), percent, value.get("statusCode"), value.get("message"))
            text = "  ".join(str(part) for part in parts if part)
    return f"← {text}"
