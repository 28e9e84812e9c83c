"""The line that `systemctl status` shows: the work of the agent, then its connection to the broker."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from agent import notify
from agent.base.job import phase_text
from agent.base.text import printable
from agent.journal import JournalError
from agent.mailbox import Mailbox, Timer

INTERVAL_S = 1.0
"""A job that moves changes the line once in this time."""


class ServiceStatus:
    """Belongs to the main thread. Without a service manager it does nothing."""

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        job: Callable[[], Mapping[str, Any] | None],
        uploading: Callable[[], bool],
        next_run: Callable[[], tuple[datetime, str] | None],
    ) -> None:
        """`job` returns the job that runs, and `next_run` the time and the schedule of the next backup."""
        self._mailbox, self._job, self._uploading, self._next_run = mailbox, job, uploading, next_run
        self._connection, self._told = "", ""
        self._timer: Timer | None = None

    def connection(self, text: str) -> None:
        """Tell how the agent stands with the broker, at once."""
        self._connection = text
        self._tell()

    def changed(self) -> None:
        """Tell the work soon: something may have changed."""
        if self._timer is None and notify.is_heard():
            self._timer = self._mailbox.call_later(INTERVAL_S, self._tell)

    def _tell(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if not notify.is_heard():
            return
        text = "; ".join(filter(None, (self._work(), self._connection)))
        if text != self._told:
            self._told = text
            notify.status(printable(text))

    def _work(self) -> str:
        if job := self._job():
            # More than was expected: a percentage would stand at 99.
            is_known = job["percent"] is not None and job["bytes"] <= job["totalBytes"]
            percent = f", {job['percent']} %" if is_known else ""
            return f"{job['kind']} {job['correlationId']}: {phase_text(job['phase'])}{percent}"
        work = "uploading" if self._uploading() else "idle"
        with suppress(JournalError):  # the agent ends because of that
            if due := self._next_run():
                return f"{work}, next backup {due[0]:%Y-%m-%d %H:%M} UTC ({due[1]})"
        return work
