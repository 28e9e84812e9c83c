"""The stages of a restore: unpacked beside its target, then put in place or discarded. In a worker's thread.

They follow each other at once (`put_back`), or with the owner's look at a preview in between (`lay_out`, then
`finalize` or `discard`). In between nothing is held but what is on the disk and in the journal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.base.job import ON_TRIAL, STOPPED, WORKING
from agent.formats.base import SavedTree
from agent.restore import Difference, Together, left_text, make_target, read_left
from agent.restore.commit_confirmed import TrialNote
from agent.restore.committing import commit, settle, take_away
from agent.restore.restore_target import Amount, Into, restore_work
from agent.transfer.context import Context

Parts = Mapping[int, SavedTree]
"""What an archive holds of the roots, by their numbers."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What is unpacked, and what it would do."""

    files: int
    content_bytes: int
    difference: Difference
    unexportable: list[str] = field(default_factory=list)
    """The first of what the backup skipped: a restore does not bring it back."""
    archive: str = ""
    place: str = ""


def put_back(parts: Parts, into: Into, context: Context) -> Amount:
    """Unpack beside the target and commit, all or nothing.

    Raised means that the target is as it was before, unless the error says otherwise; but `OnTrial` means
    that it is new, and may still become old again.
    """
    work = _begun(into, context, parts)
    try:
        amount = Amount(*work.unpack(list(parts.values())))
        commit(work, into, context, amount)
    except BaseException:
        take_away(work, into, context)
        raise
    settle(work, into, context)
    return amount


def lay_out(parts: Parts, into: Into, context: Context) -> Preview:
    """Unpack beside the target and compare; what is unpacked stays. Raised means that nothing is left."""
    work = _begun(into, context, parts)
    try:
        amount = work.unpack(list(parts.values()))
        context.phase("comparing")
        difference = work.difference()
        work.leave()
    except BaseException:
        take_away(work, into, context)
        raise
    return Preview(*amount, difference)


def finalize(into: Into, amount: Amount, context: Context) -> Amount:
    """Commit what `lay_out` has unpacked, compared again with the target. Raises as `put_back`."""
    work = _left(into, context)
    try:
        work.take_up()
        commit(work, into, context, amount)
    except BaseException:
        take_away(work, into, context)
        raise
    settle(work, into, context)
    return amount


def go_on(into: Into, context: Context) -> Amount:
    """Go on with a trial that an earlier run of the agent left. Raises as `put_back`."""
    context.checkpoint.pop(STOPPED, None)  # afterRestoreCmd had succeeded, or there would be no trial
    settle(_left(into, context), into, context)
    note = TrialNote.from_text(context.checkpoint[ON_TRIAL])
    return Amount(note.files, note.content_bytes)


def discard(into: Into, context: Context) -> None:
    """Remove what `lay_out` has unpacked; what cannot go now, the next start removes."""
    take_away(_left(into, context), into, context)


def _begun(into: Into, context: Context, parts: Parts) -> Together:
    # Until this is taken back, every start of the agent looks into these targets.
    context.checkpoint[WORKING] = left_text({number: into.roots[number].directory for number in parts})
    made = {path for number in parts for path in make_target(into.roots[number].directory)}
    return Together(
        [restore_work(into, context, number, made=into.roots[number].directory in made) for number in parts]
    )


def _left(into: Into, context: Context) -> Together:
    """The same, of what was begun before."""
    left = read_left(context.checkpoint[WORKING])
    return Together([restore_work(into, context, each.number) for each in left])
