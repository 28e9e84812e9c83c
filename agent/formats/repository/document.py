"""The snapshot document: what it says of itself, and the facts of ours in its tags.

Source: restic's `doc/design.rst`, "Snapshots". `restic copy` and `restic tag` would lose an extra member.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.base.errors import RepositoryBroken
from agent.formats.manifest import FORMAT as MANIFEST_FORMAT
from agent.formats.manifest import Origin, manifest_root
from agent.formats.repository.golang import time_in, time_text
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
