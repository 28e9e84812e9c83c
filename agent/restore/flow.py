"""`restore` and its `preview`: the steps in reading order, in a job's thread.

They follow each other at once (`put_back`), or after the owner's decision about a preview (`lay_out`, then
`finalize` or `discard`). While a preview waits, its state is on the disk and in the journal only.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.base.device_ids import DeviceIds
from agent.base.errors import ForeignArchive, LeftToRecovery, WorkGone, disk_errors
from agent.base.job import STOPPED, UNCONFIRMED, WORKING
from agent.base.text import readable
from agent.formats.base import ReadFormat, Unlock
from agent.formats.entry_checks import SurveyedTree
from agent.formats.manifest import Manifest
from agent.restore.choice import Choice
from agent.restore.commit_confirmed import ConfirmationNote
from agent.restore.difference import NAMED, Difference
from agent.restore.directories import make_target
from agent.restore.find import Search, find
from agent.restore.memory import read_working, with_inodes, without_inodes, work_id, working_text
from agent.restore.put_in_place import PATIENCE_S, put_in_place, settle, take_away
from agent.restore.restore_set import RestoreSet
from agent.restore.root import RestoreRoot
from agent.restore.target import Amount, RestoreTarget
from agent.save.pipeline import work_directory
from agent.transfer.archive_files import Fetch
from agent.transfer.context import Context, Destination, RunHook
from providers.api import Stored

_OTHER_OWNERS = (
    "entries with another owner than in the archive: {}; the agent has no right to change owners"
    " (CAP_CHOWN; with systemd, the drop-in full-restore.conf), or a file system or container refuses it"
)
_WITHOUT_RIGHTS = (
    "entries without the set-user-id bit, set-group-id bit or capabilities that they have in the archive: {}"
    " (restore.specialBits)"
)
Trees = Mapping[int, SurveyedTree]
"""Parts of one archive by the numbers of their roots."""


@dataclass(frozen=True, slots=True)
class RestoreOrder:
    """Fetch the archive at the destination to `download` and put it back."""

    target: RestoreTarget
    download: Path
    destination: Destination
    search: Search
    """Finds the archive where the destination names none."""
    choice: Choice
    """The part of the archive that goes there."""
    format: ReadFormat
    unlock: Unlock
    deliver: RunHook | None = None
    """Kanto's `restoreCmd`: it takes the unpacked files out of the directory, which is made for it."""
    device: DeviceIds | None = None
    """The ids of the device: an archive that names another one is refused. None takes those of any."""


@dataclass(frozen=True, slots=True)
class PreviewResult:
    """An unpacked archive, and the numbers of its commit."""

    files: int
    content_bytes: int
    difference: Difference
    unexportable: list[str] = field(default_factory=list)
    """The first names that the backup skipped, which no restore brings back."""
    archive: str = ""
    place: str = ""
    note: str = ""
    """Notes for people about the choice of the archive, and about owners."""


@dataclass(frozen=True, slots=True)
class _Fetched:
    stored: Stored
    note: str
    """A note for people about the choice of the archive."""
    manifest: Manifest | None
    trees: Trees


def restore(order: RestoreOrder, context: Context) -> Amount:
    """Fetch, verify, unpack beside the target and commit, all or nothing. Raises as `put_back`."""
    with _fetched(order, context) as fetched:
        if order.deliver:
            amount = _delivered(fetched.trees[0], order, order.deliver, context)
        else:
            amount = put_back(fetched.trees, order.target, context)
    stored = fetched.stored
    note = _joined(fetched.note, amount.note)
    return replace(amount, archive=stored.name, place=stored.place, note=note)


def preview(order: RestoreOrder, context: Context) -> PreviewResult:
    """Fetch, verify, unpack beside the target and compare. When it raises, nothing is left."""
    with _fetched(order, context) as fetched:
        manifest, stored = fetched.manifest, fetched.stored
        missing = [item.name for item in manifest.unexportable[:NAMED]] if manifest else []
        laid_out = lay_out(fetched.trees, order.target, context)
    note = _joined(fetched.note, laid_out.note)
    return replace(laid_out, unexportable=missing, archive=stored.name, place=stored.place, note=note)


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


@contextmanager
def _fetched(order: RestoreOrder, context: Context) -> Iterator[_Fetched]:
    found = find(order.destination, order.search, order.format, order.unlock)
    destination = replace(order.destination, name=found.name)
    fetch = Fetch(destination, order.download, order.target.options.reserve_bytes)
    with order.format.fetched(fetch, context) as archive:
        context.phase("unpacking")
        tree = archive.tree(order.unlock)
        manifest = tree.manifest()
        _check_origin(manifest, order.device)
        if manifest and not order.deliver:
            order.choice.check_sources(source.prefix for source in manifest.sources)
        trees = order.choice.trees(tree, order.target.options.limits)
        yield _Fetched(archive.stored, found.note, manifest, trees)


