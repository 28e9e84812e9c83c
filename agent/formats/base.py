"""The seam between files and formats: what goes into an archive, and what comes out of one.

`agent.save` hands `Entry` objects to a `Format`, `agent.restore` and the queries read `Item` objects from a
`SavedTree`. None of them knows how a format keeps names, contents and checksums.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from agent.formats.archive_names import NamedArchive, OwnArchives
from agent.formats.manifest import Manifest, Origin
from agent.formats.walk_report import Report
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Context, Destination
from agent.transfer.get import Fetch
from agent.transfer.guarded_storage import GuardedStorage
from providers.api import Stored

MAX_NAME_BYTES = 0x7000
"""The longest name that is archived: a record of ZIP has room for it twice (a hard link)."""
MAX_ATTRIBUTES_BYTES = 65_535 - 200
"""Most room for extended attributes and the entry's names: APPNOTE 4.4.10, less header and small fields."""


class EntryKind(Enum):
    """The kind of an entry. Nothing else is archived or restored."""

    FILE = "file"
    DIR = "directory"
    LINK = "link"


FILE, DIR, LINK = EntryKind
"""Bound here for those who ask about each of many files: in Python 3.11, the class looks a member up by
running Python code."""


@dataclass(slots=True)
class Entry:
    """Something that goes into the archive. Valid until the walk goes on, which closes `fd`."""

    name: str
    """Relative to the root, separated by slashes, `os.fsdecode`d; no slash at the end."""
    kind: EntryKind
    stat: os.stat_result
    fd: int = -1
    """Open for reading for a file or directory, -1 for a link. Owned by the walk."""
    target: bytes = b""
    """The target of a link, as it is on the disk."""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    hard_link_to: str | None = None
    """An earlier entry's name, when both are names of one file."""


class Item(NamedTuple):
    """One entry of an archive, its name checked. None stands for what the archive does not say.

    A tuple, because a frozen dataclass takes five times as long to make.
    """

    name: str
    """Safe: relative, separated by slashes, without `.` and `..`, `os.fsdecode`d, no slash at the end."""
    kind: EntryKind
    mode: int | None
    """Permission bits as archived, with set-uid, set-gid and sticky."""
    mtime_ns: int | None
    uid: int | None
    gid: int | None
    size: int
    """Bytes of content; for a link, of its target."""
    packed_size: int
    """Bytes that the content takes in the archive."""
    xattrs: Mapping[str, bytes]
    hard_link_to: str | None
    """An earlier entry that had the same inode. The content is here all the same."""
    location: Any
    """The place of the content, for the format alone."""
    on_the_way: bool = False
    """A directory that leads to what is restored, and counts only where the restore makes it."""


class SavedTree(Protocol):
    """The content of one archive. Any number of threads may call its methods at the same time.

    Everything that the archive says is checked before it is given out; what does not hold together is an
    `ArchiveError`. OSError comes from reading the archive's own file.
    """

    def manifest(self) -> Manifest | None:
        """Return what the archive says of itself; None when it says nothing.

        Raises `ManifestBroken`, and `NewerFormat` for an archive that must not be restored here.
        """

    def items(self) -> Iterator[Item]:
        """Yield every entry, in the order in which `contents` reads them best.

        The root's own, with an empty name, comes only from a tree that was chosen for a restore.

        May be called again; the memory that it takes does not grow with the archive.
        """

    def read(self, item: Item, write: Callable[[bytes], object]) -> None:
        """Hand the content of `item` to `write` in pieces, never more than `item.size` bytes.

        Pieces of a damaged item may have been written before ArchiveError is raised. What `write` raises
        comes out unchanged.
        """

    def contents(self, items: Sequence[Item]) -> Iterator[bytes]:
        """Yield the whole content of each of `items`, which are small and lie close together, in order."""

    def span_bytes(self, first: Item, last: Item) -> int:
        """Return how many bytes of the archive `contents` reads for the items from `first` to `last`."""

    def checksum(self, item: Item) -> str:
        """Return the checksum that the archive keeps of the item's content, as text."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """Keys for a new archive: the private keys of `recipients`, or the passcode, open it again."""

    recipients: tuple[str, ...] = ()
    passcode: str | None = field(default=None, repr=False)
    work_factor: int = 0
    """Base 2 logarithm of scrypt's cost for the passcode."""


@dataclass(frozen=True, slots=True)
class Unlock:
    """Keys for an encrypted archive; with neither kind, only a plain archive is opened."""

    passcodes: tuple[str, ...] = field(default=(), repr=False)
    """One passcode in its spellings; tried in this order."""
    private_key: bytes | None = field(default=None, repr=False)
    max_work_factor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveOrder:
    """The order to make one archive."""

    staged: Path
    """The path in staging; its last part is the archive's name."""
    reserve_bytes: int = 0
    """Free space that has to be left where archives are staged."""
    encryption: Encryption | None = None
    """None for a plain archive."""
    origin: Origin | None = None
    """For the manifest; None for an archive without one."""
    strict: bool = False
    """Fail when something was skipped."""
    checksum: bool = False
    """Give the provider a checksum before the content."""
    expected_bytes: int | None = None
    """The probable size of the content."""


@dataclass(frozen=True, slots=True)
class Saved:
    """An archive that was made."""

    size_bytes: int
    sha256: str
    stored: Stored | None
    """None when the archive was staged."""


class FetchedArchive(Protocol):
    """An archive whose bytes are on the device."""

    @property
    def stored(self) -> Stored:
        """Its name, size and location at the destination."""

    def sha256(self, token: CancelToken) -> str:
        """Return the SHA-256 of the archive as it is stored, in hexadecimal digits."""

    def tree(self, unlock: Unlock) -> SavedTree:
        """Return what is in the archive.

        Its `items` looks at the token of the job that fetched the archive before each item, also before
        those that it does not yield: it may be called for hundreds of thousands of them.

        Raises ArchiveError for what is no archive, and what opening it raises: `Encrypted`, `NotEncrypted`,
        `WrongKey`, `EncryptionBroken`, `WorkFactorTooHigh`.
        """


class Format(Protocol):
    """A way to keep archives at a destination."""

    @property
    def settings(self) -> str:
        """The settings that change what an archive of a tree is, as one text."""

    def check_room(self, order: SaveOrder, destination: Destination | None) -> None:
        """Raise NoSpace when the device cannot take what `save` writes to its disk."""

    def save(
        self,
        entries: Iterable[Entry],
        report: Report,
        order: SaveOrder,
        destination: Destination | None,
        context: Context,
    ) -> Saved:
        """Make an archive of `entries` at the destination; without one, stage it. Count in `report`.

        Returned means stored and readable, or complete and durable in staging; raised means that neither is
        left behind. Raises `SourceChanged` with `order.strict`, NoSpace, IoError, Cancelled and StorageError.
        """

    def fetched(self, order: Fetch, context: Context) -> AbstractContextManager[FetchedArchive]:
        """Bring an archive to the device, in the phase `fetching`; it is gone again at the end.

        Raises `StorageError` and `JobError`.
        """

    def listed(self, storage: GuardedStorage, own: OwnArchives) -> list[NamedArchive]:
        """Return the archives of this device in a storage that can list. Raises `StorageError`."""

    def remove(self, storage: GuardedStorage, name: str) -> None:
        """Remove an archive from a storage that can delete. Raises `StorageError`."""

    def open(self, destination: Destination, name: str, unlock: Unlock) -> SavedTree:
        """Return what is in an archive at a destination, fetching only what is looked at.

        The storage has to have `READ_RANGE`. Raises as `FetchedArchive.tree` and `StorageError`.
        """
