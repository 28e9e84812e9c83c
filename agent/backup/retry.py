"""The one retry loop: round every call of a provider, stopped at once by a cancel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog
from tenacity import (
    RetryCallState,
    Retrying,
    sleep_using_event,
    stop_after_attempt,
    stop_after_delay,
    stop_when_event_set,
    wait_random_exponential,
)

from agent.backup.transfer import CancelToken
from providers.errors import Corrupted, StorageError

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RetryLimits:
    attempts: int = 5
    total_s: float = 3600
    """No attempt begins later than this after the first one."""
    longest_pause_s: float = 60


def _worth_another_try(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, StorageError) or not error.retryable:
        return False
    return not isinstance(error, Corrupted) or state.attempt_number == 1


def with_retries(call: Callable[[], Result], limits: RetryLimits, token: CancelToken) -> Result:
    """What `call` returns, tried again while it raises a retryable `StorageError`.

    Pauses grow exponentially with full jitter, or last as long as the far side asked (`Retry-After`).
    Raises the last error, or `Cancelled` once the token is set: also when the call then returned, since
    a provider may not have noticed.
    """
    jitter = wait_random_exponential(multiplier=1, max=limits.longest_pause_s)

    def pause_s(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.retry_after_s if isinstance(error, StorageError) else None
        return jitter(state) if asked_s is None else asked_s

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = round(state.upcoming_sleep, 1)
        log.warning(
            "transfer failed, trying again", error=str(error), attempt=state.attempt_number, pause_s=pause
        )

    retrying = Retrying(
        retry=_worth_another_try,
        stop=stop_after_attempt(limits.attempts)
        | stop_after_delay(limits.total_s)
        | stop_when_event_set(token.event),
        wait=pause_s,
        sleep=sleep_using_event(token.event),
        before_sleep=tell,
        reraise=True,
    )
    try:
        result = retrying(call)
    except StorageError:
        token.check()
        raise
    token.check()
    return result
