"""Archives that are one file: ZIP, plain or encrypted."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import structlog

from agent.base.errors import JobError
from agent.formats.age import decrypt
from agent.formats.age.header import read_header
from agent.formats.archive_names import ENCRYPTED
from agent.formats.base import SavedTree, Unlock
from agent.formats.zip.reader import ArchiveReader

log = structlog.get_logger(__name__)


def open_archive(file: BinaryIO, unlock: Unlock, check: Callable[[], None] = lambda: None) -> SavedTree:
    """Return the tree in a file, which stays the caller's to close. Raises as `FetchedArchive.tree`.

    `check` is called for each item that is listed, and ends the listing by raising.
    """
    return ArchiveReader(decrypt(file, unlock), check)


def is_complete(path: Path) -> bool:
    """Return True for an archive; log a file that is none.

    Kanto's agent writes under the final name, so a crash may leave a part of an archive there. The end of an
    encrypted archive cannot be checked, but agents that make these rename only complete ones.
    """
    try:
        with path.open("rb") as file:
            read_header(file) if path.name.endswith(ENCRYPTED) else ArchiveReader(file)
    except (JobError, OSError):
        log.warning("file ignored: not an archive", file=path.name)
        return False
    return True
