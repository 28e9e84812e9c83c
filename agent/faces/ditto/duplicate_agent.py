"""Is somebody else answering in our name? A Kanto agent that was not stopped does, and does the work twice.

Both would take every command. The answers to commands come back to us from the broker too; one that we
did not send is somebody else's.
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
"""Those that wait in the outbox, and some that are on their way back."""


class Rivals:
    """Belongs to the main thread."""

    def __init__(self, feature_id: str) -> None:
        self._feature_id = feature_id
        self._own: deque[int] = deque(maxlen=_REMEMBERED)

    def answered(self, payload: bytes) -> None:
        """We are about to give this answer."""
        self._own.append(hash(payload))

    def heard(self, payload: bytes, identity: Identity | None) -> None:
        """An answer went over the broker: log an error when it speaks for our feature and is not ours."""
        if identity is None or hash(payload) in self._own:
            return
        try:
            envelope = ditto.parse(payload)
        except Unreadable:
            return
        ours = f"{identity.thing}/things/live/messages/", f"/features/{self._feature_id}/outbox/messages/"
        if envelope.topic.startswith(ours[0]) and envelope.path.startswith(ours[1]):
            log.error("another agent answers for this feature: stop it", feature=self._feature_id)
