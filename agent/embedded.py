"""The engine in the process of another program, without a broker: one job at a time, waited for.

It uses the agent's storage directory, journal and recovery, and has no subscribers. The agent itself reports
its interrupted jobs later.
"""

from collections.abc import Mapping
from typing import Any

from agent.jobs.engine import Engine
from agent.jobs.requests.control import DescribeRequest
from agent.jobs.requests.raw import Request
from agent.jobs.staging import Staging
from agent.journal import Journal
from agent.log import use_logging_of_host
from agent.mailbox import Mailbox
from agent.settings import Settings

LOOK_AGAIN_S = 0.01
_ROOM_BYTES = 1 << 20


class Embedded:
    """Belongs to one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        """Take the storage directory, and bring the data into order.

        Raises `StorageUnusable`, `NewerJournal`, and OSError or JournalError when the disk refuses.
        """
        use_logging_of_host()
        self._mailbox = Mailbox()
        self._staging = Staging(settings.storage)
        self._journal = Journal(self._staging.journal, kept_jobs=settings.journal_max_jobs, any_thread=True)
        self.engine = Engine(
            settings, self._mailbox, staging=self._staging, journal=self._journal, subscribers=()
        )
        if settings.device_id:
            self.engine.device.identify(settings.device_id)
            self.engine.device.keep()
        self._operations = self.engine.operations()

    def carry_out(self, request: Request) -> str:
        """Carry out a command and wait for its end: the job's id.

        Raises `Refused` when it is refused, and JournalError. Interrupted, as by Ctrl-C, it ends the
        work first.
        """
        admitted = self._operations.admit_request(request)
        self.engine.carry_out(admitted)
        try:
            self._wait()
        except BaseException:
            self.engine.interrupt("the program was interrupted")
            self._wait()
            raise
        assert admitted.job_id
        return admitted.job_id

    def entry(self, job_id: str) -> Mapping[str, Any]:
        """Return a job from the history."""
        return self.engine.history.describe(DescribeRequest(job_id), _ROOM_BYTES)

    def preview(self) -> Mapping[str, Any] | None:
        """Return the preview that waits, or the end of the last one."""
        return self.engine.status.preview(_ROOM_BYTES)

    def close(self) -> None:
        """Give the storage directory back."""
        self._journal.close()
        self._staging.close()

    def _wait(self) -> None:
        # No action of the mailbox's own: a signal handler of the program may raise in it, and end it.
        while not (self._mailbox.is_empty and self.engine.idle()):
            self._mailbox.take(LOOK_AGAIN_S)
