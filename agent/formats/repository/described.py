"""The manifest of a snapshot, from what its document says: ours has tags, restic's has paths only."""

import json
import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from agent.base.errors import NewerFormat, RepositoryBroken
from agent.base.text import printable
from agent.base.times import format_time
from agent.formats.manifest import FORMAT as MANIFEST_FORMAT
from agent.formats.manifest import Counts, Manifest, ManifestRoot, SavedDirectory
from agent.formats.repository.document import EXCLUDE, FORMAT, ROOT, Snapshot
from agent.formats.repository.golang import time_in
from agent.formats.repository.saved_node import NO_ID, SavedNode

_MOST_ROOTS = 10_000


def manifest_of(
    snapshot: Snapshot, sole: ManifestRoot | None = None, top: SavedNode | None = None
) -> Manifest:
    """Return the manifest; `sole` is its only root where that was looked for, and `top` the node of that.

    Raises `RepositoryBroken`, and `NewerFormat` for a snapshot of a later format.
    """
    _check_format(snapshot)
    summary = snapshot.summary
    try:
        return Manifest(
            device=snapshot.hostname,
            agent=snapshot.program,
            created=format_time(snapshot.time),
            ended=_ended(summary),
            correlation_id=snapshot.tag("correlation-id"),
            sources=[sole] if sole else list(roots_of(snapshot)),
            counts=Counts(
                files=_count(summary, "total_files_processed"), bytes=_count(summary, "total_bytes_processed")
            ),
            exclude=json.loads(snapshot.tag(EXCLUDE) or "{}"),
            skipped=int(snapshot.tag("skipped") or 0),
            root=top and _saved(top),
            name=snapshot.tag("name"),
            description=snapshot.tag("description"),
            retention_date=snapshot.tag("retention_date"),
        )
    except (ValueError, OverflowError, RecursionError, ValidationError) as error:
        raise _broken(snapshot) from error


def has_roots(snapshot: Snapshot) -> bool:
    """Return True when the snapshot says in tags of ours what it is of."""
    return bool(snapshot.tag(FORMAT))


def roots_of(snapshot: Snapshot) -> tuple[ManifestRoot, ...]:
    """Return what was saved; nothing for files that a command collected. Raises `RepositoryBroken`."""
    if not has_roots(snapshot):
        return _of_paths(snapshot)
    texts = [*snapshot.all_tags(ROOT)]
    if len(texts) > _MOST_ROOTS:
        raise _broken(snapshot)
    try:
        roots = tuple(map(ManifestRoot.model_validate_json, texts))
    except ValidationError as error:
        raise _broken(snapshot) from error
    if not all(root.path.startswith("/") for root in roots):
        raise _broken(snapshot)
    return roots


def _of_paths(snapshot: Snapshot) -> tuple[ManifestRoot, ...]:
    """Return the root of a snapshot without our tags: its path, or its paths in the directory around them."""
    # rustic keeps relative paths as they were given.
    paths = sorted({os.path.normpath(f"/{path.lstrip('/')}") for path in snapshot.paths})
    if not paths:
        raise RepositoryBroken(f"the snapshot {snapshot.id[:8]} is of no directory")
    around = os.path.commonpath(paths)
    names = [os.path.relpath(path, around) for path in paths] if around not in paths else None
    return (ManifestRoot(path=printable(around), names=None if names is None else [*map(printable, names)]),)


def _check_format(snapshot: Snapshot) -> None:
    number = snapshot.tag(FORMAT) or str(MANIFEST_FORMAT)
    if not number.isdecimal():
        raise _broken(snapshot)
    if int(number[:9]) > MANIFEST_FORMAT:
        known = f"this agent knows formats up to {MANIFEST_FORMAT}: update the agent"
        raise NewerFormat(f"the snapshot has format {number[:9]}, and {known}")


def _ended(summary: Mapping[str, Any]) -> str:
    text = summary.get("backup_end")
    return format_time(time_in(text)) if isinstance(text, str) else ""


def _count(summary: Mapping[str, Any], name: str) -> int:
    value = summary.get(name, 0)
    return value if isinstance(value, int) else 0


def _saved(top: SavedNode) -> SavedDirectory | None:
    """Return the facts of the saved directory; None for those that no file system has."""
    if NO_ID in (top.uid, top.gid):
        return None
    xattrs = [(os.fsencode(name) + b"\0" + value).hex() for name, value in top.xattrs.items()]
    return SavedDirectory(
        mode=top.mode & 0o7777, uid=top.uid, gid=top.gid, mtime_ns=top.mtime_ns, xattrs=xattrs
    )


def directory_missing(path: str) -> RepositoryBroken:
    return RepositoryBroken(f"the snapshot does not hold the directory '{path}' that it is of")


def _broken(snapshot: Snapshot) -> RepositoryBroken:
    return RepositoryBroken(f"the snapshot {snapshot.id[:8]} is damaged: its tags contradict each other")
