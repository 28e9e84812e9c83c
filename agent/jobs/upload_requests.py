"""Pending uploads: the backend is asked for the destination of each, and again after a connect.

When there are too many, the oldest is given up. `agent.jobs.upload_queue` sends them.
"""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import structlog

from agent.base.refusals import Reason, Refused
from agent.formats.archive_names import ENCRYPTED, PLAIN
from agent.jobs.admission import Admitted
from agent.jobs.events import UploadRequested
from agent.jobs.foundation import Foundation
from agent.jobs.requests.control import TriggerRequest
from agent.journal import JournalError
from agent.journal.staged import Child, Staged

log = structlog.get_logger(__name__)

ASK_AGAIN_S = 600
"""The shortest time between two upload requests with one id."""


class PendingUploads:
    """Belongs to the main thread."""

    def __init__(
        self,
        base: Foundation,
        *,
        in_line: Callable[[Child | None], bool],
        give_up: Callable[[Iterable[Child], str, str], None],
    ) -> None:
        """`in_line` tells whether an archive, or with None any of them, is being uploaded.

        `give_up` forgets an archive that nobody will upload, and tells code and reason.
        """
        self._settings, self._journal, self._staging = base.settings, base.journal, base.staging
        self._device, self._events, self._in_line, self._give_up = base.device, base.events, in_line, give_up

    def add(self, staged: Staged, parent_id: str) -> None:
        """Keep the archive of a backup, request its upload, and give up the oldest when too many wait."""
        child = self._journal.staged.stage(staged, parent_id)
        self.ask(child)
        waiting = [other for other in self._journal.staged.newest_children() if not self._in_line(other)]
        for oldest in waiting[: max(0, len(waiting) - self._settings.storage_max_staged)]:
            self._drop(oldest)

    def check_fits(self, staged: Staged, parent_id: str) -> None:
        """Raise `Refused` when the upload request of this archive could not be sent."""
        self._events.can_tell(UploadRequested(Child(f"{parent_id}#999999", parent_id, staged)))

    def adopt(self) -> None:
        """Take on complete archives that the journal does not know, left by a crash or by Kanto's agent.

        Those that it knows are here, too, when the storage has another path than it had.
        """
        known = self._journal.staged.paths()
        here = {self._staging.staged_path(path.name): path for path in known}
        if moved := {new: old for new, old in here.items() if new not in known and new.exists()}:
            self._journal.staged.moved(moved)
        self.remove_unwanted()
        known = self._journal.staged.paths()
        for path in self._staging.complete_archives():
            if path not in known:
                log.info("staged archive of an earlier run found", file=path.name)
                self._journal.staged.stage(
                    Staged(path, path.stat().st_size), path.name.removesuffix(ENCRYPTED).removesuffix(PLAIN)
                )

    def _drop(self, child: Child) -> None:
        limit = self._settings.storage_max_staged
        reason = f"given up unsent: more than {limit} archives waited (storage.maxStaged)"
        log.error("pending upload dropped", correlation_id=child.child_id, reason=reason)
        with self._journal.unit() as unit:
            self._give_up([child], "dropped", reason)
            unit.after_commit(self.remove_unwanted)

    def remove_unwanted(self) -> None:
        """Remove archives that the journal says were sent or given up."""
        try:
            for staged in self._journal.staged.unwanted():
                if self._staging.remove(staged.path):
                    self._journal.staged.forget(staged)
        except JournalError:
            log.exception("sent archives not removed yet: journal not writable")

    def ask(self, child: Child) -> None:
        """Ask the backend for the upload; before the device knows who it is, `ask_again` has to."""
        if self._device.identified:
            self._events.emit(UploadRequested(child))
            self._journal.staged.asked(child)

    def ask_again(self) -> None:
        """Request all pending uploads again that were not requested within `ASK_AGAIN_S`."""
        with self._journal.unit():
            for child in self._journal.staged.newest_children():
                if not self._in_line(child) and self._journal.staged.asked_s_ago(child) >= ASK_AGAIN_S:
                    self.ask(child)

    def refuse_second_upload(self) -> None:
        """Raise `Refused` (BUSY) during an upload when `singleUpload` is set."""
        if self._settings.single_upload and self._in_line(None):
            raise Refused(Reason.BUSY, "an upload is in progress, and singleUpload is set")

    def trigger(self, request: TriggerRequest) -> Admitted:
        """Admit new requests, under new ids, for all pending uploads. Raises `Refused`."""
        if not request.force:
            self.refuse_second_upload()
        parent_id = request.correlation_id or str(uuid.uuid4())
        self.check_fits(Staged(self._staging.longest_path, options=request.passed_on), parent_id)
        return Admitted(None, partial(self._offer_all, parent_id, request.passed_on), lambda: None)

    def _offer_all(self, parent_id: str, options: dict[str, str]) -> None:
        waiting = [child.staged for child in self._journal.staged.newest_children()]
        for child in self._journal.staged.requested(parent_id, waiting):
            passed_on = child.staged.options | options
            self.ask(replace(child, staged=replace(child.staged, options=passed_on)))
