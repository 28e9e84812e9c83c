"""The snapshot document: what it says of itself, with the facts of ours in its tags, and its manifest.

Ours has tags, restic's has paths only. Source: restic's `doc/design.rst`, "Snapshots". `restic copy` and
`restic tag` would lose an extra member.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from agent.base.errors import NewerFormat, RepositoryBroken
from agent.base.text import printable
from agent.base.times import format_time
from agent.formats.manifest import FORMAT as MANIFEST_FORMAT
from agent.formats.manifest import Counts, Manifest, ManifestRoot, Origin, SavedDirectory, manifest_root
from agent.formats.repository.golang import time_in, time_text
from agent.formats.repository.saved_node import NO_ID, SavedNode
from agent.formats.walk_report import Report

MOST_BYTES = 1 << 20
"""The longest snapshot that is read."""
FORMAT, ROOT, EXCLUDE = "edge-backup-format", "root", "exclude"
"""Names of tags: the version of what the tags mean, each root and the patterns as manifests have them."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    id: str
    time: datetime
    tree: bytes
    hostname: str
    paths: tuple[str, ...]
    tags: tuple[str, ...]
    program: str
    """The program that wrote it, with its version."""
    summary: Mapping[str, Any]
    """Counts in restic's words; older versions of restic write none."""

    @property
    def begun(self) -> datetime:
        """Return the clock's time before the files were read; `time` may be ahead of it."""
        text = self.summary.get("backup_start")
        try:
            return min(self.time, time_in(text)) if isinstance(text, str) else self.time
        except (ValueError, OverflowError):
            return self.time

    def tag(self, name: str) -> str:
        """Return the value of the first tag `<name>=<value>`; "" when there is none."""
        return next(self.all_tags(name), "")

    def all_tags(self, name: str) -> Iterator[str]:
        return (tag[len(name) + 1 :] for tag in self.tags if tag.startswith(f"{name}="))


def snapshot_json(
    *,
    time: datetime,
    parent: str,
    tree: bytes,
    paths: Sequence[str],
    origin: Origin,
    summary: dict[str, Any],
    tags: Sequence[str],
) -> bytes:
    """Return the JSON of a snapshot; `parent` is "" for the first one."""
    value: dict[str, Any] = {"time": time_text(time)}
    if parent:
        value["parent"] = parent
    value |= {
        "tree": tree.hex(),
        "paths": list(paths),
        "hostname": origin.device,
        "username": "edge-backup",
        "tags": list(tags),
        "program_version": origin.agent,
        "summary": summary,
    }
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def tags_of(origin: Origin, report: Report) -> list[str]:
    """Return the facts about a snapshot that restic has no member for."""
    facts = {"correlation-id": origin.correlation_id} | origin.label.facts()
    tags = [f"{FORMAT}={MANIFEST_FORMAT}", *(f"{name}={value}" for name, value in facts.items() if value)]
    roots = (
        manifest_root(root).model_dump_json(by_alias=True, exclude_defaults=True) for root in origin.sources
    )
    tags += [f"{ROOT}={root}" for root in roots]
    if patterns := origin.excluded_names():
        tags.append(f"{EXCLUDE}={json.dumps(patterns, separators=(',', ':'))}")
    if report.skipped:
        tags.append(f"skipped={report.skipped}")
    return tags


def parsed(snapshot_id: str, document: bytes) -> Snapshot:
    """Return a snapshot from its JSON. Raises `RepositoryBroken`."""
    try:
        value = json.loads(document)
        return Snapshot(
            snapshot_id,
            time_in(value["time"]),
            bytes.fromhex(value["tree"]),
            str(value.get("hostname") or ""),
            tuple(map(str, value["paths"])),
            tuple(map(str, value.get("tags") or ())),
            str(value.get("program_version") or ""),
            dict(value.get("summary") or {}),
        )
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise RepositoryBroken(f"the snapshot {snapshot_id[:8]} is damaged") from error


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
