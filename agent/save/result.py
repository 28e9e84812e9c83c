"""The result of a backup, and what people are told of it."""

from dataclasses import dataclass

from agent.base.text import counted
from agent.formats.base import Changes
from agent.formats.entry_checks import ArchiveLimits
from agent.formats.walk_report import Report
from agent.save.change_detection import LastArchive
from providers.api import Stored


@dataclass(frozen=True, slots=True)
class BackupResult:
    report: Report
    size_bytes: int
    sha256: str
    stored: Stored | None
    """None when the archive was staged."""
    fingerprint: str = ""
    """With `skip_unchanged`, that of the saved tree; empty when it is not to be remembered."""
    unchanged: bool = False
    """Nothing had changed: `stored` is the archive of an earlier job."""
    changes: Changes | None = None
    """For a snapshot, the difference to the one before it."""
    note: str = ""
    """A problem after the archive was made, for people; empty without one."""

    @property
    def last(self) -> LastArchive | None:
        """Return the archive to remember for the next backup."""
        made = self.stored
        if made is None or not self.fingerprint:
            return None
        return LastArchive(self.fingerprint, made.name, made.size_bytes, made.etag)


def about(result: BackupResult, limits: ArchiveLimits) -> str:
    """Return a note for people about a successful backup, if any; `limits` are those of a restore here."""
    parts = [result.report.summary(), _beyond(result.report, limits), result.note]
    if result.unchanged and result.stored:
        parts.insert(0, f"nothing has changed since '{result.stored.name}' was stored: no archive was made")
    if result.changes:
        parts = [_told(result.changes), *parts, *result.changes.notes]
    return "; ".join(filter(None, parts))


def _told(changes: Changes) -> str:
    return (
        f"{changes.added_bytes} bytes added; {counted(changes.files_new, 'file')} new,"
        f" {changes.files_changed} changed, {changes.files_unmodified} unmodified"
    )


def _beyond(report: Report, limits: ArchiveLimits) -> str:
    """Return the settings that a restore of this archive needs and the device does not have."""
    entries = report.files + report.directories + report.links
    needed = {
        f"restore.maxSize {report.size_bytes}": report.size_bytes > limits.max_bytes,
        f"restore.maxFiles {entries}": entries > limits.max_files,
    }
    names = " and ".join(name for name, is_beyond in needed.items() if is_beyond)
    return f"a restore needs a higher setting: at least {names}" if names else ""
