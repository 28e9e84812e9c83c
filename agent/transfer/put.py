"""Storing an archive with a provider."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agent.base.errors import disk_errors
from agent.transfer.context import Context, Destination
from agent.transfer.streams import FileSource, StreamSource, file_digest
from providers.api import Stored


def put(destination: Destination, source: FileSource | StreamSource, context: Context) -> Stored:
    """Store the whole source. Raises `StorageError` and `JobError`."""
    assert destination.name is not None
    return destination.storage.put(destination.name, source, destination.metadata, context.checkpoint)


@dataclass(frozen=True, slots=True)
class UploadOrder:
    """Store the complete archive `archive` at the destination."""

    archive: Path
    destination: Destination
    checksum: bool


def upload(order: UploadOrder, context: Context) -> Stored:
    """Store a staged archive; continue where the checkpoint says that an earlier attempt ended."""
    with disk_errors(f"cannot read the staged archive '{order.archive}'"):
        md5 = file_digest(order.archive, "md5", context.token) if order.checksum else None
        source = FileSource(order.archive, context.token, context.progress, rate=context.rate(), md5=md5)
    with closing(source):
        return put(order.destination, source, context)
