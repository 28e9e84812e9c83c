"""Archives that are one file: ZIP, plain or encrypted."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import structlog

from agent.base.errors import JobError
from agent.formats.age.files import decrypt
from agent.formats.age.header import read_header
from agent.formats.archive_names import ENCRYPTED
from agent.formats.base import SavedTree, Unlock
from agent.formats.zip.reader import ArchiveReader

log = structlog.get_logger(__name__)


def open_archive(file: BinaryIO, unlock: Unlock, check: Callable[[], None] = lambda: None) -> SavedTree:
    """Return what is in the archive; the file stays the caller's. Raises as `FetchedArchive.tree`.

    `check` is called for each item that is listed, and ends the listing by raising.
    """
    return ArchiveReader(decrypt(file, unlock), check)


def is_complete(path: Path) -> bool:
    """Say whether the file is an archive; log it when it is none.

    Kanto's agent writes under the final name: what a crash of it left is no archive. The end of an encrypted
    archive cannot be looked at, but only agents that rename what is complete make them.
    """
    try:
        with path.open("rb") as file:
            read_header(file) if path.name.endswith(ENCRYPTED) else ArchiveReader(file)
    except (JobError, OSError):
        log.warning("not an archive, left alone", file=path.name)
        return False
    return True
