"""A look at a whole archive before the first byte of it is unpacked."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from agent.base.errors import ArchiveError
from agent.formats.base import DIR, FILE, LINK, Item
from agent.formats.names import bad_entry
from providers.free_space import BLOCK_BYTES

_RATIO_FROM_BYTES = 64 << 20
"""A ratio says nothing about little: an empty log of 1 MiB of zeros is no bomb."""

_LINKS = 100_000  # that are remembered, in about 10 MiB


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Limits of a device for archives that it unpacks."""

    max_files: int
    """Entries of any kind."""
    max_bytes: int
    max_ratio: int
    """Unpacked to packed bytes of the whole archive; looked at from 64 MiB unpacked."""


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


def take_survey(items: Iterable[Item], limits: ArchiveLimits) -> Survey:
    """Count `items`. Raises ArchiveError for a limit exceeded and for an entry below an earlier link.

    Memory grows with the first links only, by about 100 bytes each. What lies below a later one, that
    no name comes twice, and nothing below a file, is not looked for: unpacking with O_EXCL and O_NOFOLLOW
    into an empty directory finds it for nothing.
    """
    survey = Survey()
    links: set[bytes] = set()
    parent = ""
    for entry in items:
        if not entry.name or entry.on_the_way:
            continue
        _count(survey, entry)
        _check(survey, limits)
        if links and entry.name.rpartition("/")[0] != parent:
            parent = entry.name.rpartition("/")[0]
            if not links.isdisjoint(_prefix_digests(parent)):
                raise bad_entry(entry.name, "lies below a symbolic link")
        if entry.kind is LINK and len(links) < _LINKS:
            links.add(_prefix_digests(entry.name)[-1])
            parent = ""
    _check_ratio(survey, limits)
    return survey


def _count(survey: Survey, entry: Item) -> None:
    size = entry.size
    if entry.kind is FILE:
        survey.files += 1
    elif entry.kind is DIR:
        survey.directories += 1
    else:
        survey.links += 1
        size = 0
    survey.size_bytes += size
    blocks = 1 if entry.kind is DIR else -(-entry.size // BLOCK_BYTES)
    survey.disk_bytes += blocks * BLOCK_BYTES
    survey.compressed_bytes += entry.packed_size


def _check(survey: Survey, limits: ArchiveLimits) -> None:
    if survey.entries > limits.max_files:
        raise ArchiveError(
            f"the archive has more entries than the limit of {limits.max_files} allows (restore.maxFiles)"
        )
    if survey.size_bytes > limits.max_bytes:
        raise ArchiveError(
            f"the archive unpacks to more than the limit of {limits.max_bytes} bytes (restore.maxSize)"
        )


def _check_ratio(survey: Survey, limits: ArchiveLimits) -> None:
    size = survey.size_bytes
    if size > _RATIO_FROM_BYTES and size > survey.compressed_bytes * limits.max_ratio:
        raise ArchiveError(
            f"the archive unpacks to {size} bytes, more than {limits.max_ratio} times as many as it has"
            " (restore.maxRatio)"
        )


def _prefix_digests(name: str) -> list[bytes]:
    """A digest of each directory in `name`, and of `name`: linear in its length, however deep it is."""
    digests = []
    running = hashlib.blake2b(digest_size=16)
    for part in name.split("/"):
        running.update(part.encode("utf-8", "surrogateescape") + b"/")
        digests.append(running.copy().digest())
    return digests
