"""Sources and sinks for tests: in memory, generated, failing, counting."""

import hashlib
import random
from collections.abc import Callable

_PERIOD = random.Random(1).randbytes(1_000_003)  # a prime length, so that a shift by whole blocks shows


def content(size_bytes: int) -> bytes:
    """Return the first `size_bytes` of a `GeneratedSource`: incompressible, equal in every run."""
    repeats = size_bytes // len(_PERIOD) + 1
    return (_PERIOD * repeats)[:size_bytes]


class BytesSource:
    """A complete archive of these bytes; `size` and `md5` may be announced wrongly."""

    rewindable = True

    def __init__(self, data: bytes, *, size: int | None = None, md5: bytes | None = None) -> None:
        self._data = data
        self._offset = 0
        self.size: int | None = len(data) if size is None else size
        self.md5 = md5
        self.closed = False

    def _slice(self, start: int, stop: int) -> bytes:
        return self._data[start:stop]

    def _length(self) -> int:
        return len(self._data)

    def read(self, n: int = -1, /) -> bytes:
        stop = self._length() if n < 0 else min(self._offset + n, self._length())
        chunk = self._slice(self._offset, stop)
        self._offset += len(chunk)
        return chunk

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._offset = offset + (0, self._offset, self._length())[whence]
        return self._offset

    def tell(self) -> int:
        return self._offset

    def close(self) -> None:
        self.closed = True


class GeneratedSource(BytesSource):
    """An archive of any length that takes no memory; its bytes are those of `content`."""

    def __init__(self, size_bytes: int, *, md5: bytes | None = None) -> None:
        super().__init__(b"", size=size_bytes, md5=md5)
        self._size_bytes = size_bytes

    def _length(self) -> int:
        return self._size_bytes

    def _slice(self, start: int, stop: int) -> bytes:
        inside = start % len(_PERIOD)
        return _PERIOD[inside : inside + stop - start]


class StreamedSource(BytesSource):
    """An archive while it is being made: no length, no way back."""

    rewindable = False

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.size = None

    def seek(self, offset: int, whence: int = 0, /) -> int:
        raise AssertionError("a source that says it is not rewindable must not be asked to seek")


class FailingSource(BytesSource):
    """Raises `error` from the read that would pass byte `at`; before that it is a `BytesSource`."""

    def __init__(self, data: bytes, at: int, error: Exception, *, streamed: bool = False) -> None:
        super().__init__(data)
        self._at, self._error = at, error
        if streamed:
            self.size, self.rewindable = None, False

    def read(self, n: int = -1, /) -> bytes:
        if self._offset >= self._at:
            raise self._error
        return super().read(self._at - self._offset if n < 0 else min(n, self._at - self._offset))


class HookedSource(BytesSource):
    """Calls `hook` with the offset before each read: a test breaks something at that moment."""

    def __init__(self, data: bytes, hook: Callable[[int], None]) -> None:
        super().__init__(data)
        self._hook = hook

    def read(self, n: int = -1, /) -> bytes:
        self._hook(self._offset)
        return super().read(n)


class MemorySink:
    """Keeps what is fetched in memory. `fails_at` raises `error` from the write that would pass that byte."""

    def __init__(
        self, already: bytes = b"", fails_at: int | None = None, error: Exception | None = None
    ) -> None:
        self.data = bytearray(already)
        self.writes = 0
        self.restarts = 0
        self.expected: int | None = None
        self._fails_at, self._error = fails_at, error

    def write(self, chunk: bytes, /) -> int:
        if self._error is not None and len(self.data) + len(chunk) > (self._fails_at or 0):
            raise self._error
        self.data += chunk
        self.writes += 1
        return len(chunk)

    def tell(self) -> int:
        return len(self.data)

    def restart(self) -> None:
        self.data.clear()
        self.restarts += 1

    def expect(self, size_bytes: int, /) -> None:
        self.expected = size_bytes


class HashingSink:
    """Keeps the length and the MD5 of what was fetched, and no byte of it."""

    def __init__(self) -> None:
        self.restart()

    def write(self, chunk: bytes, /) -> int:
        self._md5.update(chunk)
        self.size_bytes += len(chunk)
        return len(chunk)

    def tell(self) -> int:
        return self.size_bytes

    def restart(self) -> None:
        self.size_bytes = 0
        self._md5 = hashlib.md5(usedforsecurity=False)

    def expect(self, size_bytes: int, /) -> None:
        """Ignore the length."""

    @property
    def md5(self) -> bytes:
        return self._md5.digest()
