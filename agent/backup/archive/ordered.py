"""Work on several threads, results in the order in which it was asked for, memory bounded."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

R = TypeVar("R")


@dataclass(slots=True)
class _Pending:
    is_done: Callable[[], bool]
    emit: Callable[[], Iterator[bytes]]
    cost_bytes: int


class OrderedPool:
    """Each piece of work has an `emit`, which the caller's own thread runs on its result, in order.

    What is on its way costs bytes; past `budget_bytes` the caller waits for the oldest. So memory does
    not grow with the corpus, and a slow reader of the output slows down everything before it.
    """

    def __init__(self, threads: int, budget_bytes: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="deflate")
        self._budget_bytes = budget_bytes
        self._pending: deque[_Pending] = deque()
        self._cost_bytes = 0

    def submit(self, work: Callable[[], R], emit: Callable[[R], Iterator[bytes]], cost_bytes: int) -> None:
        """Run `work` on a thread; `emit` makes output of what it returns."""
        future = self._threads.submit(work)
        self._pending.append(_Pending(future.done, lambda: emit(future.result()), cost_bytes))
        self._cost_bytes += cost_bytes

    def then(self, emit: Callable[[], Iterator[bytes]]) -> None:
        """Output that needs no work, in its place."""
        self._pending.append(_Pending(lambda: True, emit, 0))

    def ready(self) -> Iterator[bytes]:
        """Output that is there, and as much more as it takes to come back within the budget.

        Raises what a piece of work raised.
        """
        while self._pending and (self._cost_bytes > self._budget_bytes or self._pending[0].is_done()):
            yield from self._take()

    def drain(self) -> Iterator[bytes]:
        """All output that is left. Raises what a piece of work raised."""
        while self._pending:
            yield from self._take()

    def close(self) -> None:
        """Forget what has not begun and wait for the rest; a piece of work takes milliseconds."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()

    def _take(self) -> Iterator[bytes]:
        oldest = self._pending.popleft()
        self._cost_bytes -= oldest.cost_bytes
        return oldest.emit()
