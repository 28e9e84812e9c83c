"""The report of a backup: how much was saved, and what was not."""

import errno
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.base.errors import IoError, SourceChanged
from agent.base.text import readable
from agent.formats.attributes import AttributeBudget

MAX_NAMED = 1000
"""Names of skipped entries that a report keeps; the rest is only counted."""
_MOUNTS_TOLD = 3
WITHHELD = "unexportable by the device's settings"
"""The reason for entries that a rule in the settings names."""
OWN = "the agent's own: storage, archives or work"
KERNEL_S = "a file system of the kernel's own"

_REASONS = {
    errno.ENOENT: "vanished",
    errno.ESTALE: "vanished",
    errno.ELOOP: "changed while read",  # O_NOFOLLOW: it has become a link
    errno.ENOTDIR: "changed while read",
    errno.EINVAL: "changed while read",  # readlink: it is a link no more
    errno.ENXIO: "socket",  # it has become one
}
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""Errors that say nothing of the file: the next one could not be read either."""


@dataclass(frozen=True, slots=True)
class Top:
    """Status and attributes of a saved directory itself."""

    stat: os.stat_result
    xattrs: Mapping[str, bytes]
    seen_ns: int = field(default_factory=time.time_ns)


@dataclass(slots=True)
class Report:
    """The report of a backup. It stays small, whatever the backup finds."""

    on_skipped: Callable[[str, str], None] | None = None
    """Called with (name, reason) for everything that was skipped, in the job's thread."""
    files: int = 0
    directories: int = 0
    links: int = 0
    size_bytes: int = 0
    """Content of the files in the archive, before compression."""
    read_bytes: int = 0
    """Content that was read, with the present file: the progress of the backup."""
    excluded: int = 0
    """Entries that patterns passed over; a directory counts once, with all that is in it."""
    passed_over: list[tuple[str, str]] = field(default_factory=list)
    """The first excluded directories that no pattern names, each with the reason: OWN or KERNEL_S."""
    mounts: list[str] = field(default_factory=list)
    """The first mount points; the content of their file systems is in the archive, too."""
    skipped: int = 0
    """Entries that are not in the archive as they were on the disk, with files that changed meanwhile."""
    reasons: dict[str, int] = field(default_factory=dict)
    top: Top | None = None
    """The saved directory itself, where it has no entry in the archive."""
    attributes: AttributeBudget = field(default_factory=AttributeBudget)
    """For the extended attributes of the whole archive."""
    unexportable: list[tuple[str, str]] = field(default_factory=list)
    """The first skipped names, printable and of bounded length, each with the reason."""

    @property
    def failures(self) -> int:
        """Return the number of skipped entries that no rule of the settings names."""
        return self.skipped - self.reasons.get(WITHHELD, 0)

    def refuse_failures(self) -> None:
        """Raise `SourceChanged` when there are failures."""
        if self.failures:
            raise SourceChanged(f"strictBackup is set, and {self._skipped_text()}")

    def summary(self) -> str:
        """Return for people what was skipped and what is mounted; "" when there is nothing to say."""
        return "; ".join(filter(None, (self._skipped_text(), self._mounts_text())))

    def _skipped_text(self) -> str:
        if not self.skipped:
            return ""
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.reasons.items()))
        noun = "entry" if self.skipped == 1 else "entries"
        return f"{self.skipped} {noun} skipped: {reasons}"

    def _mounts_text(self) -> str:
        if not self.mounts:
            return ""
        names = ", ".join(f"'{name}'" for name in self.mounts[:_MOUNTS_TOLD])
        more = f" and {len(self.mounts) - _MOUNTS_TOLD} more" if len(self.mounts) > _MOUNTS_TOLD else ""
        return f"what is mounted at {names}{more} is in it, too"

    def enter_mount(self, name: str) -> None:
        """Note a directory that another file system is mounted on."""
        if len(self.mounts) < MAX_NAMED:
            self.mounts.append(readable(name))

    def pass_over(self, name: str, reason: str) -> None:
        """Count a directory as excluded that no pattern names."""
        self.excluded += 1
        if len(self.passed_over) < MAX_NAMED:
            self.passed_over.append((readable(name), reason))

    def skip(self, name: str, reason: str) -> None:
        """Count `name` as skipped. `reason` is one of a few fixed texts."""
        self.skipped += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        shown = readable(name)
        if len(self.unexportable) < MAX_NAMED:
            self.unexportable.append((shown, reason))
        if self.on_skipped is not None:
            self.on_skipped(shown, reason)


def reason_of(error: OSError) -> str:
    """Return the report's text for an error while reading.

    Raises IoError when the device has no descriptor or memory left: an empty archive would be no backup.
    """
    if error.errno in _EXHAUSTED:
        raise IoError(f"cannot read any more files: {os.strerror(error.errno)}") from error
    return _REASONS.get(error.errno or 0, "unreadable")
