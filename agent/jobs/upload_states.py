"""What the twin believes of uploads: one state per parent id, from the first word to the last.

That there is one is in the journal, so that every upload has an end, also when the agent is killed while
several stand in line. How far it has come is not: progress is not worth a write to the disk.
"""

import json

from agent.base.job import Upload, format_time, parse_time
from agent.journal import Journal


class UploadStates:
    """Belongs to the main thread. Changes are part of the journal's transaction that they happen in."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._now: dict[str, Upload] = {}

    def of(self, parent_id: str) -> Upload | None:
        return self._now.get(parent_id)

    def begin(self, state: Upload) -> None:
        with self._journal.transaction() as db:
            db.execute(
                "REPLACE INTO uploads VALUES (?, ?, ?)",
                (state.parent_id, format_time(state.started), json.dumps(state.info)),
            )
        self._now[state.parent_id] = state

    def move(self, state: Upload) -> None:
        self._now[state.parent_id] = state

    def end(self, parent_id: str) -> Upload | None:
        """The last state before the end, which is now to be told; None when there is none."""
        self._forget(parent_id)
        return self._now.pop(parent_id, None)

    def left_behind(self) -> list[Upload]:
        """Take out those that an earlier run of the agent began; their ends are now to be told."""
        with self._journal.transaction() as db:
            rows = db.execute("SELECT parent_id, started, info FROM uploads ORDER BY started").fetchall()
            left = [
                Upload("", parent_id, json.loads(info), parse_time(started))
                for parent_id, started, info in rows
                if parent_id not in self._now
            ]
            for state in left:
                self._forget(state.parent_id)
        return left

    def _forget(self, parent_id: str) -> None:
        with self._journal.transaction() as db:
            db.execute("DELETE FROM uploads WHERE parent_id = ?", (parent_id,))
