"""Decides whether the blobs of the device's last snapshot still count as stored.

The device may not list what the repository holds. A blob that only a forgotten snapshot held is gone with the
next prune, and a snapshot that refers to it is broken, though its backup was a success.
"""

from datetime import datetime, timedelta

from agent.base.times import format_time, parse_time
from agent.formats.repository.objects import Kind, Objects
from agent.formats.repository.state import State
from providers.errors import AccessDenied


def is_trusted(objects: Objects, state: State, now: datetime, trust_for: timedelta) -> bool:
    """Return True when the last snapshot exists, or was seen so lately that nobody has forgotten it."""
    name = state.fact("snapshot_id")
    if not name:
        return False
    exists = can_see(objects, name)
    if exists:
        state.remember(snapshot_seen=format_time(now))
    if exists is not None:
        return exists
    # Stores answer 403 for what is missing, too: who could see it once would see it now.
    return not state.fact("can_see") and abs(now - parse_time(state.fact("snapshot_seen"))) <= trust_for


def can_see(objects: Objects, name: str) -> bool | None:
    """Return True when a snapshot exists; None when the device has no right to know."""
    try:
        return objects.exists(Kind.SNAPSHOT, name)
    except AccessDenied:
        return None
