"""One restore of an archive in a file, with the options that most tests want."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.formats.survey import ArchiveLimits
from agent.formats.zip.reader import ArchiveReader
from agent.restore import Restore, RestoreOptions
from agent.transfer.cancel import CancelToken
from tests.support.trees import Found, snapshot

JOB = "job-1"
NOBODY = 65534
LIMITS = ArchiveLimits(max_files=1_000_000, max_bytes=1 << 40, max_ratio=2000)


@contextmanager
def unpacked(
    target: Path, archive: Path, options: RestoreOptions | None = None, token: CancelToken | None = None
) -> Iterator[Restore]:
    """A restore after its `unpack`; discarded at the end, whatever happens."""
    restore = Restore(target, JOB, options or RestoreOptions(limits=LIMITS), token or CancelToken())
    try:
        with archive.open("rb") as file:
            restore.unpack(ArchiveReader(file))
        yield restore
    finally:
        restore.discard()


def restored(
    target: Path, archive: Path, options: RestoreOptions | None = None, token: CancelToken | None = None
) -> Path:
    """`target` after a whole restore."""
    with unpacked(target, archive, options, token) as restore:
        restore.commit()
    return target


def without_working_directory(root: Path) -> dict[str, Found]:
    """A snapshot of the target while a restore is on."""
    return {name: found for name, found in snapshot(root).items() if not name.startswith(".edge-backup-")}


def is_clean(root: Path) -> bool:
    """Whether no working directory is left."""
    return not any(name.startswith(".edge-backup-") for name in os.listdir(root))
