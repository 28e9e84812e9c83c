"""A far side that is slow is waited for, one that is as good as silent is not."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest

from providers.stall_timeout import LEAST_BYTES, Patience, StallTimeoutSocket

TIMEOUT_S = 0.3


@pytest.fixture
def ends() -> Iterator[tuple[StallTimeoutSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs, StallTimeoutSocket(ours, TIMEOUT_S) as limited:
        yield limited, theirs


def test_a_slow_far_side_may_take_as_long_as_it_needs(ends: tuple[StallTimeoutSocket, socket.socket]) -> None:
    """Python's own `sendall` has one time-out for everything: 8 MiB over a slow uplink never got through."""
    limited, theirs = ends
    content = bytes(3 << 20)
    received = 0

    def read_slowly() -> None:
        nonlocal received
        while received < len(content):
            time.sleep(0.03)
            received += len(theirs.recv(1 << 17))

    reader = threading.Thread(target=read_slowly)
    started_s = time.monotonic()
    reader.start()
    limited.sendall(content)
    reader.join()
    assert received == len(content)
    assert time.monotonic() - started_s > 2 * TIMEOUT_S


def test_single_bytes_that_come_steadily_are_given_up(ends: tuple[StallTimeoutSocket, socket.socket]) -> None:
    limited, theirs = ends
    stopped = threading.Event()

    def drip() -> None:
        with suppress(OSError):
            while not stopped.wait(0.02):
                theirs.send(b"x")

    threading.Thread(target=drip, daemon=True).start()
    sizes = iter(partial(limited.recv_into, bytearray(1 << 16)), 0)
    with pytest.raises(TimeoutError):
        sum(sizes)
    stopped.set()


def ago(seconds: float) -> float:
    return time.monotonic() - seconds


def test_waiting_for_little_is_added_up() -> None:
    patience = Patience(10)
    patience.waited(False, ago(6), LEAST_BYTES - 2)
    with pytest.raises(TimeoutError):
        patience.waited(False, ago(6), 1)


def test_enough_bytes_begin_a_new_time() -> None:
    patience = Patience(10)
    for _ in range(5):
        patience.waited(False, ago(9), LEAST_BYTES)


def test_each_answer_has_a_time_of_its_own() -> None:
    """Small requests over one connection to a server that thinks for long are no stall."""
    patience = Patience(10)
    for _ in range(5):
        patience.waited(True, ago(0), 300)
        patience.waited(False, ago(9), 200)
