"""Work on several threads, with results in the order of submission and bounded memory."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

R = TypeVar("R")


@dataclass(slots=True)
class _Pending:
    is_done: Callable[[], bool]
    emit: Callable[[], Iterator[bytes]]
    cost_bytes: int


class _Held(Generic[R]):
    """A piece of work that any thread may do."""

    def __init__(self, work: Callable[[], R]) -> None:
        self._work = work
        self.future: Future[R] = Future()

    def do(self) -> None:
        try:
            self.future.set_result(self._work())
        except BaseException as error:  # as an executor does it
            self.future.set_exception(error)


class OrderedPool:
    """Each piece of work has an `emit`, which the caller's own thread runs on its result, in order.

    Unfinished work costs bytes; past `budget_bytes` the caller waits for the oldest. So memory does not
    grow with the tree, and a slow reader of the output slows down everything before it.

    Work of many short calls is done in turn with the caller, who first collects half a budget of it and then
    helps until it is done. Side by side, both would want Python's lock every few microseconds, and waking up
    for it takes longer: on two cores that took twice the processor time, and more time than on one.
    """

    def __init__(self, threads: int, budget_bytes: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="compress")
        self._helpers = threads - 1
        self._budget_bytes = budget_bytes
        self._pending: deque[_Pending] = deque()
        self._cost_bytes = 0
        self._held: deque[_Held[Any]] = deque()
        self._held_bytes = 0

    def submit(
        self,
        work: Callable[[], R],
        emit: Callable[[R], Iterator[bytes]],
        cost_bytes: int,
        *,
        in_turn: bool = False,
    ) -> None:
        """Run `work` on a thread, at once or `in_turn`; `emit` makes output of what it returns."""
        held = _Held(work)
        self._held.append(held)
        self._held_bytes += cost_bytes
        self._pending.append(_Pending(held.future.done, lambda: emit(held.future.result()), cost_bytes))
        self._cost_bytes += cost_bytes
        if not in_turn:
            self._hand_over(1)

    def then(self, emit: Callable[[], Iterator[bytes]]) -> None:
        """Add output that needs no work, in its place."""
        self._pending.append(_Pending(lambda: True, emit, 0))

    def ready(self) -> Iterator[bytes]:
        """Yield the output that is done, and wait for more until the rest is within the budget.

        Raises what a piece of work raised.
        """
        if self._held_bytes * 2 > self._budget_bytes:
            self._turn()
        while self._pending and (self._cost_bytes > self._budget_bytes or self._pending[0].is_done()):
            yield from self._take()

    def overlapping(self) -> Iterator[bytes]:
        """Yield as `ready`, for work in turn that takes long, and output whose use leaves Python's lock free.

        The helpers begin with the work that is held while the caller uses the output of the work before.
        """
        if self._held_bytes * 2 > self._budget_bytes:
            futures = [held.future for held in self._held]
            left = self._hand_over(self._helpers)
            while len(self._pending) > len(futures):
                yield from self._take()
            _do_all(left)
            wait(futures)

    def drain(self) -> Iterator[bytes]:
        """Yield all output that is left. Raises what a piece of work raised."""
        self._turn()
        while self._pending:
            yield from self._take()

    def close(self) -> None:
        """Drop work that has not begun, and wait the milliseconds that the rest takes."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()
        self._held.clear()

    def _turn(self) -> None:
        futures = [held.future for held in self._held]
        _do_all(self._hand_over(self._helpers))
        wait(futures)

    def _hand_over(self, threads: int) -> deque[_Held[Any]]:
        """Let up to `threads` threads do the held work; return the work that they have not begun yet."""
        left, self._held, self._held_bytes = self._held, deque(), 0
        for _ in range(min(threads, len(left))):
            self._threads.submit(_do_all, left)
        return left

    def _take(self) -> Iterator[bytes]:
        oldest = self._pending.popleft()
        self._cost_bytes -= oldest.cost_bytes
        return oldest.emit()


def _do_all(left: deque[_Held[Any]]) -> None:
    with suppress(IndexError):  # none is left
        while True:
            left.popleft().do()
