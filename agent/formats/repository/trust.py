"""Decides whether the blobs of the device's last snapshot still count as stored.

The device may not list what the repository holds. A blob that only a forgotten snapshot held is gone with the
next prune, and a snapshot that refers to it is broken, though its backup was a success.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.base.times import format_time, parse_time
from agent.formats.repository.objects import Kind, Objects
from agent.formats.repository.state import State
from providers.errors import AccessDenied


@dataclass(frozen=True, slots=True)
class Trust:
    """The rule, at the beginning of a job."""

    objects: Objects
    state: State
    now: datetime
    trust_for: timedelta

    def holds(self) -> bool:
        """Return True when the last snapshot exists, or is so young that nobody has forgotten it."""
        name = self.state.fact("snapshot_id")
        if not name:
            return False
        exists = can_see(self.objects, name)
        if exists:
            self.state.remember(snapshot_seen=format_time(self.now))
        if exists is not None:
            return exists
        # Stores answer 403 for what is missing, too: who could see it once would see it now.
        return not self.state.fact("can_see") and self._is_young()

    def _is_young(self) -> bool:
        seen = parse_time(self.state.fact("snapshot_seen"))
        return abs(self.now - seen) <= self.trust_for


def can_see(objects: Objects, name: str) -> bool | None:
    """Return True when a snapshot exists; None when the device has no right to know."""
    try:
        return objects.exists(Kind.SNAPSHOT, name)
    except AccessDenied:
        return None
