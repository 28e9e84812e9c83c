"""Archives on their way between a file of the device and their store."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agent.base.errors import disk_errors
from agent.transfer.context import Context, Destination
from agent.transfer.streams import FileSink, FileSource, file_digest
from providers.api import Stored


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
        return order.destination.put(source, context)


@dataclass(frozen=True, slots=True)
class Fetch:
    """Fetch the archive that the destination names to the file `to`."""

    destination: Destination
    to: Path
    reserve_bytes: int
    """Free space that has to be left where `to` is."""
    max_bytes: int = 0
    """The largest archive that is fetched; of a snapshot, the most bytes of its packs. 0 for no limit."""


def fetch(order: Fetch, context: Context) -> Stored:
    """Return when the whole archive is in the file; after an error a part may be there.

    Raises `StorageError` and `JobError`: `NotFound`, `TooLarge` beyond `max_bytes`, `NoSpace`.
    """
    storage, name = order.destination.storage, order.destination.name
    assert name is not None
    with disk_errors(f"cannot write the download to '{order.to.parent}'"):
        sink = FileSink(
            order.to,
            context.token,
            context.progress,
            expected=context.expect,
            rate=context.rate(),
            reserve_bytes=order.reserve_bytes,
            max_bytes=order.max_bytes,
        )
    with closing(sink):
        return storage.get(name, sink, context.checkpoint)
