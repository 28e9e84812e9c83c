"""Archives in motion: counting, hashing and cancelling live in the stream.

The agent hands a provider a `Source` or a `Sink` (see `providers.api`). Whatever the provider does with
it, every byte passes through here, so progress, the SHA-256 and the cancel come for nothing and cannot
be forgotten.
"""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from agent.backup.errors import Cancelled, Interrupted, NoSpace, disk_errors
from providers.reach import CheckAddress, allow_all, reached
from providers.room import Room
from providers.writeback import CHUNK_BYTES, WriteBack

_SO_MAX_PACING_RATE = 47
"""socket(7), asm-generic/socket.h; Python does not name it."""

Progress = Callable[[int], None]
"""Called with the bytes that have passed so far, from the worker's thread; must be cheap."""


class CancelToken:
    """Asks a worker to stop. Set once, from any thread; the worker looks at it, or is woken by it."""

    def __init__(self, *, resumable: bool = False) -> None:
        """`resumable` work can be continued later, when it was the agent that stopped it."""
        self.event = threading.Event()
        self.in_foreign_hands = False
        """True while a provider works: the one place where a cancel may go unnoticed."""
        self.code = Cancelled.code
        self.message = ""
        self.interrupted = False
        """True when nobody asked for it: the agent is stopped, or time is up."""
        self._resumable, self._finishing = resumable, False
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], None]] = []

    def cancel(self, message: str, code: str = Cancelled.code) -> None:
        """Somebody wants it to stop, with this status code and message; a second call changes nothing."""
        self._set(message, code, interrupted=False)

    def interrupt(self, message: str, code: str) -> None:
        """The agent has to stop it; what is resumable is left as it is."""
        self._set(message, code, interrupted=True)

    def time_out(self, message: str, code: str) -> None:
        """Time is up: the same, but what only has to be finished is left alone."""
        self._set(message, code, interrupted=True, unless_finishing=True)

    def finish(self) -> None:
        """From now on it takes longer to go back than to go on. Raises `Cancelled` when it is too late."""
        with self._lock:
            self._finishing = True
        self.check()

    def _set(self, message: str, code: str, *, interrupted: bool, unless_finishing: bool = False) -> None:
        with self._lock:
            if self.event.is_set() or (unless_finishing and self._finishing):
                return
            self.code, self.message, self.interrupted = code, message, interrupted
            self.event.set()
            wakers = list(self._wakers)
        for wake in wakers:
            wake()

    def check(self) -> None:
        """Raise `Cancelled` once the token is set."""
        if self.event.is_set():
            raise (Interrupted if self.interrupted and self._resumable else Cancelled)(self.message)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """While inside, a provider works."""
        self.in_foreign_hands = True
        try:
            yield
        finally:
            self.in_foreign_hands = False

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """While inside, `cancel` also calls `wake`: it kills a process, closes a socket."""
        with self._lock:
            self._wakers.append(wake)
            cancelled = self.event.is_set()
        if cancelled:
            wake()
        try:
            yield
        finally:
            with self._lock:
                self._wakers.remove(wake)


class Connections:
    """The connections of one job: opened here, shut down when it is cancelled.

    Kept as duplicates, because TLS takes the descriptor out of the socket that was opened. Shutting down
    a duplicate ends a read or write that waits on the original.
    """

    def __init__(self, timeout_s: float, bytes_per_s: int = 0) -> None:
        """At most `bytes_per_s` leave through each connection; 0 for no limit."""
        self._timeout_s, self._bytes_per_s = timeout_s, bytes_per_s
        self._duplicates: list[socket.socket] = []

    def open(self, host: str, port: int, check: CheckAddress = allow_all) -> socket.socket:
        """A TCP connection to an address that `check` allows; raises `NotAllowed` and OSError."""
        # Also after a cancel: cleaning up at the far side takes connections too.
        connection = reached(host, port, self._timeout_s, check)
        if self._bytes_per_s:
            # A provider may hand over a whole part at once: the kernel spreads it over time.
            connection.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, self._bytes_per_s)
        self._duplicates.append(connection.dup())
        return connection

    def shut(self) -> None:
        for duplicate in self._duplicates:
            with suppress(OSError):
                duplicate.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for duplicate in self._duplicates:
            duplicate.close()
        self._duplicates.clear()


def no_progress(_bytes_done: int) -> None:
    """For those who do not want to know."""


