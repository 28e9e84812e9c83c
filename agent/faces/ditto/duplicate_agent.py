"""Notices another agent that answers for this feature, such as a Kanto agent that was not stopped.

Both take every command, and do the work twice. The broker sends the answers to commands to this agent, too:
one that this agent did not send is another agent's.
"""

from collections import deque

import structlog

from agent.mqtt import envelope as ditto
from agent.mqtt.envelope import Unreadable
from agent.mqtt.hono import Identity
from agent.mqtt.outbox import MAX_WAITING_REPLIES

log = structlog.get_logger(__name__)

ANSWERS = "command//+/res/#"
_REMEMBERED = MAX_WAITING_REPLIES + 100
"""Answers that wait in the outbox, and some that are on their way back."""


class DuplicateAgents:
    """Belongs to the main thread."""

    def __init__(self, feature_id: str) -> None:
        self._feature_id = feature_id
        self._own: deque[int] = deque(maxlen=_REMEMBERED)

    def answered(self, payload: bytes) -> None:
        """Note an answer that this agent is about to give."""
        self._own.append(hash(payload))

    def heard(self, payload: bytes, identity: Identity | None) -> None:
        """Log an error for an answer to this feature's commands that this agent did not give."""
        if identity is None or hash(payload) in self._own:
            return
        try:
            envelope = ditto.parse(payload)
        except Unreadable:
            return
        ours = f"{identity.thing}/things/live/messages/", f"/features/{self._feature_id}/outbox/messages/"
        if envelope.topic.startswith(ours[0]) and envelope.path.startswith(ours[1]):
            log.error("another agent answers for this feature: stop it", feature=self._feature_id)
