"""`restore` and its `preview`: fetch, open, unpack; the steps in reading order, in a worker's thread.

What follows then is in `agent.backup.stages`.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent.backup.archive.manifest import Manifest
from agent.backup.archive.names import readable
from agent.backup.archive.reader import ArchiveReader
from agent.backup.context import Command, Context, Place
from agent.backup.errors import ForeignArchive, disk_errors
from agent.backup.job import archive_time
from agent.backup.pipeline import work_directory
from agent.backup.restore.choice import Choice
from agent.backup.retry import with_retries
from agent.backup.seal.header import refuse_sealed
from agent.backup.stages import Amount, Into, Preview, lay_out, put_back, restore_work
from agent.backup.storing import distrusting
from agent.backup.transfer import FileSink
from providers.api import Listing, Storage, Stored
from providers.errors import NotFound

Unseal = Callable[[BinaryIO], BinaryIO]
"""Gives the plain archive in a file. Raises a `JobError` when it cannot be opened, or must not be."""


@dataclass(frozen=True, slots=True)
class RestoreOrder:
    """Fetch the archive at `place` to `download` and put it back."""

    into: Into
    download: Path
    place: Place
    device_tag: str
    choice: Choice
    """What of the archive goes there."""
    unseal: Unseal = refuse_sealed
    deliver: Command | None = None
    """Kanto's `restoreCmd`: it does what it wants with what is unpacked in the directory, made for it."""
    device: str | None = None
    """Only archives of the device with this id, where they say whose they are; None takes those of any."""


def restore(order: RestoreOrder, context: Context) -> Amount:
    """Fetch, verify, unpack beside the target, commit: all or nothing.

    Raised means that the target is as it was before, unless the error says otherwise.
    """
    with _fetched(order, context) as archive:
        if order.deliver:
            return _delivered(archive, order, order.deliver, context)
        return put_back(archive, order.into, context)


def preview(order: RestoreOrder, context: Context) -> Preview:
    """Fetch, verify, unpack beside the target, compare, and stop; raised means that nothing is left."""
    with _fetched(order, context) as archive:
        return lay_out(archive, order.into, context)


@contextmanager
def _fetched(order: RestoreOrder, context: Context) -> Iterator[ArchiveReader]:
    try:
        context.phase("fetching")
        _fetch(order, context)
        context.phase("unpacking")
        with order.download.open("rb") as file:
            plain = order.unseal(file)
            _check_origin(ArchiveReader(plain).manifest(), order.device)
            yield order.choice.reader(plain)
    finally:
        with suppress(OSError):  # what a failing disk keeps, the next start removes
            order.download.unlink()


def _check_origin(manifest: Manifest | None, device: str | None) -> None:
    """Raise `ForeignArchive` for what another device made: its keys and its name are in there."""
    if manifest and device is not None and manifest.device != device:
        raise ForeignArchive(
            f"the archive is of device '{readable(manifest.device)}', and this is '{device}':"
            " if that is meant, give option 'restore.foreign'"
        )


def _delivered(archive: ArchiveReader, order: RestoreOrder, deliver: Command, context: Context) -> Amount:
    into = order.into
    with work_directory(into.directory):
        work = restore_work(into, context)
        try:
            survey = work.unpack(archive)
            context.phase("delivering")
            deliver(work.unpacked, context.token)
        finally:
            work.discard()
    return Amount(survey.files, survey.size_bytes)


def _fetch(order: RestoreOrder, context: Context) -> None:
    place = order.place

    def look() -> str:
        with distrusting(), context.token.lent():
            return newest(place.storage, order.device_tag)

    name = place.name or with_retries(look, context.retries, context.token)
    with disk_errors(f"cannot write the download to '{order.download.parent}'"):
        sink = FileSink(
            order.download,
            context.token,
            context.progress,
            expected=context.expect,
            rate=context.rate(),
            reserve_bytes=order.into.options.reserve_bytes,
        )

    def attempt() -> Stored:
        with distrusting(), context.token.lent():
            return place.storage.get(name, sink, context.checkpoint)

    with closing(sink):
        with_retries(attempt, context.retries, context.token)


def newest(storage: Storage, device_tag: str) -> str:
    """The name of this device's newest archive at a place that can be listed. Raises `NotFound`."""
    assert isinstance(storage, Listing)
    # By their times: each may have been given another name.
    dated = ((archive_time(name, device_tag), name) for name in storage.list(""))
    when, name = max(dated, default=("", ""))
    if not when:
        raise NotFound("there is no archive of this device")
    return name
