"""Refuses commands that are too old to be carried out.

The header `expiresAt` (ours, RFC 3339) is a moment of the wall clock. Ditto's `timeout` (a number with
`ms`, `s` or `m`, seconds without; Ditto, "Protocol specification", headers) is a length of time; no message
says when it was sent, so it is counted from the receipt, on a clock that nobody sets.
"""

import re
from datetime import datetime

from agent import RELEASED
from agent.base.refusals import Reason, Refused
from agent.base.text import scalar_text
from agent.base.times import parse_rfc3339, time_text
from agent.mqtt.envelope import Envelope

_TIMEOUT = re.compile(r"(\d{1,9})(ms|s|m)?")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, None: 1}


def timeout_s(envelope: Envelope) -> float | None:
    """Return Ditto's `timeout` in seconds; 0 when nobody waits for an answer.

    Return None for an absent one, and for one that Ditto itself would refuse.
    """
    match = _TIMEOUT.fullmatch(scalar_text(envelope.headers.get("timeout")) or "")
    return int(match[1]) * _SECONDS[match[2]] if match else None


def check_not_expired(envelope: Envelope, waited_s: float, now: datetime) -> None:
    """Raise `Refused` (EXPIRED) when the command, received `waited_s` ago, has expired `now`.

    Raises `Refused` (INVALID) when `expiresAt` is no time: its sender relies on it.
    """
    limit_s = timeout_s(envelope)
    if limit_s and waited_s > limit_s:
        raise _expired(f"it waited {waited_s:.1f} s, longer than its timeout of {limit_s:g} s")
    header = envelope.headers.get("expiresat")
    if header is None:
        return
    try:
        expires = parse_rfc3339(scalar_text(header) or "")
    except ValueError as error:
        message = "header 'expiresAt' must be a time such as '2026-11-21T22:00:00Z'"
        raise Refused(Reason.INVALID, message) from error
    # A clock that is before the release was never set. The kernel is not asked: it calls many good clocks
    # unsynchronised (a guest's, one set by GPS). A clock that is behind can only let an expired command
    # through, never keep a good one out.
    if now >= RELEASED and expires <= now:
        raise _expired(f"expiresAt is {time_text(expires)}, the device's clock says {time_text(now)}")


def _expired(why: str) -> Refused:
    return Refused(Reason.EXPIRED, f"the command has expired and was not carried out: {why}")
