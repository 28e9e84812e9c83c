"""Uploads as subscribers are told of them: one for each parent id, from its first state to its last.

The journal keeps which have begun and not ended; how far they have come is not worth a write to the disk.
"""

from collections.abc import Container
from datetime import UTC, datetime
from functools import partial

from agent.base.job import Upload
from agent.jobs.events import Events, UploadChanged
from agent.jobs.task import INTERRUPTED
from agent.journal import Journal
from agent.journal.staged import Child


class UploadReports:
    """Belongs to the main thread. What is kept is part of the unit of work that is open."""

    def __init__(self, journal: Journal, events: Events) -> None:
        self._journal, self._events = journal, events
        self._earlier = journal.uploads.all()
        """Uploads that an earlier run of the agent began, and whose ends have to be told."""
        self._percent: dict[int, int] = {}

    def begin(self, child: Child, info: dict[str, str]) -> None:
        """Tell that an upload begins: a group's next archive continues it, a newer group takes it over."""
        told = self._told(child.parent_id)
        if told and told.group_id >= child.group_id:
            return
        state = Upload(child.child_id, child.parent_id, info, datetime.now(UTC), group_id=child.group_id)
        self._journal.uploads.begun(state)
        self._events.emit(UploadChanged(self._moved(state, 0)))

    def move(self, child: Child, bytes_done: int) -> None:
        """Tell the progress of the child's group, when that is another percent."""
        told = self._told(child.parent_id)
        if told is None or told.group_id != child.group_id:
            return
        before, state = self._percent.get(told.group_id, 0), self._moved(told, bytes_done)
        if state.progress > before:
            self._percent[told.group_id] = state.progress
            self._events.emit(UploadChanged(state))

    def end(self, group_ids: Container[int]) -> list[Upload]:
        """Forget the uploads of these groups; return their last states, whose ends have to be told."""
        states = [state for state in self._journal.uploads.all() if state.group_id in group_ids]
        with self._journal.unit() as unit:
            for state in states:
                self._journal.uploads.ended(state)
                unit.after_commit(partial(self._percent.pop, state.group_id, None))
        return [state.moved(self._percent.get(state.group_id, 0)) for state in states]

    def report_interrupted(self) -> None:
        """Tell that uploads of an earlier run have failed; their archives wait on."""
        message = "the agent was stopped during the upload: send 'start' again"
        for state in self._earlier:
            if self._journal.uploads.of(state.parent_id) != state:
                continue  # this run began another one under the id
            self._journal.uploads.ended(state)
            self._events.emit(UploadChanged(state.failed(datetime.now(UTC), INTERRUPTED, message)))

    def _told(self, parent_id: str) -> Upload | None:
        """Return the upload with this parent id that this run has told of and that has not ended."""
        told = self._journal.uploads.of(parent_id)
        return None if told in self._earlier else told

    def _moved(self, state: Upload, bytes_done: int) -> Upload:
        sent, total = self._journal.staged.progress(state.group_id)
        percent = 100 * (sent + bytes_done) // max(1, total)
        return state.moved(max(percent, self._percent.get(state.group_id, 0)))
