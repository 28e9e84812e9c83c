"""Names that an archive may restore.

An archive comes from anywhere. Every name is checked here, once, before anything else sees it; what
passes is relative and has no `..`.
"""

import os
import re

from agent.base.errors import ArchiveError
from agent.base.text import readable

PRIVATE_PREFIX = ".edge-backup-"
"""Directories that the agent makes inside a target while it restores begin so. Whose one is, the journal
knows, not its name."""

_DRIVE = re.compile(r"[A-Za-z]:")


def bad_entry(name: str, problem: str) -> ArchiveError:
    """The error for an entry of an archive; `problem` goes on from its name."""
    return ArchiveError(f"the archive's entry '{readable(name)}' {problem}")


def safe_name(raw: bytes, *, unix: bool, directory: bool = False) -> str:
    """The relative name, `os.fsdecode`d, that `raw` may be restored under; "" for the root itself.

    Bytes are taken as they are, whatever the archive says of their encoding: that is how Info-ZIP and
    Go write the names of a Unix file system. Only in an archive that was not made on Unix (Kanto's say
    so) a backslash separates. With `directory`, one backslash at the end does so everywhere when there
    is no slash: our own dialect `kanto` writes it.

    Raises ArchiveError for a name that is empty, absolute, with a drive letter, `..` or NUL in it. How long
    a part may be, only the target's file system knows: 255 bytes on most, 765 on VFAT and NTFS.
    """
    if unix and _is_plain(raw):
        return raw.decode("utf-8", "surrogateescape").rstrip("/")  # what the rest would come to
    if directory and raw.endswith(b"\\"):
        raw = raw[:-1] + b"/"
    if not unix:
        raw = raw.replace(b"\\", b"/")
    if directory and raw and not raw.strip(b"/"):
        return ""  # "/" for the root itself, as some services write it
    name = os.fsdecode(raw)
    if not raw or b"\0" in raw:
        raise bad_entry(name, "has no usable name: it is empty or holds a NUL")
    if raw.startswith(b"/") or (not unix and _DRIVE.match(name)):
        raise bad_entry(name, "is absolute; only relative names are restored")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise bad_entry(name, "points above the directory to restore to ('..')")
    return "/".join(parts)


def _is_plain(raw: bytes) -> bool:
    """Return True for a name that is safe as it stands, as most are."""
    if not raw or raw.startswith((b"/", b".")):
        return False
    return not (b"/." in raw or b"//" in raw or b"\\" in raw or b"\0" in raw)
