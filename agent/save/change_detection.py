"""Change detection: no backup is made while the tree has the fingerprint of the last archive.

A fingerprint covers names, kinds, sizes, modes, owners, inodes, times in nanoseconds (also the inode's, which
no program can set), and the skipped entries.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from agent.formats.entries import Entry, may_change_unseen
from agent.formats.walk_report import Report
from providers.api import Capability, Storage
from providers.errors import StorageError


@dataclass(frozen=True, slots=True)
class LastArchive:
    """A stored archive, and the fingerprint of the tree before it was made."""

    fingerprint: str
    name: str
    size_bytes: int
    etag: str


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A hash of a tree. `settled` is False when a change may leave the hash as it is."""

    digest: str
    settled: bool
    report: Report


class Fingerprinter:
    """Takes the fingerprint of a tree: give `report` to a walk, and the walk's entries to `of`."""

    def __init__(self, about: str) -> None:
        """`about` holds the other facts that the archive depends on."""
        self._hash = hashlib.sha256(about.encode())
        self.report = Report(on_skipped=self._add)

    def of(self, entries: Iterable[Entry]) -> Fingerprint:
        settled = True
        for entry in entries:
            stat = entry.stat
            young = may_change_unseen(stat.st_mtime_ns, stat.st_ctime_ns, entry.seen_ns)
            settled = settled and not young
            self._add(
                *(entry.name, entry.target, stat.st_mode, stat.st_size, stat.st_uid, stat.st_gid),
                *(stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino),
            )
        if top := self.report.top:
            # Without its times: a change of excluded files changes them, too.
            self._add(top.stat.st_mode, top.stat.st_uid, top.stat.st_gid, sorted(top.xattrs.items()))
        return Fingerprint(self._hash.hexdigest(), settled, self.report)

    def _add(self, *facts: object) -> None:
        self._hash.update(repr(facts).encode("utf-8", "surrogatepass"))


def is_still_there(storage: Storage, last: LastArchive) -> bool:
    """Return True when the archive is known to be where it was stored."""
    if Capability.STAT not in storage.capabilities:
        return False
    try:
        found = storage.stat(last.name)
    except StorageError:
        return False
    return (found.size_bytes, found.etag) == (last.size_bytes, last.etag) and bool(last.etag)
