"""Archives that wait on the device for their upload, and the ids under which they were offered.

A backup without a destination stages its archive and offers it as `X#1`; `trigger` offers all that wait
again, as `T#1…T#n`. Old and new ids lead to the same archive until it is sent.

Backends may use one id for every backup (`nightly`). So what was offered together is a group of its own,
with the bytes of this one job, and the numbers of an id count on: no child id is given twice.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.base.clock import BootClock
from agent.base.job import Upload, format_time, parse_time
from agent.journal.unit import Database

_UNWANTED = "staged.unwanted"
"""Checkpoint of a staged archive that nobody waits for any more."""

KEPT_IDS = 1000
"""How many parent ids, those used last, the journal remembers with the last number that they were given."""

_CHILD = (
    "SELECT c.child_id, c.parent_id, c.group_id, s.path, s.size, s.sha256, s.options, s.id"
    " FROM children c JOIN staged s ON s.id = c.staged_id"
)


@dataclass(frozen=True, slots=True)
class Staged:
    """A complete archive on the device's disk."""

    path: Path
    size_bytes: int = 0
    sha256: str = ""
    options: dict[str, str] = field(default_factory=dict)
    """What the backup was asked to pass on (`options.*`), repeated in every upload request."""
    id: int = 0

    @property
    def owner(self) -> str:
        """Names the checkpoint of its upload: the same under all ids."""
        return f"staged-{self.id}"


@dataclass(frozen=True, slots=True)
class Child:
    """A staged archive under one of the ids that the backend knows."""

    child_id: str
    parent_id: str
    staged: Staged
    group_id: int = 0
    """One number for all that was offered together; newer groups have higher ones."""


