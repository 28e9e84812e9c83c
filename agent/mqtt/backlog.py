"""A limit, in bytes, for messages that have arrived and wait to be handled.

A broker limits its unacknowledged messages of QoS 1, so the link can wait for room there. Messages of QoS 0
come without limit: those that exceed it are read and dropped, since a full connection would make the broker
drop commands, too.
"""

import threading

MAX_WAITING_BYTES = 8 << 20
EACH_BYTES = 1000
"""The approximate memory of a message beside its payload."""


class Backlog:
    """May be used by any thread."""

    def __init__(self) -> None:
        self.waiting_bytes = 0
        self._changed = threading.Condition()
        self._closed = False

    def add(self, payload_bytes: int, *, wait: bool) -> bool:
        """Count a message in; return False when there is no room, and after `close`."""
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
        """Count a message out that is handled now."""
        with self._changed:
            self.waiting_bytes -= payload_bytes + EACH_BYTES
            self._changed.notify()

    def close(self) -> None:
        """Wake the thread that waits for room."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
