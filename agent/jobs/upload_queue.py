"""Uploads of staged archives, one at a time, beside a job; further uploads wait in line.

Subscribers see one upload for each parent id: that of a backup's archive, or all that a `trigger` requested.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import structlog

from agent.base.job import Upload
from agent.base.refusals import Reason, Refused
from agent.jobs.admission import Admission, Admitted, metadata
from agent.jobs.events import UploadChanged
from agent.jobs.foundation import Foundation
from agent.jobs.requests.control import CancelRequest, StartRequest
from agent.jobs.task import Outcome, Task, Tools, cancelled_by
from agent.jobs.upload_reports import UploadReports
from agent.jobs.upload_requests import PendingUploads
from agent.journal import Unit
from agent.journal.staged import Child
from agent.transfer.archive_files import UploadOrder, upload
from providers.api import Stored
from providers.errors import Expired

log = structlog.get_logger(__name__)

MAX_RENEWALS = 3
"""The number of times that an upload asks for fresh credentials before it fails."""


@dataclass(slots=True)
class _Entry:
    """An upload that runs or waits for its turn."""

    child: Child
    info: dict[str, str]
    tools: Tools
    order: UploadOrder


class Uploads:
    """Belongs to the main thread."""

    def __init__(self, base: Foundation) -> None:
        self._settings, self._journal, self._workers = base.settings, base.journal, base.workers
        self._device, self._events, self._recorder = base.device, base.events, base.recorder
        self.pending = PendingUploads(base, in_line=self._is_in_line, give_up=self._give_up)
        self._admission = Admission(base.settings)
        self._line: deque[_Entry] = deque()
        self.reports = UploadReports(base.journal, base.events)
        self._renewals: dict[int, int] = {}

    @property
    def idle(self) -> bool:
        return not self._line

    @property
    def loads_sdk(self) -> bool:
        """Return True while an upload works with a large library."""
        return any(entry.order.destination.loads_sdk for entry in self._line)

    def _is_in_line(self, child: Child | None) -> bool:
        return any(child is None or entry.child.staged.id == child.staged.id for entry in self._line)

    def waiting(self) -> list[tuple[Child, bool]]:
        """Return the pending uploads, oldest first, with True for those that are in line."""
        return [(child, self._is_in_line(child)) for child in self._journal.staged.newest_children()]

    # start

    def start(self, request: StartRequest) -> Admitted:
        """Admit the upload of a staged archive. Raises `Refused`, 404 or 409."""
        child = self._journal.staged.child(request.child_id)
        if child is None or not child.staged.path.exists():
            message = f"no archive waits for an upload with id '{request.child_id}'"
            raise Refused(Reason.NOT_FOUND, message)
        if self._is_in_line(child):
            raise Refused(Reason.BUSY, f"upload '{child.child_id}' is already in progress")
        tools = self._workers.tools(resumable=True)
        facts = metadata(child.staged.path.name, child.parent_id, self._device.id)
        facts |= {"sha256": child.staged.sha256}
        destination = self._admission.destination(
            request.destination, tools.connections, self._device.id, child.staged.path.name, facts
        )
        info = request.info
        self._events.can_tell(UploadChanged(Upload(child.child_id, child.parent_id, info, datetime.now(UTC))))
        entry = _Entry(
            child, info, tools, UploadOrder(child.staged.path, destination, self._settings.checksum)
        )
        return Admitted(
            None, partial(self.reports.begin, entry.child, entry.info), partial(self._enqueue, entry)
        )

    def _enqueue(self, entry: _Entry) -> None:
        self._line.append(entry)
        if len(self._line) == 1:
            self._begin(entry)

    def _begin(self, entry: _Entry) -> None:
        child, staged = entry.child, entry.child.staged
        log.info("upload started", correlation_id=child.child_id, bytes=staged.size_bytes)
        self._workers.start(
            Task(
                owner=staged.owner,
                correlation_id=child.child_id,
                tools=entry.tools,
                destination=entry.order.destination,
                work=partial(upload, entry.order),
                ended=partial(self._ended, entry),
                moved=partial(self.reports.move, entry.child),
            )
        )

    def _ended(self, entry: _Entry, outcome: Outcome[Stored]) -> None:
        first = entry is self._line[0]
        self._line.remove(entry)
        self._recorder.record(partial(self._record_end, entry, outcome), upload=entry.child.child_id)
        if first and self._line:
            self._begin(self._line[0])

    def _record_end(self, entry: _Entry, outcome: Outcome[Stored]) -> None:
        """Keep and tell the end, unless a new `start` has taken the upload over since."""
        child = self._journal.staged.child(entry.child.child_id)
        if child is None or self._is_in_line(child):
            return
        with self._journal.unit() as unit:
            if outcome.result is not None:
                self._succeeded(entry.child, outcome.result, unit)
            elif not self._renewed(entry, outcome, unit):
                self._failed(entry.child, outcome, unit)
            self._tell_waiting()
            unit.after_commit(self.pending.remove_unwanted)

    def _tell_waiting(self) -> None:
        """Tell of uploads in line that were untold beside a newer group with their parent's id."""
        for entry in sorted(self._line, key=lambda entry: entry.child.group_id, reverse=True):
            self.reports.begin(entry.child, entry.info)

    def _succeeded(self, child: Child, stored: Stored, unit: Unit) -> None:
        unit.after_commit(
            partial(log.info, "upload finished", correlation_id=child.child_id, destination=stored.place)
        )
        unit.after_commit(partial(self._renewals.pop, child.staged.id, None))
        for state in self.reports.end(
            self._journal.staged.gone(child.staged, kept=self._settings.keep_uploaded)
        ):
            self._events.emit(UploadChanged(state.succeeded(datetime.now(UTC))))

    def _renewed(self, entry: _Entry, outcome: Outcome[Stored], unit: Unit) -> bool:
        """Ask for fresh credentials when they have expired; the upload continues with them."""
        number = self._renewals.get(entry.child.staged.id, 0) + 1
        if outcome.error is not Expired or number > MAX_RENEWALS:
            return False
        unit.after_commit(partial(self._renewals.__setitem__, entry.child.staged.id, number))
        about = {"correlation_id": entry.child.child_id, "number": number}
        unit.after_commit(partial(log.warning, "credentials expired, asking for new ones", **about))
        self.pending.ask(entry.child)
        return True

    def _failed(self, child: Child, outcome: Outcome[Stored], unit: Unit) -> None:
        about = {"correlation_id": child.child_id, "code": outcome.code, "reason": outcome.message}
        unit.after_commit(partial(log.error, "upload failed", **about))
        unit.after_commit(partial(self._renewals.pop, child.staged.id, None))
        for state in self.reports.end([child.group_id]):
            now = datetime.now(UTC)
            ended = state.failed(now, outcome.code, outcome.message, cancelled=outcome.cancelled)
            self._events.emit(UploadChanged(ended))

    def _give_up(self, children: Iterable[Child], code: str, reason: str, *, cancelled: bool = False) -> None:
        """Forget pending uploads, and tell that they failed unless their parent's id was used again since."""
        now, groups, newest = datetime.now(UTC), set[int](), dict[str, Child]()
        for child in children:
            if self._journal.staged.is_newest(child):
                newest[child.parent_id] = child
            kept = cancelled and self._settings.keep_uploaded
            groups |= {child.group_id, *self._journal.staged.gone(child.staged, kept=kept)}
        states = {state.parent_id: state for state in self.reports.end(groups)}
        for parent_id, child in newest.items():
            begun = Upload(child.child_id, parent_id, {}, now, group_id=child.group_id)
            states.setdefault(parent_id, begun)
        for state in states.values():
            self._events.emit(UploadChanged(state.failed(now, code, reason, cancelled=cancelled)))

    # cancel and stop

    def running(self, correlation_id: str) -> bool:
        """Return True while an upload with this child or parent id runs or waits for its turn."""
        return bool(self._found(correlation_id))

    def cancel(self, request: CancelRequest) -> None:
        """Stop the uploads with this child or parent id; the archives stay."""
        for entry in self._found(request.correlation_id):
            self._workers.cancel(entry.tools, request.message, request.code)
            if entry is not self._line[0]:
                self._ended(entry, cancelled_by(entry.tools.token))

    def cancel_waiting(self, request: CancelRequest) -> Admitted:
        """Admit that the pending uploads with this child or parent id are given up.

        Raises `Refused` (NOT_FOUND).
        """
        children = self._journal.staged.children_of(request.correlation_id)
        waiting = [child for child in children if not self._is_in_line(child)]
        if not waiting:
            raise Refused(Reason.NOT_FOUND, f"nothing runs with id '{request.correlation_id}'")

        def record() -> None:
            with self._journal.unit() as unit:
                self._give_up(waiting, request.code, request.message, cancelled=True)
                unit.after_commit(self.pending.remove_unwanted)

        return Admitted(None, record, lambda: None)

    def _found(self, correlation_id: str) -> list[_Entry]:
        return [
            entry for entry in self._line if correlation_id in (entry.child.child_id, entry.child.parent_id)
        ]

    def stop(self, message: str) -> None:
        """Ask all uploads to end; they are reported as interrupted, and the archives stay."""
        for entry in self._line:
            self._workers.interrupt(entry.tools, message)
