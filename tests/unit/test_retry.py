"""Retries: which errors are tried again, how often, and what a cancel does."""

import threading
import time
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agent.base.errors import Cancelled, ProviderBug
from agent.transfer.cancel import CancelToken
from agent.transfer.retry import RetryLimits, with_retries
from providers.errors import (
    AccessDenied,
    BadOptions,
    Corrupted,
    IoError,
    NoSpace,
    NotFound,
    Rejected,
    StorageError,
    TargetAbsent,
    TooLarge,
    UnknownOutcome,
    Unreachable,
)
from tests.support.waiting import wait_until

QUICK = RetryLimits(attempts=5, total_s=60, longest_pause_s=0.001)
FOR_GOOD: list[StorageError] = [
    AccessDenied("x"),
    BadOptions({"k": "is wrong"}),
    IoError("x"),
    NoSpace("x"),
    NotFound("x"),
    Rejected("x"),
    TargetAbsent("x"),
    TooLarge("x"),
]


class Script:
    """A call that raises these errors one after the other and then returns "done"."""

    def __init__(self, errors: Iterable[Exception], act: Callable[[], None] = lambda: None) -> None:
        self._errors, self._act = iter(errors), act
        self.calls_s: list[float] = []

    def __call__(self) -> str:
        self.calls_s.append(time.monotonic())
        self._act()
        for error in self._errors:
            raise error
        return "done"


def run(script: Script, limits: RetryLimits = QUICK, token: CancelToken | None = None) -> str:
    return with_retries(script, limits, token or CancelToken())


def test_what_may_pass_is_tried_again() -> None:
    script = Script([Unreachable("a"), UnknownOutcome("b"), Unreachable("c")])
    assert run(script) == "done"
    assert len(script.calls_s) == 4


@pytest.mark.parametrize("error", FOR_GOOD, ids=lambda error: type(error).__name__)
def test_what_will_not_change_is_not_tried_again(error: StorageError) -> None:
    script = Script([error])
    with pytest.raises(type(error)) as caught:
        run(script)
    assert caught.value is error
    assert len(script.calls_s) == 1


def test_a_bug_is_not_tried_again() -> None:
    """Only what a provider says by a `StorageError` can be judged."""
    script = Script([KeyError("bug")])
    with pytest.raises(KeyError):
        run(script)
    assert len(script.calls_s) == 1


def test_nothing_is_tried_again_that_cannot_be() -> None:
    """A stream that has been read from is gone, unless the provider can go on with it."""
    script = Script([Unreachable("a")])
    with pytest.raises(Unreachable):
        with_retries(script, QUICK, CancelToken(), possible=lambda: False)
    assert len(script.calls_s) == 1


def test_the_last_error_is_reported_when_all_attempts_fail() -> None:
    errors = [Unreachable(str(number)) for number in range(9)]
    script = Script(errors)
    with pytest.raises(Unreachable) as caught:
        run(script)
    assert caught.value is errors[QUICK.attempts - 1]
    assert len(script.calls_s) == QUICK.attempts


def test_corrupted_is_tried_again_once() -> None:
    """A cable may flip a bit once; what differs twice is different."""
    assert run(Script([Corrupted("a")])) == "done"
    script = Script([Corrupted("a"), Corrupted("b")])
    with pytest.raises(Corrupted, match="b"):
        run(script)
    assert len(script.calls_s) == 2


def test_corrupted_is_tried_again_once_whenever_it_comes() -> None:
    """Also after the line was down: that attempt says nothing about the data."""
    assert run(Script([Unreachable("a"), Corrupted("b")])) == "done"
    script = Script([Corrupted("a"), Unreachable("b"), Corrupted("c")])
    with pytest.raises(Corrupted, match="c"):
        run(script)
    assert len(script.calls_s) == 3


def test_the_far_side_s_wish_for_a_pause_is_honoured() -> None:
    """`Retry-After` replaces the pause of ours, longer or shorter."""
    script = Script([Unreachable("a", retry_after_s=0.05), Unreachable("b", retry_after_s=0)])
    assert run(script, RetryLimits(longest_pause_s=30)) == "done"
    first, second, third = script.calls_s
    assert second - first >= 0.05
    assert third - second < 5


def test_no_attempt_begins_after_the_total_time() -> None:
    """Also when the far side asks for a longer pause than is left: then there is nothing to wait for."""
    script = Script([Unreachable("a", retry_after_s=30), Unreachable("b")])
    begun_s = time.monotonic()
    with pytest.raises(Unreachable, match="a"):
        run(script, RetryLimits(attempts=5, total_s=0.2))
    assert len(script.calls_s) == 1
    assert time.monotonic() - begun_s < 10


def test_a_cancel_ends_a_pause_at_once() -> None:
    token, ended = CancelToken(), []
    script = Script([Unreachable("a", retry_after_s=300)])

    def work() -> None:
        try:
            run(script, RetryLimits(), token)
        except Cancelled as error:
            ended.append(str(error))

    with capture_logs() as lines:
        worker = threading.Thread(target=work)
        worker.start()
        wait_until(lambda: lines, what="the pause")
        token.cancel("enough")
        worker.join(10)
    assert (ended, len(script.calls_s)) == (["enough"], 1)


def test_a_call_that_was_done_before_it_could_notice_the_cancel_has_succeeded() -> None:
    """The archive is stored: a backend that asks for it will find it."""
    token = CancelToken()
    assert run(Script([], lambda: token.cancel("enough")), QUICK, token) == "done"


@pytest.mark.parametrize(
    "error", [Unreachable("x"), Rejected("x"), Corrupted("x"), ProviderBug("x"), OSError("socket closed")]
)
def test_whatever_a_cancel_is_turned_into_it_ends_as_a_cancel(error: Exception) -> None:
    """Closing its socket makes a provider fail in ways of its own; that is no bug of it."""
    token = CancelToken()
    script = Script([error], lambda: token.cancel("enough"))
    with pytest.raises(Cancelled, match="enough"):
        run(script, QUICK, token)
    assert len(script.calls_s) == 1


def test_a_cancelled_token_lets_nothing_begin_twice() -> None:
    token = CancelToken()
    token.cancel("enough")
    script = Script([Unreachable("a")])
    with pytest.raises(Cancelled):
        run(script, QUICK, token)
    assert len(script.calls_s) <= 1


def test_each_further_attempt_is_told_in_the_log() -> None:
    with capture_logs() as lines:
        run(Script([Unreachable("host h: HTTP 503")]))
    (line,) = lines
    assert (line["log_level"], line["error"], line["attempt"]) == ("warning", "host h: HTTP 503", 1)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([Unreachable, UnknownOutcome, *(type(error) for error in FOR_GOOD[2:])])))
def test_any_sequence_of_errors_ends_as_the_rules_say(kinds: list[type[StorageError]]) -> None:
    script = Script([kind(str(number)) for number, kind in enumerate(kinds)])
    fatal = next((number for number, kind in enumerate(kinds) if not kind.retryable), len(kinds))
    expected_calls = min(fatal + 1, QUICK.attempts)
    if fatal == len(kinds) and expected_calls > len(kinds):
        assert run(script) == "done"
    else:
        with pytest.raises(StorageError) as caught:
            run(script)
        assert str(caught.value) == str(expected_calls - 1)
    assert len(script.calls_s) == expected_calls
