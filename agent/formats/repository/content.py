"""Reads files for a snapshot: their chunks, those of which the repository has not being stored."""

import hashlib
import os
from dataclasses import dataclass
from typing import NamedTuple

from agent.formats.entries import Entry, read_whole
from agent.formats.repository.blobs import BlobWriter
from agent.formats.repository.chunker import SMALLEST_BYTES, Chunker, FileKind, kind_of
from agent.formats.repository.crypto import Buffer
from agent.formats.repository.packs import Ids
from agent.formats.repository.state import Known, State
from agent.formats.walk_report import Report, reason_of
from agent.transfer.context import Context

_HEAD_BYTES = 512


class Content(NamedTuple):
    """The content of a file that was read."""

    ids: Ids
    """The ids of its chunks, one after the other."""
    size_bytes: int
    kind: int


@dataclass(slots=True)
class Contents:
    """Reads files. Used by one thread."""

    state: State
    blobs: BlobWriter
    chunker: Chunker
    report: Report
    context: Context

    def read(self, entry: Entry, known: Known | None) -> Content | None:
        """Read a file up to the size that it had when it was opened; None when it cannot be read (reported).

        `known` is the file in the last snapshot, whose chunks are given back.
        """
        before = known.kind if known else FileKind.NONE
        small = entry.stat.st_size <= SMALLEST_BYTES
        ids = bytearray()
        try:
            content = self._small(entry, before) if small else self._large(entry, before, ids)
        except OSError as error:
            self.state.unuse(bytes(ids))
            self.report.skip(entry.name, reason_of(error))
            return None
        if known:
            self.state.unuse(known.content)
        return content

    def _small(self, entry: Entry, before: int) -> Content:
        """Read a file that is one chunk, however it is cut."""
        chunk = read_whole(entry.fd, entry.stat.st_size)
        ids = self._store(chunk) if chunk else b""
        return Content(ids, len(chunk), kind_of(chunk[:_HEAD_BYTES], before))

    def _large(self, entry: Entry, before: int, ids: bytearray) -> Content:
        reading = _Reading(entry.fd, entry.stat.st_size)
        kind = kind_of(os.pread(entry.fd, _HEAD_BYTES, 0), before)
        for chunk in self.chunker.chunks(reading.into, kind):
            ids += self._store(chunk)
            self.context.token.check()
            self.blobs.refresh()
            self.context.progress(self.report.read_bytes)
        return Content(ids, reading.done_bytes, kind)

    def _store(self, chunk: Buffer) -> bytes:
        """Store a chunk that the repository has not; return its id."""
        blob_id = hashlib.sha256(chunk).digest()
        self.report.read_bytes += len(chunk)
        if not self.state.use(blob_id):
            self.blobs.add_data(blob_id, chunk)
        return blob_id


class _Reading:
    """Reads the first bytes of an open file."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        self._fd, self._left_bytes = fd, size_bytes
        self.done_bytes = 0

    def into(self, memory: memoryview) -> int:
        count = os.readv(self._fd, [memory[: self._left_bytes]]) if self._left_bytes else 0
        self._left_bytes -= count
        self.done_bytes += count
        return count
