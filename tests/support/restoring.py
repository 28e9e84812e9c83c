"""One restore of an archive in a file, with the options that most tests want."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from agent.base.roots import Root
from agent.formats.base import SavedTree
from agent.formats.entry_checks import ArchiveLimits, SurveyedTree, take_survey
from agent.formats.zip.reader import ArchiveReader
from agent.restore.restore_set import RestoreSet
from agent.restore.root import RestoreOptions, RestoreRoot
from agent.transfer.cancel import CancelToken
from agent.transfer.streams import Progress, no_progress
from tests.support.trees import Found, snapshot

JOB = "job-1"
NOBODY = 65534
LIMITS = ArchiveLimits(max_files=1_000_000, max_bytes=1 << 40, max_ratio=2000)


def restore_into(
    target: Path,
    options: RestoreOptions | None = None,
    token: CancelToken | None = None,
    progress: Progress = no_progress,
    expected: Progress = no_progress,
) -> RestoreSet:
    """A restore into one directory, not begun yet."""
    root = RestoreRoot(Root("", target), JOB, options or RestoreOptions(limits=LIMITS))
    return RestoreSet([root], token or CancelToken(), progress, expected=expected)


def tree_in(file: BinaryIO, limits: ArchiveLimits = LIMITS) -> SurveyedTree:
    """The content of a ZIP archive, ready to be unpacked."""
    return surveyed(ArchiveReader(file), limits)


def surveyed(tree: SavedTree, limits: ArchiveLimits = LIMITS) -> SurveyedTree:
    """`tree` with its survey."""
    return SurveyedTree(tree, take_survey(tree.items(), limits))


@contextmanager
def unpacked(
    target: Path, archive: Path, options: RestoreOptions | None = None, token: CancelToken | None = None
) -> Iterator[RestoreSet]:
    """A restore after its `unpack`; discarded at the end, whatever happens."""
    restore = restore_into(target, options, token)
    try:
        with archive.open("rb") as file:
            restore.unpack([tree_in(file, options.limits if options else LIMITS)])
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
    """Return True when no working directory is left."""
    return not any(name.startswith(".edge-backup-") for name in os.listdir(root))
