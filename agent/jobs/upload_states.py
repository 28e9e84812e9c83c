"""What the twin believes of uploads: one state per parent id, from the first word to the last.

Where a backend uses the id again, the state belongs to the newest group of archives with this id that is
being uploaded: the older one goes on untold, so that its end is not taken for the newer one's.

That there is one is in the journal, so that every upload has an end, also when the agent is killed while
several stand in line. How far it has come is not: progress is not worth a write to the disk.
"""

import json
from collections.abc import Container

from agent.base.job import Upload, format_time, parse_time
from agent.jobs.staged_archives import Child
from agent.journal import Journal


class UploadStates:
    """Belongs to the main thread. Changes are part of the journal's transaction that they happen in."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._now: dict[str, Upload] = {}

    def of(self, child: Child) -> Upload | None:
        """The state that this child's group has; None when the twin was told of none, or of a newer one."""
        state = self._now.get(child.parent_id)
        return state if state and state.group_id == child.group_id else None

    def is_told(self, child: Child) -> bool:
        """True while the twin follows this child's group, or a newer one with the parent's id."""
        state = self._now.get(child.parent_id)
        return state is not None and state.group_id >= child.group_id

    def begin(self, state: Upload) -> None:
        with self._journal.transaction() as db:
            db.execute(
                "REPLACE INTO uploads VALUES (?, ?, ?)",
                (state.parent_id, format_time(state.started), json.dumps(state.info)),
            )
        self._now[state.parent_id] = state

    def move(self, state: Upload) -> None:
        self._now[state.parent_id] = state

    def end(self, group_ids: Container[int]) -> list[Upload]:
        """Take out the states of these groups; their ends are now to be told."""
        ended = [state for state in self._now.values() if state.group_id in group_ids]
        for state in ended:
            self._forget(state.parent_id)
            del self._now[state.parent_id]
        return ended

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
