"""The streams of archives that the agent gives to providers: `Source` and `Sink` of `providers.api`.

Every byte passes through them, whatever the provider does: they count, hash, limit the rate and cancel.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from agent.base.errors import NoSpace, disk_errors
from agent.transfer.cancel import CancelToken
from providers.errors import TooLarge
from providers.free_space import Room
from providers.writeback import CHUNK_BYTES, WriteBack

Progress = Callable[[int], None]
"""Called with a number of bytes, from the worker's thread; must be cheap."""


def no_progress(_bytes: int) -> None:
    """Ignore the progress."""


def private(path: str, flags: int) -> int:
    """Open a private file, of mode 0600."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


class RateLimit:
    """Spreads bytes over time: at most `bytes_per_s`, smooth over a fraction of a second; 0 for no limit."""

    def __init__(self, bytes_per_s: int, token: CancelToken) -> None:
        self.bytes_per_s, self._token = bytes_per_s, token
        self._due_s = 0.0

    def pace(self, size_bytes: int) -> None:
        """Wait until these bytes may have passed. Raises `Cancelled` at once when the token is set."""
        if not self.bytes_per_s:
            return
        now_s = time.monotonic()
        # Time that was not used is not caught up later.
        self._due_s = max(self._due_s, now_s) + size_bytes / self.bytes_per_s
        if self._token.event.wait(self._due_s - now_s):
            self._token.check()


class FileSource:
    """A complete archive in a file. `md5` is its digest when a checksum is to be sent."""

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
        self._token, self._progress = token, progress

    def read(self, n: int = -1, /) -> bytes:
        self._token.check()
        with disk_errors("cannot read the staged archive"):
            chunk = self._file.read(n)
        self._rate.pace(len(chunk))
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
        *,
        rate: RateLimit | None = None,
    ) -> None:
        self._chunks, self._token = chunks, token
        self._rate = rate or RateLimit(0, token)
        self._rest = memoryview(b"")
        self._done = 0
        self._hash = hashlib.sha256()

    def read(self, n: int = -1, /) -> bytes:
        """Return `n` bytes, fewer only at the end of the archive."""
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
        return data

    def _pull(self) -> bool:
        self._token.check()
        for chunk in self._chunks:
            if chunk:
                self._rest = memoryview(chunk)
                return True
        return False

    def seek(self, offset: int, whence: int = 0, /) -> int:
        raise OSError(f"an archive that is still being made cannot seek to {offset} ({whence})")

    def tell(self) -> int:
        return self._done

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


class FileSink:
    """A file that an archive is fetched to. Its old content counts, so that a download can continue."""

    def __init__(
        self,
        path: Path,
        token: CancelToken,
        progress: Progress = no_progress,
        *,
        expected: Progress = no_progress,
        rate: RateLimit | None = None,
        reserve_bytes: int = 0,
        max_bytes: int = 0,
    ) -> None:
        """Leave `reserve_bytes` free where `path` is; take at most `max_bytes`, 0 for no limit.

        Raises NoSpace when the reserve is not free, and OSError.
        """
        self._rate = rate or RateLimit(0, token)
        self._room = Room(path.parent, f"the storage '{path.parent}'", reserve_bytes, NoSpace)
        self._room.check()
        self._file: BinaryIO = open(path, "ab", opener=private)  # noqa: SIM115 (closed by `close`)
        self._write_back = WriteBack(self._file.fileno(), self._file.tell())
        self._token, self._progress, self._expected = token, progress, expected
        self._max_bytes = max_bytes

    def write(self, chunk: bytes, /) -> int:
        self._token.check()
        self.check_size(self.tell() + len(chunk))
        with disk_errors("cannot write the download"):
            self._room.take(len(chunk))
            written = self._file.write(chunk)
            self._write_back.reached(self._file.tell())
        self._rate.pace(written)
        self._progress(self._file.tell())
        return written

    def tell(self) -> int:
        return self._file.tell()

    def expect(self, size_bytes: int, /) -> None:
        """Take the size of the whole archive. Raises `TooLarge`, and `NoSpace` when the rest has no room."""
        self.check_size(size_bytes)
        with disk_errors("cannot write the download"):
            self._room.check(size_bytes - self.tell())
        self._expected(size_bytes)

    def check_size(self, size_bytes: int) -> None:
        """Raise `TooLarge` when an archive of this size is not to be fetched."""
        if self._max_bytes and size_bytes > self._max_bytes:
            raise TooLarge(f"the archive has more than the {self._max_bytes} bytes that may be fetched")

    def restart(self) -> None:
        self._file.seek(0)  # `tell` would go on from the old end
        self._file.truncate()
        self._write_back = WriteBack(self._file.fileno())

    def close(self) -> None:
        """Flush to the disk: the checkpoint relies on it after a power cut."""
        if self._file.closed:
            return
        with disk_errors("cannot write the download"), self._file:
            self._file.flush()
            os.fsync(self._file.fileno())


def file_digest(path: Path, algorithm: str, token: CancelToken) -> bytes:
    """Return the digest ("md5", "sha256") of a whole file, read in chunks. Raises `Cancelled`."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with path.open("rb", buffering=0) as file:
        while read := file.readinto(buffer):
            token.check()
            digest.update(buffer[:read])
    return digest.digest()