class StagedArchives:
    """Changes are part of the unit that is open."""

    def __init__(self, database: Database) -> None:
        self._database, self._clock = database, BootClock()

    def stage(self, staged: Staged, parent_id: str) -> Child:
        """Keep the archive, and offer it under a child id of `parent_id`."""
        with self._database.unit():
            cursor = self._database.write(
                "INSERT INTO staged (path, size, sha256, options) VALUES (?, ?, ?, ?)",
                (os.fsencode(staged.path), staged.size_bytes, staged.sha256, json.dumps(staged.options)),
            )
            assert cursor.lastrowid is not None
            kept = Staged(staged.path, staged.size_bytes, staged.sha256, staged.options, cursor.lastrowid)
            return self.offer(parent_id, [kept])[0]

    def offer(self, parent_id: str, archives: Sequence[Staged]) -> list[Child]:
        """Give each archive a further id: the parent's with `#` and the next number. They are one group."""
        with self._database.unit():
            cursor = self._database.write(
                "INSERT INTO upload_groups (parent_id, total_bytes, sent_bytes) VALUES (?, ?, 0)",
                (parent_id, sum(staged.size_bytes for staged in archives)),
            )
            assert cursor.lastrowid is not None
            group_id = cursor.lastrowid
            first = self._take_numbers(parent_id, len(archives), group_id)
            children = [
                Child(f"{parent_id}#{number}", parent_id, staged, group_id)
                for number, staged in enumerate(archives, first)
            ]
            self._database.write_many(
                "INSERT INTO children (child_id, parent_id, staged_id, group_id) VALUES (?, ?, ?, ?)",
                [(child.child_id, parent_id, child.staged.id, group_id) for child in children],
            )
        return children

    def _take_numbers(self, parent_id: str, count: int, group_id: int) -> int:
        """The first of `count` numbers that no child of the parent was ever given."""
        with self._database.unit():
            rows = self._database.read("SELECT last_number FROM upload_ids WHERE parent_id = ?", (parent_id,))
            last = int(rows[0][0]) if rows else 0
            self._database.write(
                "REPLACE INTO upload_ids (parent_id, last_number, newest_group) VALUES (?, ?, ?)",
                (parent_id, last + count, group_id),
            )
            self._database.write(
                "DELETE FROM upload_ids WHERE parent_id NOT IN (SELECT parent_id FROM children)"
                " AND id NOT IN (SELECT id FROM upload_ids ORDER BY id DESC LIMIT ?)",
                (self._database.room_for(KEPT_IDS),),
            )
        return last + 1

    def is_newest(self, child: Child) -> bool:
        """False when its parent's id was used again since."""
        rows = self._database.read(
            "SELECT newest_group FROM upload_ids WHERE parent_id = ?", (child.parent_id,)
        )
        return not rows or bool(rows[0][0] == child.group_id)

    def child(self, child_id: str) -> Child | None:
        """The archive that was offered under this id and still waits. Ids are looked up, never parsed."""
        children = self._children(" WHERE c.child_id = ?", child_id)
        return children[0] if children else None

    def children_of(self, either_id: str) -> list[Child]:
        """All archives that wait under this child or parent id, each under one of its ids."""
        found = self._children(" WHERE c.child_id = ?1 OR c.parent_id = ?1 ORDER BY c.number", either_id)
        return list({child.staged.id: child for child in found}.values())

    def newest_children(self) -> list[Child]:
        """All archives that wait, oldest first, each under the id that it was offered under last."""
        newest = {child.staged.id: child for child in self._children(" ORDER BY c.number")}
        return [newest[number] for number in sorted(newest)]

    def _children(self, condition: str, *values: str) -> list[Child]:
        rows = self._database.read(_CHILD + condition, values)
        return [Child(child, parent, _staged(row), group) for child, parent, group, *row in rows]

    def asked_s_ago(self, child: Child) -> float:
        """Seconds since the last upload request for this child; infinite when none went out in this boot."""
        rows = self._database.read(
            "SELECT asked_boot, asked_s FROM children WHERE child_id = ?", (child.child_id,)
        )
        return self._clock.age_s(*rows[0]) if rows else 0.0

    def asked(self, child: Child) -> None:
        """Keep that an upload request goes out now."""
        self._database.write(
            "UPDATE children SET asked_boot = ?, asked_s = ? WHERE child_id = ?",
            (*self._clock.now(), child.child_id),
        )

    def progress(self, group_id: int) -> tuple[int, int]:
        """Bytes that were sent of all that was offered together, and those in all."""
        rows = self._database.read(
            "SELECT sent_bytes, total_bytes FROM upload_groups WHERE id = ?", (group_id,)
        )
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)

    def paths(self) -> set[Path]:
        """All archives that are known here: those that wait, and those that were sent and kept."""
        return {Path(os.fsdecode(path)) for (path,) in self._database.read("SELECT path FROM staged")}

    def unwanted(self) -> list[Staged]:
        """Archives that were sent or given up, and whose files are still to be removed."""
        rows = self._database.read(
            "SELECT path, size, sha256, options, id FROM staged"
            " JOIN checkpoints ON owner = 'staged-' || id WHERE key = ?",
            (_UNWANTED,),
        )
        return [_staged(list(row)) for row in rows]

    def forget(self, staged: Staged) -> None:
        """Its file is gone for good."""
        with self._database.unit():
            self._database.write("DELETE FROM checkpoints WHERE owner = ?", (staged.owner,))
            self._database.write("DELETE FROM staged WHERE id = ?", (staged.id,))

    def gone(self, staged: Staged, *, kept: bool = False) -> list[int]:
        """Forget all ids of an archive that was sent or given up: the groups of which now nothing waits.

        It stays known, so that nobody takes it for one that still waits: when it is `kept` on the disk for
        good, else as `unwanted` until its file is removed. The file can only go after this is on the disk.
        """
        with self._database.unit():
            self._database.write(
                "UPDATE upload_groups SET sent_bytes = sent_bytes + ? WHERE id IN"
                " (SELECT group_id FROM children WHERE staged_id = ?)",
                (staged.size_bytes, staged.id),
            )
            self._database.write("DELETE FROM checkpoints WHERE owner = ?", (staged.owner,))
            self._database.write("DELETE FROM children WHERE staged_id = ?", (staged.id,))
            if not kept:
                self._database.write(
                    "INSERT INTO checkpoints VALUES (?, ?, 'yes')", (staged.owner, _UNWANTED)
                )
            rows = self._database.write(
                "DELETE FROM upload_groups WHERE id NOT IN (SELECT group_id FROM children) RETURNING id"
            )
            return [group_id for (group_id,) in rows]


class UnendedUploads:
    """Uploads that the twin was told of and that have not ended: one for each parent id.

    Where a backend uses the id again, it belongs to the newest group of archives that is being uploaded: the
    older one goes on untold, so that its end is not taken for the newer one's. It is kept so that every
    upload has an end, also when the agent is killed while several wait in line. How far one has come is not
    kept: progress is not worth a write to the disk.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def begun(self, upload: Upload) -> None:
        """Keep an upload; it takes the place of an older group's with the same parent id."""
        self._database.write(
            "REPLACE INTO uploads (parent_id, started, info, group_id) VALUES (?, ?, ?, ?)",
            (upload.parent_id, format_time(upload.started), json.dumps(upload.info), upload.group_id),
        )

    def of(self, parent_id: str) -> Upload | None:
        """The upload under this parent id; None when none was told or it has ended."""
        return next((upload for upload in self.all() if upload.parent_id == parent_id), None)

    def all(self) -> list[Upload]:
        """The oldest first."""
        rows = self._database.read("SELECT parent_id, started, info, group_id FROM uploads ORDER BY started")
        return [
            Upload("", parent_id, json.loads(info), parse_time(started), group_id=group_id)
            for parent_id, started, info, group_id in rows
        ]

    def ended(self, upload: Upload) -> None:
        """Forget it: its end is told in the unit that is open."""
        self._database.write("DELETE FROM uploads WHERE parent_id = ?", (upload.parent_id,))


def _staged(row: list[Any]) -> Staged:
    path, size_bytes, sha256, options, number = row
    return Staged(Path(os.fsdecode(path)), size_bytes, sha256, json.loads(options), number)
