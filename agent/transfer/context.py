"""The context of a job's work, and the destination of an archive."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.transfer.cancel import CancelToken
from agent.transfer.guarded_storage import GuardedStorage
from agent.transfer.streams import Progress, RateLimit, no_progress
from providers.api import Checkpoint, Source, Stored


@dataclass(frozen=True, slots=True)
class Context:
    """The token, the checkpoint and the listeners of a job's work."""

    job_id: str
    token: CancelToken
    checkpoint: Checkpoint
    progress: Progress = no_progress
    bytes_per_s: int = 0
    """Limit for what goes to a provider or comes from it; 0 for none."""
    phase: Callable[[str], None] = lambda _name: None
    """Told the name of each step as it begins; its bytes are counted anew."""
    expect: Progress = no_progress
    """Told how many bytes this phase will count, as soon as that is known."""
    skipped: Callable[[str, str], None] = lambda _name, _reason: None
    """Told the name and reason of everything that could not be saved."""

    def rate(self) -> RateLimit:
        return RateLimit(self.bytes_per_s, self.token)


RunHook = Callable[[Path, CancelToken], None]
"""Runs a command of the device's owner in a directory. Raises `HookFailed` and `Cancelled`."""


@dataclass(frozen=True, slots=True)
class Destination:
    """The storage and the name of one archive, or snapshot. `name` is None for the newest of this device."""

    storage: GuardedStorage
    needs_size: bool
    name: str | None
    metadata: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    """The directory of the repository; empty for its top, and for archives."""
    loads_sdk: bool = False
    """True for a provider that loads a large library: there is little memory for anything else meanwhile."""

    def put(self, source: Source, context: Context) -> Stored:
        """Store the whole source. Raises `StorageError` and `JobError`."""
        assert self.name is not None
        return self.storage.put(self.name, source, self.metadata, context.checkpoint)

    @property
    def shown(self) -> str:
        """Return the location for people, without secrets, as far as it is known without the network."""
        return self.place_of(self.name or "")

    def place_of(self, name: str) -> str:
        """Return the location of an archive of this name; of a snapshot, that of its repository."""
        return self.storage.location(self.prefix or name)

    @property
    def repository(self) -> str:
        """Return the location of the repository, whatever snapshot is meant."""
        return self.storage.location(self.prefix)
