"""`restore` and its `preview`: fetch, open, unpack; the steps in reading order, in a worker's thread.

What follows then is in `agent.restore.stages`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agent.base.errors import ForeignArchive
from agent.base.text import readable
from agent.formats.base import Format, SavedTree, Unlock
from agent.formats.manifest import Manifest
from agent.restore.choice import Choice
from agent.restore.difference import NAMED
from agent.restore.restore_target import Amount, Into, restore_work
from agent.restore.stages import Parts, Preview, lay_out, put_back
from agent.save.pipeline import work_directory
from agent.transfer.context import Context, Destination, RunHook
from agent.transfer.get import Fetch
from providers.api import Stored


@dataclass(frozen=True, slots=True)
class RestoreOrder:
    """Fetch the archive at `place` to `download` and put it back."""

    into: Into
    download: Path
    destination: Destination
    device_tag: str
    choice: Choice
    """What of the archive goes there."""
    format: Format
    unlock: Unlock
    deliver: RunHook | None = None
    """Kanto's `restoreCmd`: it does what it wants with what is unpacked in the directory, made for it."""
    device: str | None = None
    """Only archives of the device with this id, where they say whose they are; None takes those of any."""


def restore(order: RestoreOrder, context: Context) -> Amount:
    """Fetch, verify, unpack beside the target, commit: all or nothing.

    Raised means that the target is as it was before, unless the error says otherwise.
    """
    with _fetched(order, context) as (stored, _, parts):
        if order.deliver:
            amount = _delivered(parts[0], order, order.deliver, context)
        else:
            amount = put_back(parts, order.into, context)
    return replace(amount, archive=stored.name, place=stored.place)


def preview(order: RestoreOrder, context: Context) -> Preview:
    """Fetch, verify, unpack beside the target, compare, and stop; raised means that nothing is left."""
    with _fetched(order, context) as (stored, manifest, parts):
        missing = [item.name for item in manifest.unexportable[:NAMED]] if manifest else []
        laid_out = lay_out(parts, order.into, context)
    return replace(laid_out, unexportable=missing, archive=stored.name, place=stored.place)


@contextmanager
def _fetched(order: RestoreOrder, context: Context) -> Iterator[tuple[Stored, Manifest | None, Parts]]:
    source = Fetch(order.destination, order.device_tag, order.download, order.into.options.reserve_bytes)
    with order.format.fetched(source, context) as archive:
        context.phase("unpacking")
        tree = archive.tree(order.unlock)
        manifest = tree.manifest()
        _check_origin(manifest, order.device)
        if manifest and not order.deliver:
            order.choice.check_sources(source.prefix for source in manifest.sources)
        yield archive.stored, manifest, order.choice.parts(tree, order.into.options.limits)


def _check_origin(manifest: Manifest | None, device: str | None) -> None:
    """Raise `ForeignArchive` for what another device made: its keys and its name are in there."""
    if manifest and device is not None and manifest.device != device:
        raise ForeignArchive(
            f"the archive is of device '{readable(manifest.device)}', and this is '{device}':"
            " if that is meant, give option 'restore.foreign'"
        )


def _delivered(tree: SavedTree, order: RestoreOrder, deliver: RunHook, context: Context) -> Amount:
    into = order.into
    with work_directory(into.directory):
        work = restore_work(into, context)
        try:
            survey = work.unpack(tree)
            context.phase("delivering")
            deliver(work.unpacked, context.token)
        finally:
            work.discard()
    return Amount(survey.files, survey.size_bytes)
