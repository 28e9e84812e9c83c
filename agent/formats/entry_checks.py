"""Checks the entries of a whole archive before its first byte is unpacked: limits, and links on the way."""

import hashlib
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from operator import add

from agent.base.errors import ArchiveError
from agent.formats.base import SavedTree
from agent.formats.entries import DIR, FILE, LINK, Item
from agent.formats.entry_names import bad_entry
from providers.free_space import BLOCK_BYTES

_RATIO_FROM_BYTES = 64 << 20
"""The ratio of a smaller archive says nothing: an empty log of 1 MiB of zeros is no bomb."""

_LINKS = 100_000  # that are remembered, in about 10 MiB


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    max_files: int
    """Entries of any kind."""
    max_bytes: int
    max_ratio: int
    """Unpacked to packed bytes of the whole archive; checked from 64 MiB unpacked."""


@dataclass(slots=True)
class Survey:
    """The content of an archive in numbers."""

    files: int = 0
    directories: int = 0
    links: int = 0
    size_bytes: int = 0
    """Content of files, unpacked."""
    disk_bytes: int = 0
    """The size on a disk, where a file takes whole blocks, and a directory one."""
    compressed_bytes: int = 0

    @property
    def entries(self) -> int:
        return self.files + self.directories + self.links

    def __add__(self, other: "Survey") -> "Survey":
        return Survey(*map(add, astuple(self), astuple(other)))


@dataclass(frozen=True, slots=True)
class SurveyedTree:
    tree: SavedTree
    survey: Survey


def take_survey(items: Iterable[Item], limits: ArchiveLimits) -> Survey:
    """Count `items`. Raises ArchiveError for a limit exceeded and for an entry below an earlier link."""
    surveyor = Surveyor(limits)
    for item in items:
        surveyor.add(item)
    return surveyor.end()


class Surveyor:
    """Counts items one by one.

    Memory grows with the first links only, by about 100 bytes each. Entries below later links, names that
    come twice and entries below a file are left to unpacking with O_EXCL and O_NOFOLLOW into an empty
    directory, which refuses them for nothing.
    """

    def __init__(self, limits: ArchiveLimits) -> None:
        self._limits, self._survey = limits, Survey()
        self._links: set[bytes] = set()
        self._parent = ""

    def add(self, item: Item) -> None:
        """Count an item. Raises as `take_survey`."""
        if not item.name or item.on_the_way:
            return
        _count(self._survey, item)
        _check_amount(self._survey, self._limits)
        if self._links:
            self._check_parent(item.name)
        if item.kind is LINK and len(self._links) < _LINKS:
            self._links.add(_prefix_digests(item.name)[-1])
            self._parent = ""

    def end(self) -> Survey:
        """Return what was counted. Raises as `take_survey`."""
        check_limits(self._survey, self._limits)
        return self._survey

    def _check_parent(self, name: str) -> None:
        parent = name.rpartition("/")[0]
        if parent != self._parent:
            self._parent = parent
            if not self._links.isdisjoint(_prefix_digests(parent)):
                raise bad_entry(name, "lies below a symbolic link")


def _count(survey: Survey, item: Item) -> None:
    if item.kind is FILE:
        survey.files += 1
        survey.size_bytes += item.size
    elif item.kind is DIR:
        survey.directories += 1
    else:
        survey.links += 1
    blocks = 1 if item.kind is DIR else -(-item.size // BLOCK_BYTES)
    survey.disk_bytes += blocks * BLOCK_BYTES
    survey.compressed_bytes += item.packed_size


def check_limits(survey: Survey, limits: ArchiveLimits) -> None:
    """Raise ArchiveError when a survey of everything that is restored exceeds a limit."""
    _check_amount(survey, limits)
    size = survey.size_bytes
    if size > _RATIO_FROM_BYTES and size > survey.compressed_bytes * limits.max_ratio:
        raise ArchiveError(
            f"the archive unpacks to {size} bytes, more than {limits.max_ratio} times as many as it has"
            " (restore.maxRatio)"
        )


def _check_amount(survey: Survey, limits: ArchiveLimits) -> None:
    if survey.entries > limits.max_files:
        raise ArchiveError(
            f"the archive has more entries than the limit of {limits.max_files} allows (restore.maxFiles)"
        )
    if survey.size_bytes > limits.max_bytes:
        raise ArchiveError(
            f"the archive unpacks to more than the limit of {limits.max_bytes} bytes (restore.maxSize)"
        )


def _prefix_digests(name: str) -> list[bytes]:
    """Return a digest of each directory in `name`, and of `name`: linear in its length, however deep."""
    digests = []
    running = hashlib.blake2b(digest_size=16)
    for part in name.split("/"):
        running.update(part.encode("utf-8", "surrogateescape") + b"/")
        digests.append(running.copy().digest())
    return digests
