"""Shows an exchange to people and scripts.

What the device says is shown without the secrets that it was sent, and without control characters: a
device that is not to be trusted writes to this terminal.
"""

import json
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from agent.base.redaction import HIDDEN
from agent.base.text import printable
from agent.send.backend import Heard, OutgoingCommand
from agent.send.exchange import Ending, MessageKind, refusal

if TYPE_CHECKING:
    from rich.progress import Progress


class Display(Protocol):
    def sent(self, command: OutgoingCommand) -> None: ...
    def heard(self, kind: MessageKind, heard: Heard) -> None: ...
    def ended(self, outcome: Ending) -> None: ...


@contextmanager
def display(*, as_json: bool) -> Iterator[Display]:
    """Yield a display: JSON if asked for, a progress bar on a terminal with rich, else plain lines."""
    if as_json:
        yield Json()
    elif sys.stdout.isatty() and (progress := _progress()):
        with progress:
            yield Bar(progress)
    else:
        yield Lines()


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
    """A line for each message."""

    def sent(self, command: OutgoingCommand) -> None:
        _write(_sent_line(command))

    def heard(self, kind: MessageKind, heard: Heard) -> None:
        _write(_heard_line(kind, heard))

    def ended(self, outcome: Ending) -> None:
        if outcome.good:
            _write(printable(outcome.text))


class Bar:
    """Lines above a bar that moves with the upload; a job has no percentage, so there it only lives."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._task = progress.add_task("waiting", total=None)

    def sent(self, command: OutgoingCommand) -> None:
        self._print(_sent_line(command))

    def heard(self, kind: MessageKind, heard: Heard) -> None:
        value = heard.last_upload if kind is MessageKind.LAST_UPLOAD else heard.last_operation
        percent = value.get("progress") if value else None
        if value and isinstance(percent, int):
            known = kind is MessageKind.LAST_UPLOAD or percent == 100
            state = printable(str(value.get("state")))
            self._progress.update(
                self._task, description=state, completed=percent, total=100 if known else None
            )
            if value.get("state") == "UPLOADING":
                return
        self._print(_heard_line(kind, heard))

    def ended(self, outcome: Ending) -> None:
        if outcome.good:
            self._print(printable(outcome.text))

    def _print(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


def complain(text: str) -> None:
    """Say on stderr why it did not work."""
    sys.stderr.write(f"edge-backup send: {printable(text)}\n")


def _progress() -> "Progress | None":
    try:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        return None
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        transient=True,
    )


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _sent_line(command: OutgoingCommand) -> str:
    return printable(f"→ {command.operation}  {command.value.get('correlationID', '')}".rstrip())


def _heard_line(kind: MessageKind, heard: Heard) -> str:
    match kind:
        case MessageKind.ANSWER:
            told = json.dumps(heard.message["value"], ensure_ascii=False) if heard.status == 200 else ""
            text = f"{refusal(heard)}  {told}".rstrip()
        case MessageKind.REQUEST:
            text = f"asks where to upload {(heard.upload_request or {}).get('correlationId')}"
        case MessageKind.LAST_OPERATION | MessageKind.LAST_UPLOAD:
            value = heard.last_operation or heard.last_upload or {}
            percent = f"{value.get('progress')} %" if value.get("progress") else ""
            parts = (value.get("state"), percent, value.get("statusCode"), value.get("message"))
            text = "  ".join(str(part) for part in parts if part)
    return printable(f"← {text}")
