"""A piece of work for a thread of its own: what it needs, and how it ended."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agent.transfer.cancel import CancelToken
from agent.transfer.connections import Connections
from agent.transfer.context import Context, Destination

INTERRUPTED = "interrupted"
"""Status code of work that ended because the agent stopped."""
INTERNAL_ERROR = "internal-error"
"""Status code of work that ended because of a bug."""
DEADLINE_EXCEEDED = "deadline-exceeded"
"""Status code of work that took longer than `jobTimeout`."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Result]):
    """The end of a piece of work: a result, or the code and message of the failure."""

    result: Result | None = None
    code: str = ""
    message: str = ""
    cancelled: bool = False
    """True when somebody asked for it."""
    error: type[Exception] | None = None


@dataclass(slots=True)
class Tools:
    """The connections and the cancel token of a piece of work; making them needs no I/O."""

    connections: Connections
    token: CancelToken
    give_up: Callable[[], None] = lambda: None
    """Ends the work without waiting for its thread, when that is allowed."""
    told_to_end_s: float | None = None
    """The time of the first cancel, on the monotonic clock; None without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Generic[Result]):
    """A piece of work, with the functions that are told its progress and its outcome."""

    owner: str
    """Names the checkpoint, which outlives the process when the work can be continued."""
    correlation_id: str
    tools: Tools
    destination: Destination | None = None
    work: Callable[[Context], Result]
    ended: Callable[[Outcome[Result]], None]
    moved: Callable[[int], None] = lambda _bytes: None
    """Told now and then how many bytes have passed in this phase."""
    entered: Callable[[str], None] = lambda _phase: None
    expected: Callable[[int], None] = lambda _bytes: None
    """Told how many bytes will pass in this phase."""


def cancelled_by(token: CancelToken) -> Outcome[Any]:
    return Outcome(None, token.code, token.message, cancelled=not token.interrupted)
