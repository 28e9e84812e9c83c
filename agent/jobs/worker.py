"""Workers: each piece of work runs in its own thread, which posts the outcome."""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, Generic

import structlog

from agent.base.durations import format_duration
from agent.base.errors import Cancelled, JobError, LeftToRecovery
from agent.base.refusals import SEE_LOG
from agent.jobs.task import (
    DEADLINE_EXCEEDED,
    INTERNAL_ERROR,
    INTERRUPTED,
    Outcome,
    Result,
    Task,
    Tools,
    cancelled_by,
)
from agent.journal import Journal
from agent.mailbox import Mailbox, Timer
from agent.settings.group_defaults import TransferSettings
from agent.transfer.cancel import CancelToken
from agent.transfer.connections import Connections
from agent.transfer.context import Context
from providers.api import Storage
from providers.errors import StorageError

log = structlog.get_logger(__name__)

UPDATE_INTERVAL_S = 1.0
"""The shortest time between two reports of progress."""
PATIENCE_S = 0.8
"""The time for which a provider may ignore a cancel; then its thread is abandoned."""


@dataclass(frozen=True, slots=True)
class _Running:
    thread: threading.Thread
    tools: Tools
    ended: "_Once[Any]"


@dataclass(frozen=True, slots=True)
class Workers:
    """Starts threads. All that a thread reports is posted to the mailbox."""

    journal: Journal
    mailbox: Mailbox
    limits: TransferSettings
    deadline: timedelta
    """The longest time for a piece of work; zero for no limit."""
    _running: list[_Running] = field(default_factory=list)

    def tools(self, *, resumable: bool = False) -> Tools:
        """Return tools; `resumable` work continues after a restart of the agent, other work begins anew."""
        token = CancelToken(resumable=resumable)
        connections = Connections(self.limits.connect_timeout.total_seconds(), self.limits.rate_limit, token)
        return Tools(connections, token)

    def start(self, task: Task[Result]) -> None:
        """Do the work in a thread, and post its outcome."""

        ended = _Once(task.ended, self._deadline(task.tools))
        abandoned = self.journal.checkpoints.abandoned() if task.destination else []

        def body() -> None:
            structlog.contextvars.bind_contextvars(correlation_id=task.correlation_id)
            outcome = _attempt(lambda: self._work(task, abandoned), task.tools.token)
            self.mailbox.post(partial(over, outcome))

        def over(outcome: Outcome[Result]) -> None:
            # The closure refers to the task: kept, it would hold a job's memory until a garbage collection.
            task.tools.give_up = lambda: None
            ended(outcome)

        def give_up() -> None:
            if task.tools.token.in_foreign_hands and not ended.called:
                log.warning("provider ignored the cancel, abandoned", owner=task.owner)
                ended(cancelled_by(task.tools.token))

        task.tools.give_up = give_up
        thread = threading.Thread(target=body, name=f"work-{task.owner}", daemon=True)
        try:
            thread.start()
            self._running.append(_Running(thread, task.tools, ended))
        except RuntimeError:
            log.exception("thread not started")
            self.mailbox.post(partial(ended, Outcome(None, INTERNAL_ERROR, "no thread can be started")))

    def cancel(self, tools: Tools, message: str, code: str) -> None:
        """Ask the work to end with this message and status code, because somebody wants that."""
        tools.token.cancel(message, code)
        self._told_to_end(tools)

    def interrupt(self, tools: Tools, message: str) -> None:
        """Ask the work to end, because the agent stops."""
        tools.token.interrupt(message, INTERRUPTED)
        self._told_to_end(tools)

    def _deadline(self, tools: Tools) -> Timer | None:
        """Start the timer that ends the work when it takes too long."""
        if not self.deadline:
            return None

        def time_out() -> None:
            limit = format_duration(self.deadline)
            tools.token.time_out(f"not finished within {limit} (jobTimeout)", DEADLINE_EXCEEDED)
            self._told_to_end(tools)

        return self.mailbox.call_later(self.deadline.total_seconds(), time_out)

    def _told_to_end(self, tools: Tools) -> None:
        """Note the time, and give up waiting for the thread after `PATIENCE_S`.

        A provider that ignores the cancel is abandoned: its stream raises at the next byte, and its clean-up
        goes on in its thread.
        """
        if tools.told_to_end_s is None:
            tools.told_to_end_s = time.monotonic()
        self.mailbox.call_later(PATIENCE_S, tools.give_up)

    def stuck(self, limit_s: float, *, left_to_themselves: bool) -> list[str]:
        """Return the names of threads that were told to end longer than `limit_s` ago, and still run.

        `left_to_themselves` includes abandoned threads: their work has ended, and they still run. A thread
        whose end was not handled, because of a bug, counts at once: its job would seem to run for ever.
        """
        self._running[:] = [each for each in self._running if each.thread.is_alive() or each.ended.failed]
        told_before_s = time.monotonic() - limit_s
        return [
            each.thread.name
            for each in self._running
            if each.ended.failed
            or (
                ((told_s := each.tools.told_to_end_s) is not None and told_s < told_before_s)
                and (left_to_themselves or not each.ended.called)
            )
        ]

    def _work(self, task: Task[Result], abandoned: list[str]) -> Result:
        token, connections = task.tools.token, task.tools.connections
        checkpoint = self.journal.checkpoint(task.owner)
        with closing(connections), token.waking(connections.shut), closing(checkpoint):
            context = Context(
                job_id=task.owner,
                token=token,
                checkpoint=checkpoint,
                progress=_Throttled(lambda done: self.mailbox.post(partial(task.moved, done))),
                bytes_per_s=self.limits.rate_limit,
                phase=lambda name: self._entered(task, name),
                expect=lambda total: self.mailbox.post(partial(task.expected, total)),
                skipped=_log_skipped,
            )
            try:
                return task.work(context)
            finally:
                if task.destination:
                    self._leave(task.destination.storage, abandoned)

    def _entered(self, task: Task[Result], phase: str) -> None:
        log.debug("phase entered", phase=phase)
        self.mailbox.post(partial(task.entered, phase))

    def _leave(self, storage: Storage, abandoned: list[str]) -> None:
        """Remove what earlier jobs left at the destination, and close it.

        No error here changes the outcome of the work.
        """
        try:
            for owner in abandoned:
                with closing(self.journal.checkpoint(owner)) as checkpoint:
                    storage.discard(checkpoint)
        except StorageError as error:
            log.warning("remains of an earlier upload not removed yet", reason=str(error))
        except Exception:
            log.exception("bug in a provider")
        try:
            storage.close()
        except Exception:
            log.exception("bug in a provider")