def private(path: str, flags: int) -> int:
    """An opener for files that are nobody else's business: mode 0600."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


class RateLimit:
    """Spreads bytes over time: at most `bytes_per_s`, smooth over a fraction of a second; 0 for no limit."""

    def __init__(self, bytes_per_s: int, token: CancelToken) -> None:
        self.bytes_per_s, self._token = bytes_per_s, token
        self._due_s = 0.0

    def pace(self, size_bytes: int) -> None:
        """Wait until these bytes are allowed to have passed. Raises `Cancelled` as soon as it is."""
        if not self.bytes_per_s:
            return
        now_s = time.monotonic()
        # What was not used in a pause is not made up for later.
        self._due_s = max(self._due_s, now_s) + size_bytes / self.bytes_per_s
        if self._token.event.wait(self._due_s - now_s):
            self._token.check()


class FileSource:
    """A complete archive in a file. `md5` is what `file_md5` said, when a checksum is to be sent."""

    rewindable = True

    def __init__(
        self,
        path: Path,
        token: CancelToken,
        progress: Progress = no_progress,
        *,
        rate: RateLimit | None = None,
        md5: bytes | None = None,
    ) -> None:
        self._rate = rate or RateLimit(0, token)
        self._file = path.open("rb", buffering=0)
        # The kernel reads ahead further than by itself.
        os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        self.size: int | None = os.fstat(self._file.fileno()).st_size
        self.md5 = md5
        self.failure: Exception | None = None
        """What reading raised."""
        self._token, self._progress = token, progress

    def read(self, n: int = -1, /) -> bytes:
        try:
            self._token.check()
            with disk_errors("cannot read the staged archive"):
                chunk = self._file.read(n)
            self._rate.pace(len(chunk))
        except Exception as error:
            self.failure = error
            raise
        self._progress(self._file.tell())
        return chunk

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


class StreamSource:
    """An archive while it is being made: each read pulls the next chunks out of the archive writer."""

    size: int | None = None
    rewindable = False
    md5: bytes | None = None

    def __init__(
        self,
        chunks: Iterator[bytes],
        token: CancelToken,
        progress: Progress = no_progress,
        *,
        rate: RateLimit | None = None,
    ) -> None:
        self._chunks, self._token, self._progress = chunks, token, progress
        self._rate = rate or RateLimit(0, token)
        self._rest = memoryview(b"")
        self._done = 0
        self._hash = hashlib.sha256()
        self.failure: Exception | None = None
        """What ended the archive too early: not the fault of whoever reads it."""

    def read(self, n: int = -1, /) -> bytes:
        """Up to `n` bytes, all of them unless the archive ends; b"" at the end."""
        parts: list[bytes | memoryview] = []
        wanted = n if n >= 0 else None
        while wanted is None or wanted > 0:
            if not self._rest and not self._pull():
                break
            part = self._rest[:wanted]
            self._rest = self._rest[len(part) :]
            parts.append(part)
            if wanted is not None:
                wanted -= len(part)
        data = b"".join(parts)
        self._hash.update(data)
        self._rate.pace(len(data))
        self._done += len(data)
        self._progress(self._done)
        return data

    def _pull(self) -> bool:
        try:
            self._token.check()
            for chunk in self._chunks:
                if chunk:
                    self._rest = memoryview(chunk)
                    return True
        except Exception as error:
            self.failure = error
            raise
        return False

    def seek(self, offset: int, whence: int = 0, /) -> int:
        raise OSError(f"an archive that is still being made cannot seek to {offset} ({whence})")

    def tell(self) -> int:
        return self._done

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


class FileSink:
    """A file that is being fetched. What is already there counts, so that a download can continue."""

    def __init__(
        self,
        path: Path,
        token: CancelToken,
        progress: Progress = no_progress,
        *,
        rate: RateLimit | None = None,
        reserve_bytes: int = 0,
    ) -> None:
        """`reserve_bytes` are left free where `path` is. Raises NoSpace when they are not, and OSError."""
        self._rate = rate or RateLimit(0, token)
        self._room = Room(path.parent, f"the storage '{path.parent}'", reserve_bytes, NoSpace)
        self._room.check()
        self._file: BinaryIO = open(path, "ab", opener=private)  # noqa: SIM115 (closed by `close`)
        self._write_back = WriteBack(self._file.fileno(), self._file.tell())
        self._token, self._progress = token, progress

    def write(self, chunk: bytes, /) -> int:
        self._token.check()
        with disk_errors("cannot write the download"):
            self._room.take(len(chunk))
            written = self._file.write(chunk)
            self._write_back.reached(self._file.tell())
        self._rate.pace(written)
        self._progress(self._file.tell())
        return written

    def tell(self) -> int:
        return self._file.tell()

    def restart(self) -> None:
        self._file.seek(0)  # `tell` would go on from the old end
        self._file.truncate()
        self._write_back = WriteBack(self._file.fileno())

    def close(self) -> None:
        """Flush to the disk: what the checkpoint says was fetched must be there after a power cut."""
        if self._file.closed:
            return
        with disk_errors("cannot write the download"), self._file:
            self._file.flush()
            os.fsync(self._file.fileno())


def file_digest(path: Path, algorithm: str, token: CancelToken) -> bytes:
    """The digest of a whole file ("md5", "sha256"), read a chunk at a time; stops when cancelled."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with path.open("rb", buffering=0) as file:
        while read := file.readinto(buffer):
            token.check()
            digest.update(buffer[:read])
    return digest.digest()
