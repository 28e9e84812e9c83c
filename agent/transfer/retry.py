"""The one retry loop, stopped at once by a cancel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import structlog

from agent.transfer.cancel import CancelToken
from providers.errors import Corrupted, StorageError

if TYPE_CHECKING:
    from tenacity import RetryCallState

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RetryLimits:
    attempts: int = 5
    total_s: float = 3600
    """No attempt begins later than this after the first one."""
    longest_pause_s: float = 60


def with_retries(
    call: Callable[[], Result],
    limits: RetryLimits,
    token: CancelToken,
    possible: Callable[[], bool] = lambda: True,
) -> Result:
    """Return what `call` returns; call again while it raises a retryable `StorageError` and it is `possible`.

    Pauses grow exponentially with full jitter, or last as long as the far side asked (`Retry-After`).
    Raises the last error, or `Cancelled` when the token is set.
    """
    from tenacity import (
        Retrying,
        retry_if_exception,
        sleep_using_event,
        stop_after_attempt,
        stop_before_delay,
        stop_when_event_set,
        wait_random_exponential,
    )

    jitter = wait_random_exponential(multiplier=1, max=limits.longest_pause_s)
    corrupted = 0

    def attempt() -> Result:
        token.check()  # a pause ends at once when the token is set
        return call()

    def worth_another_try(error: BaseException) -> bool:
        nonlocal corrupted
        corrupted += isinstance(error, Corrupted)
        return isinstance(error, StorageError) and error.retryable and corrupted < 2 and possible()

    def pause_s(state: "RetryCallState") -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.retry_after_s if isinstance(error, StorageError) else None
        return jitter(state) if asked_s is None else asked_s

    retrying = Retrying(
        retry=retry_if_exception(worth_another_try),
        stop=stop_after_attempt(limits.attempts)
        | stop_before_delay(limits.total_s)
        | stop_when_event_set(token.event),
        wait=pause_s,
        sleep=sleep_using_event(token.event),
        before_sleep=_tell,
        reraise=True,
    )
    try:
        return retrying(attempt)
    except Exception:
        # A cancel closes sockets, and a provider may report that as any error.
        token.check()
        raise


def _tell(state: "RetryCallState") -> None:
    error = state.outcome.exception() if state.outcome else None
    pause_s = round(state.upcoming_sleep, 1)
    log.warning(
        "transfer failed, trying again", error=str(error), attempt=state.attempt_number, pause_s=pause_s
    )
