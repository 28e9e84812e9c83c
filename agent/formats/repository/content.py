"""Reads files for a snapshot: their chunks, those of which the repository has not being stored."""

import hashlib
import os
from dataclasses import dataclass
from typing import NamedTuple

from agent.formats.base import Entry
from agent.formats.repository.blobs import BlobWriter
from agent.formats.repository.chunker import Chunker, Kind, kind_of
from agent.formats.repository.state import Known, State
from agent.formats.walk_report import Report, reason_of
from agent.transfer.context import Context

_HEAD_BYTES = 512


class Content(NamedTuple):
    """The content of a file that was read."""

    ids: bytes
    """The ids of its chunks, one after the other."""
    size_bytes: int
    kind: Kind


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
        reading = _Reading(entry.fd, entry.stat.st_size)
        ids: list[bytes] = []
        try:
            head = os.pread(entry.fd, _HEAD_BYTES, 0) if entry.stat.st_size else b""
            kind = kind_of(head, known.kind if known else Kind.NONE)
            for chunk in self.chunker.chunks(reading.into, kind):
                ids.append(self._store(chunk))
                self.report.read_bytes += len(chunk)
                self.context.token.check()
                self.context.progress(self.report.read_bytes)
        except OSError as error:
            self.state.unuse(b"".join(ids))
            self.report.skip(entry.name, reason_of(error))
            return None
        if known:
            self.state.unuse(known.content)
        return Content(b"".join(ids), reading.done_bytes, kind)

    def _store(self, chunk: memoryview) -> bytes:
        blob_id = hashlib.sha256(chunk).digest()
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
