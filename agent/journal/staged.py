"""Pending uploads: archives that wait on the device, and the ids under which their uploads were requested.

A backup without a destination stages its archive and requests its upload as `X#1`; `trigger` requests all
pending uploads again, as `T#1…T#n`. Old and new ids lead to one archive until it is sent.

Backends may use one id for every backup (`nightly`). Therefore the uploads that were requested together are
a group with its own count of bytes, and the numbers under an id count on: no child id is given twice.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.base.clock import BootClock
from agent.base.job import Upload
from agent.base.times import format_time, parse_time
from agent.journal.unit import Database, Table

_UNWANTED = "staged.unwanted"
"""Checkpoint of a staged archive whose file has to be removed."""

KEPT_IDS = 1000
"""The number of parent ids, those used last, whose last child number is remembered."""

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
    """The options `options.*` of the backup, repeated in every upload request."""
    id: int = 0

    @property
    def owner(self) -> str:
        """Name the checkpoint of its upload, under whichever id it runs."""
        return f"staged-{self.id}"


@dataclass(frozen=True, slots=True)
class Child:
    """A staged archive under one of its ids."""

    child_id: str
    parent_id: str
    staged: Staged
    group_id: int = 0
    """The uploads that were requested together; a newer group has a higher number."""


class StagedArchives(Table):
    """Archives that wait for their uploads."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._clock = BootClock()

    def stage(self, staged: Staged, parent_id: str) -> Child:
        """Keep the archive, with a child id of `parent_id`."""
        with self._database.unit():
            cursor = self._database.write(
                "INSERT INTO staged (path, size, sha256, options) VALUES (?, ?, ?, ?)",
                (os.fsencode(staged.path), staged.size_bytes, staged.sha256, json.dumps(staged.options)),
            )
            assert cursor.lastrowid is not None
            kept = Staged(staged.path, staged.size_bytes, staged.sha256, staged.options, cursor.lastrowid)
            return self.requested(parent_id, [kept])[0]

    def requested(self, parent_id: str, archives: Sequence[Staged]) -> list[Child]:
        """Give each archive a further id, the parent's with `#` and the next number; make them one group."""
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
        """Return the first of `count` numbers that no child of the parent was ever given."""
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
        """Return False when its parent's id was used again since."""
        rows = self._database.read(
            "SELECT newest_group FROM upload_ids WHERE parent_id = ?", (child.parent_id,)
        )
        return not rows or bool(rows[0][0] == child.group_id)

    def child(self, child_id: str) -> Child | None:
        """Return the pending upload with this id, or None. Ids are looked up, never parsed."""
        children = self._children(" WHERE c.child_id = ?", child_id)
        return children[0] if children else None

    def children_of(self, either_id: str) -> list[Child]:
        """Return all pending uploads with this child or parent id, each archive under one of its ids."""
        found = self._children(" WHERE c.child_id = ?1 OR c.parent_id = ?1 ORDER BY c.number", either_id)
        return list({child.staged.id: child for child in found}.values())

    def newest_children(self) -> list[Child]:
        """Return all pending uploads, oldest first, each archive under its last id."""
        newest = {child.staged.id: child for child in self._children(" ORDER BY c.number")}
        return [newest[number] for number in sorted(newest)]

    def _children(self, condition: str, *values: str) -> list[Child]:
        rows = self._database.read(_CHILD + condition, values)
        return [Child(child, parent, _staged(row), group) for child, parent, group, *row in rows]

    def asked_s_ago(self, child: Child) -> float:
        """Return the seconds since the last upload request for this child; infinite for none in this boot."""
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
        """Return the bytes of the group that were sent, and those of all its archives."""
        rows = self._database.read(
            "SELECT sent_bytes, total_bytes FROM upload_groups WHERE id = ?", (group_id,)
        )
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)

    def paths(self) -> set[Path]:
        """Return all staged archives: those that wait, and those that were sent and kept."""
        return {Path(os.fsdecode(path)) for (path,) in self._database.read("SELECT path FROM staged")}

    def moved(self, old_paths: Mapping[Path, Path]) -> None:
        """Keep the new paths of archives, which are the keys."""
        with self._database.unit():
            self._database.write_many(
                "UPDATE staged SET path = ? WHERE path = ?",
                [(os.fsencode(new), os.fsencode(old)) for new, old in old_paths.items()],
            )

    def unwanted(self) -> list[Staged]:
        """Return the archives that were sent or given up, and whose files have to be removed."""
        rows = self._database.read(
            "SELECT path, size, sha256, options, id FROM staged"
            " JOIN checkpoints ON owner = 'staged-' || id WHERE key = ?",
            (_UNWANTED,),
        )
        return [_staged(list(row)) for row in rows]

    def forget(self, staged: Staged) -> None:
        """Forget an archive whose file was removed."""
        with self._database.unit():
            self._database.write("DELETE FROM checkpoints WHERE owner = ?", (staged.owner,))
            self._database.write("DELETE FROM staged WHERE id = ?", (staged.id,))

    def gone(self, staged: Staged, *, kept: bool = False) -> list[int]:
        """Forget all ids of an archive that was sent or given up; return the groups of which nothing waits.

        The archive stays known, so that the next start does not request its upload: for good when its file
        is `kept`, else as `unwanted` until the file is removed. The file goes after this is on the disk.
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


class UnendedUploads(Table):
    """Uploads that subscribers were told of and that have not ended: one for each parent id.

    A parent id that a backend uses again belongs to the newest group that is being uploaded. The older group
    goes on untold: its end would be taken for the newer one's. They are kept so that every upload is told to
    have ended, also when the agent is killed. Progress is not kept: it is not worth a write to the disk.
    """

    def begun(self, upload: Upload) -> None:
        """Keep an upload, in place of an older group's under its parent id."""
        self._database.write(
            "REPLACE INTO uploads (parent_id, started, info, group_id) VALUES (?, ?, ?, ?)",
            (upload.parent_id, format_time(upload.started), json.dumps(upload.info), upload.group_id),
        )

    def of(self, parent_id: str) -> Upload | None:
        """Return the upload under this parent id; None when none was told or it has ended."""
        return next((upload for upload in self.all() if upload.parent_id == parent_id), None)

    def all(self) -> list[Upload]:
        """Return all uploads, oldest first."""
        rows = self._database.read("SELECT parent_id, started, info, group_id FROM uploads ORDER BY started")
        return [
            Upload("", parent_id, json.loads(info), parse_time(started), group_id=group_id)
            for parent_id, started, info, group_id in rows
        ]

    def ended(self, upload: Upload) -> None:
        """Forget an upload, as part of the unit that tells its end."""
        self._database.write("DELETE FROM uploads WHERE parent_id = ?", (upload.parent_id,))


def _staged(row: list[Any]) -> Staged:
    path, size_bytes, sha256, options, number = row
    return Staged(Path(os.fsdecode(path)), size_bytes, sha256, json.loads(options), number)
