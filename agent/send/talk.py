"""Carries an order out: connects, sends, listens, shows the exchange, and says how it ended.

What the device says is shown without the secrets that it was sent, and without control characters: a
device that is not to be trusted writes to this terminal.
"""

import json
import math
import sys
import time
from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from agent.base.redaction import HIDDEN
from agent.base.text import printable
from agent.cli import leave_closed_pipe
from agent.send.arguments import Order
from agent.send.backend import ANSWER_TIMEOUT_S, Backend, BrokerUnusable, Heard, OutgoingCommand
from agent.send.exchange import Ending, Exchange, MessageKind, Phase, refusal
from agent.send.progress import ProgressLine, percent_text, progress_text

_PATIENCE_S = {Phase.ANSWER: ANSWER_TIMEOUT_S, Phase.REQUEST: 10, Phase.STATUS: 30}
"""These come soon or not at all; jobs and uploads take the time that they take."""


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

    def close(self) -> None:
        """Leave nothing on the terminal."""


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


Display = Json | Lines


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


def talk(order: Order) -> int:
    """Carry the order out. The exit status is 0 when the device did it, 1 when not."""
    # Its default prints to stdout, which belongs to the messages.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        with closing(Json() if order.json else Lines()) as shown:
            outcome = _outcome(order, shown)
            shown.ended(outcome)
    except BrokenPipeError:
        leave_closed_pipe()
        return 1
    if not outcome.good:
        complain(outcome.text)
    return 0 if outcome.good else 1


def _outcome(order: Order, shown: Display) -> Ending:
    backend = Backend(order.broker, order.identity, order.feature_id)
    try:
        with backend:
            outcome = _follow(order, backend, shown)
    except BrokerUnusable as error:
        where = f"{order.broker.host}:{order.broker.port}"
        outcome = Ending(False, f"failed: the broker at {where} cannot be used: {error}")
    return replace(outcome, text=without_secrets(outcome.text, order.secrets))


def _follow(order: Order, backend: Backend, shown: Display) -> Ending:
    exchange = Exchange(order)
    end_s = time.monotonic() + order.timeout_s
    phase, limit_s = None, end_s
    while exchange.outcome is None:
        if phase is not exchange.awaited:
            phase = exchange.awaited
            limit_s = min(end_s, time.monotonic() + _PATIENCE_S.get(phase, math.inf))
        for command in exchange.due():
            shown.sent(command)
            backend.send(_expiring(command, limit_s))
        try:
            heard = backend.next(limit_s)
        except TimeoutError:
            return exchange.given_up(order.identity.device_id, time_is_up=limit_s == end_s)
        if kind := exchange.hear(heard):
            shown.heard(kind, replace(heard, message=without_secrets(heard.message, order.secrets)))
    return exchange.outcome


def _expiring(command: OutgoingCommand, limit_s: float) -> OutgoingCommand:
    """Return the command with the time at which its sender gives up.

    Otherwise the broker would keep it for an agent that is away, and the agent would carry it out on its
    return, over newer data and after its sender was told that nobody answered.
    """
    left = timedelta(seconds=limit_s - time.monotonic())
    return replace(command, expires=datetime.now(UTC) + left)
