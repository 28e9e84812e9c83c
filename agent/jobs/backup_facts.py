"""Facts about a finished backup, for the journal and for its last message."""

from typing import TYPE_CHECKING

from agent.base.sources import ArchiveSource, Extent, is_emptied, last_full
from agent.journal import Journal

if TYPE_CHECKING:
    from agent.save.result import BackupResult


def facts_of(result: "BackupResult") -> dict[str, object]:
    """Return the facts for the history. An unchanged directory was not counted."""
    report = result.report
    facts: dict[str, object] = {
        "excluded": report.excluded,
        "unexportable": report.skipped,
    }
    if result.changes:
        facts |= {
            "added_bytes": result.changes.added_bytes,
            "files_new": result.changes.files_new,
            "files_changed": result.changes.files_changed,
            "files_unmodified": result.changes.files_unmodified,
        }
    else:
        facts["archive_bytes"] = result.size_bytes
    if not result.unchanged:
        facts |= {"files": report.files, "content_bytes": report.size_bytes}
    if result.sha256:
        facts["sha256"] = result.sha256
    return facts


def extent_of(result: "BackupResult") -> Extent:
    return Extent(result.report.files, result.report.size_bytes)


def emptied(journal: Journal, source: ArchiveSource, result: "BackupResult", percent: int) -> str:
    """Return a warning when this archive has far less than the last full one of its source."""
    extent = extent_of(result)
    before = last_full(journal.archives.extents(source), lambda extent: extent, percent)
    if result.unchanged or before is None or not is_emptied(extent, before, percent):
        return ""
    fewer = f"only {extent.size_bytes} bytes, and {before.size_bytes} the last time: is every dump whole?"
    if is_emptied(Extent(extent.files, None), before, percent):
        fewer = f"only {extent.files} files, and {before.files} the last time: is everything mounted?"
    return f"{fewer} The full archives stay, this one is counted apart (retention.emptiedPercent)"
