"""The order to write one snapshot."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from agent.formats.manifest import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotOrder:
    """The order to write one snapshot."""

    origin: Origin
    """The device's id becomes the snapshot's host; the roots lead from the names of entries to paths."""
    password: str = field(repr=False)
    state: Path
    """The directory with the local state of this repository; it is made, durably, when it is missing."""
    trust_for: timedelta = timedelta(days=14)
    """The age up to which the last snapshot is trusted without being seen (`repository.trustFor`)."""
    reserve_bytes: int = 0
    """Free space that has to be left where `state` is."""
    strict: bool = False
    """Fail when an entry was skipped."""
    expected_bytes: int | None = None
    """The probable size of the content, for the progress."""
