"""Carries an order out: connects, sends, listens, and says how it ended."""

import math
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from agent.cli import leave_closed_pipe
from agent.send.arguments import Order
from agent.send.backend import ANSWER_TIMEOUT_S, Backend, BrokerUnusable, OutgoingCommand
from agent.send.display import Display, complain, display, without_secrets
from agent.send.exchange import Ending, Exchange, Phase

_PATIENCE_S = {Phase.ANSWER: ANSWER_TIMEOUT_S, Phase.REQUEST: 10, Phase.STATUS: 30}
"""These come soon or not at all; jobs and uploads take the time that they take."""


def talk(order: Order) -> int:
    """Carry the order out. The exit status is 0 when the device did it, 1 when not."""
    # Its default prints to stdout, which belongs to the messages.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        with display(as_json=order.json) as shown:
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
