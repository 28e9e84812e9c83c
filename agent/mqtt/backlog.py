"""How much of what has arrived may wait to be taken, in bytes.

A broker limits what it sends with QoS 1 before the first is acknowledged, so waiting for room is safe
there. Of QoS 0 it sends as much as the connection takes, and drops commands too when that is not enough:
so what exceeds the limit is taken from the connection and thrown away, which is all that QoS 0 promises.
"""

import threading

MAX_WAITING_BYTES = 8 << 20
EACH_BYTES = 1000
"""What a message takes beside its payload, roughly."""


class Backlog:
    """May be used by any thread."""

    def __init__(self) -> None:
        self.waiting_bytes = 0
        self._changed = threading.Condition()
        self._closed = False

    def add(self, payload_bytes: int, *, wait: bool) -> bool:
        """Count a message in; False when there is no room, or when no more are taken."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._closed or self._has_room)
            if self._closed or not self._has_room:
                return False
            self.waiting_bytes += payload_bytes + EACH_BYTES
            return True

    @property
    def _has_room(self) -> bool:
        return self.waiting_bytes < MAX_WAITING_BYTES

    def taken(self, payload_bytes: int) -> None:
        """A message that was counted in does not wait any more."""
        with self._changed:
            self.waiting_bytes -= payload_bytes + EACH_BYTES
            self._changed.notify()

    def close(self) -> None:
        """Let go whoever waits for room."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
