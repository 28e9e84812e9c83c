"""One thread per piece of work: runs it, makes an outcome of whatever it ends with, posts that."""

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

import structlog

from agent.backup.errors import Cancelled, JobError
from agent.backup.pipeline import Context, Place
from agent.backup.retry import RetryLimits
from agent.backup.transfer import CancelToken, Connections, Progress, no_progress
from agent.journal import Journal
from agent.mailbox import Post
from providers.errors import StorageError

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Result]):
    """What came of it: a result, or the code and message of the failure."""

    result: Result | None = None
    code: str = ""
    message: str = ""
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Tools:
    """What a piece of work holds while it runs; made before it is accepted, so without any I/O."""

    connect_timeout_s: float
    token: CancelToken = field(default_factory=CancelToken)
    connections: Connections = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "connections", Connections(self.token, self.connect_timeout_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Generic[Result]):
    """A piece of work, and whom to tell what came of it."""

    owner: str
    """Names the checkpoint: it outlives the process where the work can be continued."""
    correlation_id: str
    tools: Tools
    place: Place | None
    work: Callable[[Context], Result]
    ended: Callable[[Outcome[Result]], None]
    progress: Progress = no_progress


@dataclass(frozen=True, slots=True)
class Workers:
    """Starts threads. Everything that a thread has to say is posted."""

    journal: Journal
    post: Post
    retries: RetryLimits

    def start(self, task: Task[Result]) -> None:
        """Do the work in a thread; what came of it is posted."""

        def body() -> None:
            structlog.contextvars.bind_contextvars(correlation_id=task.correlation_id)
            outcome = _attempt(lambda: self._work(task), task.tools.token)
            self.post(partial(task.ended, outcome))

        threading.Thread(target=body, name=f"work-{task.owner}", daemon=True).start()

    def _work(self, task: Task[Result]) -> Result:
        token, connections = task.tools.token, task.tools.connections
        checkpoint = self.journal.checkpoint(task.owner)
        with closing(connections), token.waking(connections.shut), closing(checkpoint):
            context = Context(
                task.owner, token, self.retries, checkpoint, task.progress, _log_phase, _log_left_out
            )
            try:
                return task.work(context)
            finally:
                if task.place:
                    task.place.storage.close()


def _log_phase(name: str) -> None:
    log.debug("phase", phase=name)


def _log_left_out(name: str, reason: str) -> None:
    log.warning("left out of the backup", file=name, reason=reason)


def _attempt(work: Callable[[], Result], token: CancelToken) -> Outcome[Result]:
    try:
        return Outcome(work())
    except Cancelled:
        return Outcome(None, token.code, token.message, cancelled=True)
    except (JobError, StorageError) as error:
        if error.code == "provider.bug":
            log.exception("bug in a provider")
        return Outcome(None, error.code, str(error))
    except Exception:
        log.exception("internal error in a worker")
        return Outcome(None, "internal-error", "internal error: see the device's log")
