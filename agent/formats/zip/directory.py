"""The central directory while the archive is being made: kept compressed until the end."""

from collections.abc import Iterator
from contextlib import suppress
from tempfile import SpooledTemporaryFile

from agent.base.errors import disk_errors
from agent.formats.zip.compressors import isal

_BATCH_BYTES = 1 << 16
_READ_BYTES = 1 << 13  # may become a thousand times as much
MEMORY_BYTES = 16 << 20
"""Compressed; about 400,000 files of ordinary names. Beyond that it goes to a nameless temporary file."""


class CentralDirectory:
    """Records go in one by one and come out as the bytes that end the archive."""

    def __init__(self) -> None:
        self.entries = 0
        self.size_bytes = 0
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._deflate = isal().compressobj(1)
        self._kept = SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115 - closed by close()

    def add(self, record: bytes) -> None:
        """Keep one record. Raises NoSpace and IoError when the temporary file cannot be written."""
        self.entries += 1
        self._batch.append(record)
        self._batch_bytes += len(record)
        if self._batch_bytes >= _BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._keep(self._deflate.compress(b"".join(self._batch)))
        self.size_bytes += self._batch_bytes
        self._batch.clear()
        self._batch_bytes = 0

    def _keep(self, compressed: bytes) -> None:
        with disk_errors("cannot keep the archive's directory in a temporary file (TMPDIR)"):
            self._kept.write(compressed)

    def chunks(self) -> Iterator[bytes]:
        """All records, in order; `size_bytes` is complete afterwards. Called once, at the end."""
        self._flush()
        self._keep(self._deflate.flush())
        with disk_errors("cannot keep the archive's directory in a temporary file (TMPDIR)"):
            self._kept.seek(0)  # writes what is still in a buffer
        inflate = isal().decompressobj()
        while block := self._kept.read(_READ_BYTES):
            yield inflate.decompress(block)

    def close(self) -> None:
        with suppress(OSError):  # a full disk refuses again what is still in a buffer
            self._kept.close()
