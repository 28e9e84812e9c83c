"""`restore`: fetch, verify, unpack, put back; the steps in reading order, in a worker's thread."""

from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import structlog

from agent.backup.archive.reader import ArchiveReader
from agent.backup.archive.survey import Survey
from agent.backup.cancel import CancelToken
from agent.backup.context import Command, Context, Place
from agent.backup.errors import JobError, disk_errors
from agent.backup.job import COMMITTED, STOPPED, WORKING, archive_time
from agent.backup.pipeline import work_directory
from agent.backup.restore import Restore, RestoreOptions, make_target, recover, remove_made
from agent.backup.retry import with_retries
from agent.backup.seal.header import refuse_sealed
from agent.backup.storing import distrusting
from agent.backup.transfer import FileSink
from providers.api import Listing, Storage, Stored
from providers.errors import NotFound

log = structlog.get_logger(__name__)


Unseal = Callable[[BinaryIO], BinaryIO]
"""Gives the plain archive in a file. Raises a `JobError` when it cannot be opened, or must not be."""


@dataclass(frozen=True, slots=True)
class RestoreOrder:
    """Fetch the archive at `place` to `download` and put it back into `directory`."""

    directory: Path
    made: list[Path]
    """Directories that do not exist yet, `directory` last: made first, and removed again on failure."""
    download: Path
    place: Place
    device_tag: str
    options: RestoreOptions
    unseal: Unseal = refuse_sealed
    deliver: Command | None = None
    """Kanto's `restoreCmd`: it does what it wants with what is unpacked in `directory`, made for it."""
    before: Command | None = None
    after: Command | None = None
    """Around the commit: they stop and start whoever owns the data."""


def restore(order: RestoreOrder, context: Context) -> Survey:
    """Fetch, verify, unpack beside the target, commit: all or nothing.

    Raised means that the target is as it was before, unless the error says otherwise.
    """
    try:
        context.phase("fetching")
        _fetch(order, context)
        context.phase("unpacking")
        with order.download.open("rb") as file:
            archive = ArchiveReader(order.unseal(file))
            deliver = _put_back if order.deliver is None else _delivered
            return deliver(archive, order, context)
    finally:
        with suppress(OSError):  # what a failing disk keeps, the next start removes
            order.download.unlink()


def _put_back(archive: ArchiveReader, order: RestoreOrder, context: Context) -> Survey:
    # Until this is taken back, every start of the agent looks into the target.
    context.checkpoint[WORKING] = "yes"
    make_target(order.directory)
    work = _restore(order, context)
    try:
        survey = work.unpack(archive)
        context.phase("committing")
        _commit(work, order, context)
    except BaseException:
        if _tidied(work, order, context, failed=True):
            remove_made(order.made)
        raise
    if _noted(context):
        _tidied(work, order, context)
    return survey


def _restore(order: RestoreOrder, context: Context) -> Restore:
    return Restore(
        order.directory,
        context.job_id,
        order.options,
        context.token,
        context.progress,
        expected=context.expect,
    )


def _commit(work: Restore, order: RestoreOrder, context: Context) -> None:
    if order.before and order.after:
        # After a crash whoever was stopped has to be started again.
        context.checkpoint[STOPPED] = "yes"
    try:
        if order.before:
            order.before(order.directory, context.token)
        context.token.finish()
        work.commit(lambda: order.after(order.directory, context.token) if order.after else None)
    except BaseException:
        _start_again(order)
        context.checkpoint.pop(STOPPED, None)
        raise


def _noted(context: Context) -> bool:
    """Whether the journal knows that all is restored.

    After a crash the working directory tells new from old, so the journal has to know before it goes. When
    the journal cannot be written, the directory stays: all is restored, and the next start tidies up.
    """
    try:
        context.checkpoint.pop(STOPPED, None)
        context.checkpoint[COMMITTED] = "yes"
    except JobError:
        log.exception("restored, but the journal cannot be written: the next start tidies up")
        return False
    return True


def _start_again(order: RestoreOrder) -> None:
    """What was stopped before the commit, or only half, goes on with the old data; also after a cancel."""
    if order.before and order.after:
        try:
            order.after(order.directory, CancelToken())
        except JobError:
            log.exception("afterRestoreCmd failed after the restore was taken back")


def _delivered(archive: ArchiveReader, order: RestoreOrder, context: Context) -> Survey:
    assert order.deliver
    with work_directory(order.directory):
        work = _restore(order, context)
        try:
            survey = work.unpack(archive)
            context.phase("delivering")
            order.deliver(work.unpacked, context.token)
        finally:
            work.discard()
    return survey


def _tidied(work: Restore, order: RestoreOrder, context: Context, *, failed: bool = False) -> bool:
    """Leave nothing of the restore behind but its result; False when the next start has to do it."""
    try:
        work.discard()
        recover(order.directory, context.job_id, failed=failed)
        del context.checkpoint[WORKING]
    except JobError:
        log.exception("a restore could not be tidied up: the next start of the agent does it")
        return False
    return True


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
            reserve_bytes=order.options.reserve_bytes,
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
