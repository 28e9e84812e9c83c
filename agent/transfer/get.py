"""Fetching an archive from its place into a file of the device, one attempt after another."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agent.base.errors import disk_errors
from agent.transfer.context import Context, Destination
from agent.transfer.streams import FileSink
from providers.api import Capability, Stored
from providers.errors import TooLarge


@dataclass(frozen=True, slots=True)
class Fetch:
    """Fetch the archive that the destination names to the file `to`."""

    destination: Destination
    to: Path
    reserve_bytes: int
    """Free space that has to be left where `to` is."""
    max_bytes: int = 0
    """The largest archive that is fetched; 0 for no limit."""


def fetch(order: Fetch, context: Context) -> Stored:
    """Returned means that all of it is in the file; raised, that a part may be.

    Raises `StorageError` and `JobError`: `NotFound`, `TooLarge` beyond `max_bytes`, `NoSpace`.
    """
    storage, name = order.destination.storage, order.destination.name
    assert name is not None
    if order.max_bytes and Capability.STAT in storage.capabilities:
        _check_size(storage.stat(name).size_bytes, order.max_bytes)
    with disk_errors(f"cannot write the download to '{order.to.parent}'"):
        sink = _Sink(
            order.to,
            context.token,
            context.progress,
            expected=context.expect,
            rate=context.rate(),
            reserve_bytes=order.reserve_bytes,
        )
    sink.max_bytes = order.max_bytes
    with closing(sink):
        return storage.get(name, sink, context.checkpoint)


class _Sink(FileSink):
    """Also for places that cannot say how large an archive is."""

    max_bytes = 0

    def write(self, chunk: bytes, /) -> int:
        if self.max_bytes:
            _check_size(self.tell() + len(chunk), self.max_bytes)
        return super().write(chunk)


def _check_size(size_bytes: int, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise TooLarge(f"the archive has more than the {max_bytes} bytes that may be fetched")
