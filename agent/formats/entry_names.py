"""Names that an archive may restore.

An archive may come from anywhere. Every name is checked here once, before any other code sees it: it is
relative and has no `..`.
"""

import os
import re

from agent.base.errors import ArchiveError
from agent.base.text import readable

PRIVATE_PREFIX = ".edge-backup-"
"""The beginning of the names of working directories, which a restore makes inside its target."""

_DRIVE = re.compile(r"[A-Za-z]:")


def bad_entry(name: str, problem: str) -> ArchiveError:
    """Return the error for an entry; `problem` continues the sentence after the entry's name."""
    return ArchiveError(f"the archive's entry '{readable(name)}' {problem}")


def safe_name(raw: bytes, *, unix: bool, directory: bool = False) -> str:
    """Return the relative name, `os.fsdecode`d, under which `raw` is restored; "" for the root itself.

    Bytes are taken as they are, as Info-ZIP and Go write the names of a Unix file system. A backslash
    separates only in an archive that was not made on Unix, as Kanto's claim to be; the last one of a
    `directory` everywhere, because our dialect `kanto` writes it.

    Raises ArchiveError for a name that is empty or absolute, or has a drive letter, `..` or NUL in it. The
    length is left to the target's file system: 255 bytes a part on most, 765 on VFAT and NTFS.
    """
    if unix and _is_plain(raw):
        return raw.decode("utf-8", "surrogateescape").rstrip("/")  # the rest would return it, too
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