class _Once(Generic[Result]):
    """Passes the first outcome on. Called in the main thread only."""

    def __init__(self, ended: Callable[[Outcome[Result]], None], deadline: Timer | None) -> None:
        self._ended, self._deadline = ended, deadline
        self.called = self.failed = False

    def __call__(self, outcome: Outcome[Result]) -> None:
        if not self.called:
            self.called = True
            if self._deadline:
                self._deadline.cancel()
            self.failed = True
            self._ended(outcome)
            self.failed = False


class _Throttled:
    """Passes progress on at most once in `UPDATE_INTERVAL_S`. Runs in the worker's thread."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell, self._told_s = tell, time.monotonic()

    def __call__(self, bytes_done: int) -> None:
        now = time.monotonic()
        if now - self._told_s >= UPDATE_INTERVAL_S:
            self._told_s = now
            self._tell(bytes_done)


def _log_skipped(name: str, reason: str) -> None:
    log.warning("entry skipped", file=name, reason=reason)


def _attempt(work: Callable[[], Result], token: CancelToken) -> Outcome[Result]:
    try:
        return Outcome(work())
    except Cancelled:
        return cancelled_by(token)
    except LeftToRecovery as error:
        cancelled = cancelled_by(token)
        return replace(cancelled, message="; ".join(filter(None, (cancelled.message, str(error)))))
    except (JobError, StorageError) as error:
        if error.code == "provider.bug":
            log.exception("bug in a provider")
        return Outcome(None, error.code, str(error), error=type(error))
    except Exception:
        log.exception("internal error in a worker")
        return Outcome(None, INTERNAL_ERROR, SEE_LOG)
