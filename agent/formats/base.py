"""The seam between files and formats.

`agent.save` hands `Entry` objects to a `Format`; `agent.restore` and the queries read `Item` objects from a
`SavedTree`. None of them knows how a format keeps names, contents and checksums.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent.formats.archive_names import NamedArchive, OwnArchives
from agent.formats.entries import Entry, Item
from agent.formats.manifest import Manifest, Origin
from agent.formats.walk_report import Report
from agent.transfer.archive_files import Fetch
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Context, Destination
from providers.api import Stored


class ListedTree(Protocol):
    """The content of one archive, for people who look into it.

    Everything that the archive says is checked before it is given out: methods raise ArchiveError for damage
    and contradictions, and OSError when the archive's file cannot be read.
    """

    def manifest(self) -> Manifest | None:
        """Return the manifest; None for an archive without one.

        Raises `ManifestBroken`, and `NewerFormat` for an archive that this agent must not restore.
        """

    def items(self) -> Iterator[Item]:
        """Yield every entry, in the order in which `contents` reads them best.

        An entry for the root, with an empty name, comes only from a tree that was chosen for a restore.
        Memory does not grow with the archive.
        """

    def read(self, item: Item, write: Callable[[bytes], object]) -> None:
        """Hand the content of `item` to `write` in pieces, never more than `item.size` bytes.

        Pieces of a damaged item may have been written before ArchiveError is raised. Also raises what `write`
        raises.
        """

    def checksum(self, item: Item) -> str | None:
        """Return the checksum of the item's content, as text; None where the archive keeps none."""


class SavedTree(ListedTree, Protocol):
    """The content of one archive. Any number of threads may call its methods at the same time."""

    def contents(self, items: Sequence[Item]) -> Iterator[bytes]:
        """Yield the whole content of each of `items`, which are small and lie close together, in order."""

    def span_bytes(self, first: Item, last: Item) -> int:
        """Return how many bytes of the archive `contents` reads for the items from `first` to `last`."""

    @property
    def reads_quickly(self) -> bool:
        """Return True when `contents` takes less time for a very small item than making its file does."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """Keys for a new archive: the private keys of `recipients`, or the passcode, open it again."""

    recipients: tuple[str, ...] = ()
    passcode: str | None = field(default=None, repr=False)
    work_factor: int = 0
    """Base 2 logarithm of scrypt's cost for the passcode."""


@dataclass(frozen=True, slots=True)
class Unlock:
    """Keys for an encrypted archive. Without any, only a plain archive is opened."""

    passcodes: tuple[str, ...] = field(default=(), repr=False)
    """The spellings of one passcode, tried in this order."""
    private_key: bytes | None = field(default=None, repr=False)
    max_work_factor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveOrder:
    staged: Path
    """The path in staging; its last part is the archive's name."""
    reserve_bytes: int = 0
    """Free space that has to be left in staging."""
    encryption: Encryption | None = None
    """None for a plain archive."""
    origin: Origin | None = None
    """For the manifest; None for an archive without one."""
    strict: bool = False
    """Fail when an entry was skipped."""
    checksum: bool = False
    """Give the provider a checksum before the content."""
    expected_bytes: int | None = None
    """The probable size of the content, for the progress."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The difference between a snapshot and the one before it."""

    added_bytes: int
    """Bytes that were sent."""
    files_new: int
    files_changed: int
    files_unmodified: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Saved:
    """An archive or a snapshot that was made."""

    size_bytes: int
    """For a snapshot, the bytes that were sent."""
    sha256: str
    """Empty for a snapshot, whose name is its hash."""
    stored: Stored | None
    """None when the archive was staged."""
    changes: Changes | None = None
    """None for an archive, which is whole."""


class FetchedArchive(Protocol):
    """An archive that is on the device."""

    @property
    def stored(self) -> Stored:
        """Return its name, size and location at the destination."""

    def sha256(self, token: CancelToken) -> str:
        """Return the SHA-256 of the archive as it is stored, in hexadecimal digits."""

    def tree(self, unlock: Unlock) -> SavedTree:
        """Return the tree. The job's token ends its `items`, also between items that are not yielded.

        Raises ArchiveError for a file that is no archive, `Encrypted`, `NotEncrypted`, `WrongKey`,
        `EncryptionBroken` and `WorkFactorTooHigh`.
        """

    def verify(self, tree: SavedTree, passed: Callable[[int], object]) -> int:
        """Read the contents in `tree`, which `tree` has returned, and compare them with their checksums.

        Return how many of the bytes at the destination were looked at: all, or those of a sample that
        `Fetch.max_bytes` allows. `passed` is told how many bytes of content each step has read; it may raise.
        Also raises as `SavedTree.read`.
        """


class SaveFormat(Protocol):
    """A way to save a tree at a destination."""

    @property
    def settings(self) -> str:
        """Return the settings that change the archive of a tree, as one text."""

    def skipped_reason(self, entry: Entry) -> str:
        """Return why archives of this format cannot have `entry`; empty when they can.

        `save` gets only entries without a reason.
        """

    def check_room(self, order: SaveOrder, destination: Destination | None) -> None:
        """Raise NoSpace when the device has no room for what `save` writes to its disk."""

    def save(
        self,
        entries: Iterable[Entry],
        report: Report,
        order: SaveOrder,
        destination: Destination | None,
        context: Context,
    ) -> Saved:
        """Make an archive of `entries` at the destination; without one, stage it. Count in `report`.

        When it returns, the archive is stored and readable, or complete and durable in staging; when it
        raises, nothing is left. Raises `SourceChanged` with `order.strict`, NoSpace, IoError, Cancelled and
        StorageError.
        """


class ReadFormat(Protocol):
    """A way to read saved trees at a destination."""

    def fetched(self, order: Fetch, context: Context) -> AbstractContextManager[FetchedArchive]:
        """Fetch an archive in the phase `fetching`; remove it at the end. Raises StorageError, JobError."""

    def listed(self, destination: Destination, own: OwnArchives) -> list[NamedArchive]:
        """Return the device's archives in a storage that can list. Raises `StorageError` and JobError."""

    def manifest(self, destination: Destination, name: str, unlock: Unlock) -> Manifest | None:
        """Return the manifest of an archive at a destination, perhaps without `root`. Raises as `open`."""

    def open(self, destination: Destination, name: str, unlock: Unlock) -> SavedTree:
        """Return the tree of an archive at a destination; only the parts that are read are fetched.

        The storage has to have `READ_RANGE`. Raises as `FetchedArchive.tree` and `StorageError`.
        """


@dataclass(frozen=True, slots=True)
class Removal:
    """The order to remove archives from a destination."""

    destination: Destination
    names: Mapping[str, int]
    """The archives that go, oldest first, each with its size, 0 for one that is not known."""
    kept: frozenset[str]
    """The archives because of which these may go."""
    dry_run: bool
    removed: Callable[[str], None]
    """Told the name of each archive that is gone, or would be."""
    context: Context


@dataclass(frozen=True, slots=True)
class Freed:
    """The room that a removal has made."""

    size_bytes: int
    problem: str = ""
    """The reason why nothing, or no more, was removed, when that is no error."""


class PruneFormat(ReadFormat, Protocol):
    """A way to remove archives at a destination."""

    def remove(self, removal: Removal) -> Freed:
        """Remove archives from a storage that can list and delete, and content that only they needed.

        Raises `StorageError` and JobError; then some archives may be gone, and each of the others is whole.
        """


class Format(SaveFormat, PruneFormat, Protocol):
    """A way to keep archives at a destination, each of which is one object."""