def _check_origin(manifest: Manifest | None, device: DeviceIds | None) -> None:
    """Raise `ForeignArchive` for what another device made: its keys and its name are in there."""
    if manifest and device and not device.include(manifest.device):
        raise ForeignArchive(
            f"the archive is of device '{readable(manifest.device)}', not of '{readable(device.current)}':"
            " if that is meant, name the device in option 'restore.fromDevice', or give 'restore.foreign'"
        )


def _delivered(tree: SurveyedTree, order: RestoreOrder, deliver: RunHook, context: Context) -> Amount:
    target = order.target
    with work_directory(target.directory, context.token):
        root = _root(target, context, 0)
        work = _restore_set(context, [root])
        try:
            surveys = work.unpack([tree])
            context.phase("delivering")
            deliver(root.unpacked, context.token)
        finally:
            with suppress(LeftToRecovery):  # all of it goes with the directory
                work.discard()
    return Amount.of(surveys)


def put_back(trees: Trees, target: RestoreTarget, context: Context) -> Amount:
    """Unpack beside the target and commit, all or nothing.

    When it raises, the target is as it was before, unless the error says otherwise: after
    `ConfirmationPending` it is new, and may still become old again.
    """
    work = _begun(target, context, trees)
    with _undone(work, target, context):
        amount = _unpacked(work, trees, context)
        put_in_place(work, target, context, amount)
    settle(work, target, context)
    return amount


@contextmanager
def _undone(work: RestoreSet, target: RestoreTarget, context: Context) -> Iterator[None]:
    """Remove all traces of the restore when the block raises."""
    try:
        yield
    except BaseException:
        take_away(work, target, context)
        raise


def lay_out(trees: Trees, target: RestoreTarget, context: Context) -> PreviewResult:
    """Unpack beside the target and compare; the unpacked files stay. When it raises, nothing is left."""
    work = _begun(target, context, trees)
    with _undone(work, target, context):
        amount = _unpacked(work, trees, context)
        context.phase("comparing")
        difference = work.difference()
        work.leave()
    return PreviewResult(amount.files, amount.content_bytes, difference, note=amount.note)


def finalize(target: RestoreTarget, amount: Amount, context: Context) -> Amount:
    """Compare the files of `lay_out` with the target again, and commit. Raises as `put_back`."""
    work = _left(target, context)
    with _undone(work, target, context):
        work.take_up()
        put_in_place(work, target, context, amount)
    settle(work, target, context)
    return amount


def go_on(target: RestoreTarget, context: Context) -> Amount:
    """Go on with an unconfirmed restore of an earlier run of the agent. Raises as `put_back`."""
    context.checkpoint.pop(STOPPED, None)  # afterRestoreCmd had succeeded before the wait began
    settle(_left(target, context), target, context)
    note = ConfirmationNote.from_text(context.checkpoint[UNCONFIRMED])
    return Amount(note.files, note.content_bytes)


def discard(target: RestoreTarget, context: Context) -> None:
    """Remove the files of `lay_out`; the next start removes those that cannot go now."""
    take_away(_left(target, context), target, context)


def _begun(target: RestoreTarget, context: Context, trees: Trees) -> RestoreSet:
    # As long as this is in the journal, every start of the agent looks into these targets.
    directories = {number: target.roots[number].directory for number in trees}
    context.checkpoint[WORKING] = working_text(directories)
    if target.prover:
        target.prover.memory.remember(directories.values())
    made = {path for directory in directories.values() for path in make_target(directory)}
    return _restore_set(context, [_root(target, context, number, made) for number in trees])


def _unpacked(work: RestoreSet, trees: Trees, context: Context) -> Amount:
    amount = Amount.of(work.unpack(list(trees.values())))
    counted = {_OTHER_OWNERS: work.other_owners, _WITHOUT_RIGHTS: work.without_rights}
    amount = replace(amount, note=_joined(*(note.format(count) for note, count in counted.items() if count)))
    # Before anything waits: who may write in a target can give its name to another directory.
    context.checkpoint[WORKING] = with_inodes(_working(context), work.inodes)
    return amount


def _working(context: Context) -> str:
    """Return what `_begun` has noted. Raises `WorkGone` when the journal was lost meanwhile."""
    text = context.checkpoint.get(WORKING)
    if text is None:
        raise WorkGone("the agent's journal was lost, and with it the restore that was under way")
    return text


def _left(target: RestoreTarget, context: Context) -> RestoreSet:
    """Return the restore that was begun before. Raises `WorkGone` as `_working`."""
    left = read_working(_working(context))
    return _restore_set(
        context, [replace(_root(target, context, each.number), inode=each.inode) for each in left]
    )


def _restore_set(context: Context, roots: Sequence[RestoreRoot]) -> RestoreSet:
    return RestoreSet(roots, context.token, context.progress, expected=context.expect, patience_s=PATIENCE_S)


def _root(target: RestoreTarget, context: Context, number: int, made: Collection[Path] = ()) -> RestoreRoot:
    root = target.roots[number]
    found = RestoreRoot(root, work_id(context.job_id, number), target.options, root.directory in made)
    working = context.checkpoint.get(WORKING)
    if not (target.prover and working):
        return found
    with disk_errors("cannot make the key for restores"):
        return replace(found, prove=target.prover.of(context.job_id, without_inodes(working), target.made))
