"""The central directory while the archive is being made: kept compressed until the end."""

from collections.abc import Iterator
from contextlib import suppress
from tempfile import SpooledTemporaryFile

from agent.base.errors import disk_errors
from agent.formats.zip.deflate import isal

_BATCH_BYTES = 1 << 16
_READ_BYTES = 1 << 13  # inflates to a thousand times as much at most
_CANNOT = "cannot keep the archive's directory in a temporary file (TMPDIR)"
MEMORY_BYTES = 16 << 20
"""Compressed, about 400,000 files with ordinary names. The rest goes to a nameless temporary file."""


class CentralDirectory:
    """Records go in one by one and come out as the bytes that end the archive."""

    def __init__(self, scratch: str | None = None) -> None:
        """`scratch` is the directory of the temporary file; None for the process' own."""
        self.entries = 0
        self.size_bytes = 0
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._deflate = isal().compressobj(1)
        self._kept = SpooledTemporaryFile(max_size=MEMORY_BYTES, dir=scratch)  # noqa: SIM115 - closed by close()

    def add(self, record: bytes) -> None:
        """Keep one record. Raises NoSpace and IoError when the temporary file cannot be written."""
        self.entries += 1
        self._batch.append(record)
        self._batch_bytes += len(record)
        if self._batch_bytes >= _BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._write(self._deflate.compress(b"".join(self._batch)))
        self.size_bytes += self._batch_bytes
        self._batch.clear()
        self._batch_bytes = 0

    def _write(self, compressed: bytes) -> None:
        with disk_errors(_CANNOT):
            self._kept.write(compressed)

    def chunks(self) -> Iterator[bytes]:
        """Yield all records, in order. Called once, at the end; `size_bytes` is complete afterwards."""
        self._flush()
        self._write(self._deflate.flush())
        with disk_errors(_CANNOT):
            self._kept.seek(0)  # writes what is still in a buffer
        inflate = isal().decompressobj()
        while block := self._kept.read(_READ_BYTES):
            yield inflate.decompress(block)

    def close(self) -> None:
        with suppress(OSError):  # a full disk refuses again what is still in a buffer
            self._kept.close()
