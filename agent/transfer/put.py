"""Handing an archive to a provider: one attempt after another, and nothing that it says is just believed."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.base.errors import JobError, ProviderBug, disk_errors
from agent.transfer.context import Context, Destination
from agent.transfer.retry import with_retries
from agent.transfer.streams import FileSource, StreamSource, file_digest
from providers.api import Resuming, Stored
from providers.errors import StorageError


def put(destination: Destination, source: FileSource | StreamSource, context: Context) -> Stored:
    assert destination.name is not None
    name = destination.name

    def attempt() -> Stored:
        if source.rewindable:
            source.seek(0)
        with distrusting(source), context.token.lent():
            stored = destination.storage.put(name, source, destination.metadata, context.checkpoint)
        # An SDK may swallow what the stream raised, and report success with nothing stored.
        if source.failure:
            raise source.failure
        _check_whole(stored, source)
        return stored

    def possible() -> bool:
        return source.rewindable or source.tell() == 0 or isinstance(destination.storage, Resuming)

    return with_retries(attempt, context.retries, context.token, possible)


def _check_whole(stored: Stored, source: FileSource | StreamSource) -> None:
    """Raise `ProviderBug` when less was stored than the source had to give."""
    whole = source.tell() if source.size is None else source.size
    if stored.size_bytes != whole or (source.size is None and source.read(1)):
        raise ProviderBug(f"the provider stored {stored.size_bytes} bytes, which is not all of the archive")


@contextmanager
def distrusting(source: FileSource | StreamSource | None = None) -> Iterator[None]:
    """Raise `ProviderBug` for what a provider must not raise (rule 8 of `providers.api`)."""
    try:
        yield
    except (JobError, StorageError):
        raise
    except Exception as error:
        if source and source.failure is error:
            raise
        raise ProviderBug("the provider failed in a way it should not: see the device's log") from error


@dataclass(frozen=True, slots=True)
class UploadOrder:
    """Store the complete archive `archive` at `place`."""

    archive: Path
    destination: Destination
    checksum: bool


def upload(order: UploadOrder, context: Context) -> Stored:
    """Store a staged archive; continues where the checkpoint says that an earlier try ended."""
    with disk_errors(f"cannot read the staged archive '{order.archive}'"):
        md5 = file_digest(order.archive, "md5", context.token) if order.checksum else None
        source = FileSource(order.archive, context.token, context.progress, rate=context.rate(), md5=md5)
    with closing(source):
        return put(order.destination, source, context)
