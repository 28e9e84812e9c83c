"""Uploads in parts: S3's multipart upload, Azure's block lists.

One part is sent at a time, while the next one is read. Each attempt reads a rewindable source from its start,
and compares the parts that were sent before instead of sending them again. A stream cannot be read again: its
upload is kept, with the part that could not be sent, until the agent calls `put` again with this source.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol
from urllib.parse import quote

from providers.api import Checkpoint, Limits, Sink, Source, Storage, Stored
from providers.errors import Corrupted, Expired, Suspended, Unreachable
from providers.fetch import Body, Download
from providers.part_reader import PartReader, ReadPart
from providers.part_sizes import PartPlan


@dataclass(frozen=True, slots=True)
class Part:
    """A part that the far side already holds; `md5` as 32 hex digits when it is known."""

    size_bytes: int
    md5: str | None = None


class Far(Protocol):
    """The far side of one upload. All methods raise `StorageError`, except `abandon`."""

    needs_md5: bool
    """True when `commit` needs the MD5 of the whole, for which every byte is hashed twice."""

    def adopt(self, identity: str, /) -> None:
        """Keep the checkpoint's upload when it is of this object and this source, else begin with none.

        `identity` tells sources apart; an upload whose identity is empty is never continued.
        """

    def put_whole(self, body: bytearray, md5: bytes, /) -> Stored:
        """Store an archive that is smaller than one part in one request."""

    def begin(self) -> Mapping[int, Part]:
        """Open the upload, or that of the checkpoint; return the parts that are already there."""

    def put_part(self, number: int, body: bytearray, md5: bytes, /) -> None: ...

    def commit(self, parts: int, size_bytes: int, md5: bytes | None, /) -> Stored:
        """Make the object of parts 1 to `parts` visible in one step; `md5` is of the whole."""

    def abandon(self) -> None:
        """Remove the parts that were sent and clear the checkpoint, or keep it when that fails."""


class PartUpload:
    """One upload. `run` may be called again after `Unreachable`: it continues."""

    def __init__(self, far: Far, source: Source, plan: PartPlan, memory_bytes: int) -> None:
        """`memory_bytes` limits all parts in memory together; one part is always allowed."""
        self.source = source
        self._far, self._plan = far, plan
        self._there: Mapping[int, Part] | None = None
        whole_md5 = far.needs_md5 or source.md5 is not None
        self._reader = PartReader(source, plan, memory_bytes, whole_md5=whole_md5)
        self._current: ReadPart | None = None
        self._sent = 0

    def run(self) -> Stored:
        """Send everything. Raises what the source raises, `StorageError`, `Corrupted` for a bad source."""
        if self.source.size is not None and self.source.size >= self._plan.size_of(1):
            self._begin()  # at once: a refusal comes before a byte is read
        while True:
            part = self._current = self._current or self._reader.next()
            if part.last and part.number == 1:
                self._check()
                return self._far.put_whole(part.body, part.md5)
            if part.body and part.number > self._sent:
                with self._reader.reading_on(part):
                    self._send(part)
            if part.last:
                self._check()
                return self._far.commit(self._sent, self._reader.total_bytes, self._reader.md5)
            self._current = None
            self._reader.give_back(part)

    def abandon(self) -> None:
        self._far.abandon()

    def _begin(self) -> Mapping[int, Part]:
        if self._there is None:
            self._there = self._far.begin()
        return self._there

    def _send(self, part: ReadPart) -> None:
        there = self._begin().get(part.number)
        if there is None:
            self._far.put_part(part.number, part.body, part.md5)
        elif there.size_bytes != len(part.body) or there.md5 not in (None, part.md5.hex()):
            raise Corrupted("the archive is not the one whose upload had begun: send it from its start")
        self._sent = part.number

    def _check(self) -> None:
        """Raise `Corrupted` for another length or MD5 than announced, while nothing is visible."""
        if self.source.size is not None and self.source.size != self._reader.total_bytes:
            raise Corrupted(
                f"the archive has {self._reader.total_bytes} bytes, expected {self.source.size}: "
                "make it again"
            )
        if self.source.md5 is not None and self.source.md5 != self._reader.md5:
            raise Corrupted("the archive's MD5 differs from the one given for it: make it again")


def start_upload(
    far: Far, source: Source, plan: PartPlan, memory_bytes: int, metadata: Mapping[str, str]
) -> PartUpload:
    """Return an upload that continues the checkpoint's when that is of this source. Raises `StorageError`.

    `metadata["sha256"]`, when given, tells two files of one length apart.
    """
    identity = f"{source.size} {plan.first_bytes} {metadata.get('sha256', '')}"
    far.adopt(identity if source.rewindable else "")
    return PartUpload(far, source, plan, memory_bytes)


class PartUploads:
    """The uploads of one opened storage: it continues or abandons the last one."""

    def __init__(self) -> None:
        self._waiting: PartUpload | None = None

    def put(self, source: Source, start: Callable[[], PartUpload]) -> Stored:
        """Run the upload that waits for this very source, or a new one from `start`.

        After `Unreachable` the upload of a stream waits here, that of a file in its checkpoint. After
        `Expired` and `Suspended` that of a file waits there, too. After other errors nothing is left.
        """
        upload = self._resumed(source) or start()
        try:
            return upload.run()
        except Unreachable:
            if not source.rewindable:
                self._waiting = upload
            raise
        except (Expired, Suspended):
            if not source.rewindable:
                upload.abandon()
            raise
        except BaseException:
            upload.abandon()
            raise

    def _resumed(self, source: Source) -> PartUpload | None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and waiting.source is source:
            return waiting
        if waiting is not None:
            waiting.abandon()
        if source.rewindable:
            source.seek(0)
        elif source.tell():
            raise Corrupted("the archive's beginning is gone and cannot be read again: make it again")
        return None

    def close(self) -> None:
        """Abandon the upload of a stream that nobody will continue."""
        if self._waiting is not None:
            self._waiting.abandon()
            self._waiting = None


class PartStorage(Storage):
    """A storage that takes uploads in parts, and whose downloads continue while the ETag stays."""

    plan: ClassVar[PartPlan]

    def __init__(self, given: Mapping[str, str], limits: Limits) -> None:
        """`given` are checked options."""
        self._given, self._limits = given, limits
        self._uploads, self._closing = PartUploads(), ExitStack()

    @property
    @abstractmethod
    def most_part_bytes(self) -> int:
        """Return the size of the largest part that fits into memory."""

    @abstractmethod
    def far(self, name: str, metadata: Mapping[str, str], checkpoint: Checkpoint) -> Far:
        """Return the far side of one upload."""

    @abstractmethod
    def open(self, name: str, offset: int, etag: str) -> Body:
        """Open the object for reading, as `providers.fetch.OpenBody`."""

    def put(
        self, name: str, source: Source, metadata: Mapping[str, str], checkpoint: Checkpoint, /
    ) -> Stored:
        """Store `source`: in one request when it is smaller than a part, else in parts.

        After `Unreachable`, call again with the same source: the upload of a file goes on from the
        checkpoint, also in another process; the upload of a stream goes on in this very object, with the part
        that could not be sent. After `Expired` the upload of a file goes on with other credentials. After any
        other error nothing of it is visible; what could not be removed, the checkpoint knows (see `discard`).
        """

        def start() -> PartUpload:
            plan = self.plan.for_source(source.size, self.most_part_bytes)
            far = self.far(name, metadata, checkpoint)
            return start_upload(far, source, plan, self._limits.buffer_bytes, metadata)

        return self._uploads.put(source, start)

    def get(self, name: str, sink: Sink, checkpoint: Checkpoint, /) -> Stored:
        """Fetch the object, from `sink.tell()` on when it still has the ETag in the checkpoint."""
        return Download(name, self.location(name), checkpoint, partial(self.open, name)).run(sink)

    def stat(self, name: str, /) -> Stored:
        body = self.open(name, 0, "")
        body.close()
        return Stored(name, body.size_bytes, body.etag, self.location(name))

    def close(self) -> None:
        self._uploads.close()
        self._closing.close()


def ascii_metadata(metadata: Mapping[str, str], joint: str) -> dict[str, str]:
    """Return the metadata as it fits into headers.

    In keys, other characters than letters and digits become `joint`: "_" for Azure, which demands
    identifiers, "-" for S3, since proxies drop headers with an underscore. Values are percent-encoded to
    printable ASCII. Entries beyond the 2 KiB that S3 allows for all are left out.
    """
    room, safe = 2048, {}
    for key, value in metadata.items():
        name = "".join(letter if letter.isascii() and letter.isalnum() else joint for letter in key.lower())
        text = quote(value, safe=" !#$&'()*+,-./:;<=>?@[]^_{|}~").strip()
        room -= len(name) + len(text)
        if room >= 0 and text:
            safe[name] = text
    return safe
