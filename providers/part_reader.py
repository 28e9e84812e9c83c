"""Reading an archive part by part, and the next part while one is being sent."""

import contextvars
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from providers.api import Source
from providers.part_sizes import PartPlan, too_large
from providers.writeback import CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class ReadPart:
    """One part in memory. Shorter than planned, perhaps empty, when it is the `last`."""

    number: int
    body: bytearray
    md5: bytes
    last: bool


class PartReader:
    """Used by one thread at a time: by its owner, and in `reading_on` by a thread of its own."""

    def __init__(self, source: Source, plan: PartPlan, memory_bytes: int, *, whole_md5: bool) -> None:
        """`memory_bytes` are for parts: no part is read ahead when two do not fit."""
        self.total_bytes = 0
        self._source, self._plan, self._memory_bytes = source, plan, memory_bytes
        self._whole = hashlib.md5(usedforsecurity=False) if whole_md5 else None
        self._number, self._filled, self._ended = 1, 0, False
        self._buffer = self._spare = bytearray()
        self._part_md5 = hashlib.md5(usedforsecurity=False)
        self._stopping = False
        self._error: BaseException | None = None

    @property
    def md5(self) -> bytes | None:
        return self._whole.digest() if self._whole else None

    def next(self) -> ReadPart:
        """Return the next part, whole. Raises what the source raises, and `TooLarge`."""
        self._stopping = False
        self._fill()
        del self._buffer[self._filled :]
        part = ReadPart(self._number, self._buffer, self._part_md5.digest(), self._ended)
        self._number, self._filled, self._buffer = self._number + 1, 0, bytearray()
        self._part_md5 = hashlib.md5(usedforsecurity=False)
        return part

    def give_back(self, part: ReadPart) -> None:
        """Reuse the memory of a part that was sent."""
        self._spare = part.body

    @contextmanager
    def reading_on(self, part: ReadPart) -> Iterator[None]:
        """Read and hash the part after `part` during the block, which sends `part`.

        At the end of the block reading stops, and an error of the source is raised, even in place of another;
        `next` reads the rest.
        """
        if part.last or len(part.body) + self._plan.size_of(self._number) > self._memory_bytes:
            yield
            return
        self._stopping = False
        context = contextvars.copy_context()  # what is logged while reading says whose job it is
        thread = threading.Thread(
            target=context.run, args=(self._read_ahead,), name="read-ahead", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            self._stopping = True
            thread.join()
            if error := self._error:
                raise error

    def _read_ahead(self) -> None:
        try:
            self._fill()
        except BaseException as error:
            self._error = error

    def _fill(self) -> None:
        """Read until the current part is full, the source has ended, or `reading_on` is left."""
        wanted = self._plan.size_of(self._number)
        if len(self._buffer) != wanted and not self._filled:
            self._buffer = self._new_buffer(wanted)
        while not self._ended and self._filled < wanted and not self._stopping:
            chunk = self._source.read(min(CHUNK_BYTES, wanted - self._filled))
            if chunk and self._number > self._plan.most_parts:
                raise too_large(self.total_bytes)
            self._buffer[self._filled : self._filled + len(chunk)] = chunk
            self._part_md5.update(chunk)
            if self._whole:
                self._whole.update(chunk)
            self._filled += len(chunk)
            self.total_bytes += len(chunk)
            self._ended = not chunk

    def _new_buffer(self, size_bytes: int) -> bytearray:
        spare, self._spare = self._spare, bytearray()
        return spare if len(spare) == size_bytes else bytearray(size_bytes)
