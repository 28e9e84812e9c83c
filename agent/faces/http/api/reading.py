"""Reads of stores, each in a thread of its own: a far side or a disk may be slow, or never answer.

The thread of the request waits for it: not longer than a limit, and not when the client is gone. There is one
download at a time, as it shares the device's memory with its jobs, and few other reads; a store that never
answers keeps the place of one of them.
"""

import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, Full, Queue
from typing import TypeVar

import structlog

from agent.base.errors import (
    Cancelled,
    Encrypted,
    JobError,
    NoRepository,
    NotEncrypted,
    NotInArchive,
    WrongKey,
)
from agent.base.refusals import Reason, Refused
from agent.faces.http.message import Problem, Request
from agent.jobs.filesystem_probe import ThreadedCall
from agent.jobs.queries.archives import OpenedStore
from providers.errors import NotFound, StorageError, Unreachable

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

LIMIT_S = 60.0
"""How long a read may take; a download, until its first byte."""
STALL_S = 60.0
"""How long a piece of a download may wait until the one before is sent."""
TURN_S = 10.0
"""How long a read waits for its turn."""
MOST_LOOKS = 2
_LOOK_S = 0.25
_PATIENCE_S = 1.0
_PIECES = 4

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (Cancelled, 504),
    (NotInArchive, 404),
    (NoRepository, 404),
    (NotFound, 404),
    (WrongKey, 403),
    (NotEncrypted, 400),
    (Unreachable, 504),
    (StorageError, 502),
    (JobError, 422),
)


class Pieces(Iterator[bytes]):
    """The content of a file, on its way from the thread that reads it to the thread that sends it."""

    def __init__(self, store: OpenedStore) -> None:
        self.size_bytes: int | None = None
        """Known when the file is found."""
        self._store, self._held = store, b""
        self._queue: Queue[bytes | None] = Queue(_PIECES)
        self._reading: ThreadedCall[None]

    def put(self, piece: bytes) -> None:
        """Take a piece, and hand over the one before. Raises `Cancelled` when nobody takes it.

        Damage is found after the last piece: a client that has all of them takes them for the file.
        """
        before, self._held = self._held, piece
        if before:
            self._hand_over(before)

    def whole(self) -> None:
        """Hand over the last piece, and the end: the content has no damage."""
        if self._held:
            self._hand_over(self._held)
        self._hand_over(None)

    def _hand_over(self, piece: bytes | None) -> None:
        deadline_s = time.monotonic() + STALL_S
        while True:
            self._store.token.check()
            if time.monotonic() > deadline_s:
                self._store.token.cancel("the client did not take the content")
            try:
                return self._queue.put(piece, timeout=_LOOK_S)
            except Full:
                continue

    def begun(self, reading: ThreadedCall[None]) -> None:
        self._reading = reading

    def __next__(self) -> bytes:
        while True:
            try:
                piece = self._queue.get(timeout=_LOOK_S)
            except Empty:
                if not self._reading.done():
                    continue
                piece = None
            if piece is not None:
                return piece
            self._end()

    def _end(self) -> None:
        """Raise StopIteration after the whole content, OSError after a part of it."""
        self._reading.done(_PATIENCE_S)
        try:
            self._reading.result()
        except (JobError, StorageError, OSError) as error:
            log.warning("download cut off", reason=str(error))
        except Exception:
            log.exception("internal error")
        else:
            raise StopIteration
        raise ConnectionAbortedError

    def close(self) -> None:
        """Stop reading: everything was sent, or the client is gone."""
        self._store.token.cancel("the client is gone")


class Reads:
    """The methods may be called from any thread."""

    def __init__(self) -> None:
        self._looks, self._downloads = threading.Semaphore(MOST_LOOKS), threading.Semaphore(1)

    def look(
        self, request: Request, open_store: Callable[[], OpenedStore], read: Callable[[OpenedStore], Result]
    ) -> Result:
        """Return what `read` finds in the store. Raises `Refused` and `Problem`."""
        if not self._looks.acquire(timeout=TURN_S):
            raise Refused(Reason.BUSY, "other clients read stores: ask again in a moment")
        store = _opened(open_store, self._looks)
        reading = _begin(store, self._looks, read)
        _wait(reading.done, request, store)
        return _result(reading)

    def download(
        self,
        request: Request,
        open_store: Callable[[], OpenedStore],
        read: Callable[[OpenedStore, Pieces], None],
    ) -> Pieces:
        """Return the content that `read` hands over; its size is known. Raises `Refused` and `Problem`."""
        # The thread of a download that has just been sent may still close its store.
        if not self._downloads.acquire(timeout=_PATIENCE_S):
            raise Refused(Reason.BUSY, "another download goes on: there is one at a time")
        store = _opened(open_store, self._downloads)
        pieces = Pieces(store)

        def fill(store: OpenedStore) -> None:
            read(store, pieces)
            pieces.whole()

        def found(within_s: float) -> bool:
            return reading.done(within_s) or pieces.size_bytes is not None

        reading = _begin(store, self._downloads, fill)
        pieces.begun(reading)
        _wait(found, request, store)
        if pieces.size_bytes is None:
            _result(reading)
        return pieces


def problem_of_read(error: Exception) -> Problem:
    """Return the problem that an error of a read is for the client. Raises an error that is a bug again."""
    if isinstance(error, Encrypted):
        return Problem(403, "the archive is encrypted: give its key to POST /api/v1/archives/{store}/open")
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return Problem(status, str(error))
    if isinstance(error, OSError):
        return Problem(502, f"the archive cannot be read: {error.strerror}")
    raise error


def _opened(open_store: Callable[[], OpenedStore], place: threading.Semaphore) -> OpenedStore:
    try:
        return open_store()
    except BaseException:
        place.release()
        raise


def _begin(
    store: OpenedStore, place: threading.Semaphore, read: Callable[[OpenedStore], Result]
) -> ThreadedCall[Result]:
    """Begin to read. The thread has the place until it ends, also when nobody waits for it any more."""

    def run() -> Result:
        try:
            with store.token.waking(store.connections.shut):
                return read(store)
        finally:
            store.close()
            place.release()

    try:
        return ThreadedCall("http-read", run)
    except RuntimeError:  # no thread can be started
        store.close()
        place.release()
        raise


def _wait(done: Callable[[float], bool], request: Request, store: OpenedStore) -> None:
    """Wait until it is done. Raises `Problem` 504 when it does not end, told to after the limit."""
    deadline_s = time.monotonic() + LIMIT_S
    while not done(_LOOK_S):
        is_late = time.monotonic() > deadline_s
        if is_late or request.is_gone():
            store.token.cancel(
                f"the store did not answer within {LIMIT_S:.0f} s" if is_late else "client gone"
            )
            if not done(_PATIENCE_S):
                raise Problem(504, "the store does not answer")


def _result(reading: ThreadedCall[Result]) -> Result:
    try:
        return reading.result()
    except Exception as error:
        raise problem_of_read(error) from error
