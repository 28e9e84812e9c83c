"""The preview in the journal: a job in the state PREVIEW, and a note.

By the job every start of the agent finds the unpacked files. The note answers the question `status`, and
stays until the next preview. Changes are part of the unit of work that is open. Belongs to the main thread.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from agent.base.clock import BootClock, Countdown
from agent.base.job import Job, Kind, State
from agent.base.roots import Root
from agent.base.text import clipped
from agent.base.times import format_time, parse_time
from agent.jobs.queries.fitting import encoded_bytes, with_texts_cut
from agent.jobs.task import INTERRUPTED
from agent.journal import Journal, JournalError

if TYPE_CHECKING:
    from agent.restore.target import RestoreTarget

log = structlog.get_logger(__name__)

_KEY = "preview"


class PreviewState(StrEnum):
    RUNNING = "running"
    WAITING = "waiting"
    FAILED = "failed"
    DISCARDED = "discarded"
    """Discarded by the agent: a preview that a command discards has no note."""


@dataclass(frozen=True, slots=True)
class PreviewNote:
    id: str
    correlation_id: str
    started: str
    roots: list[tuple[str, list[str] | None, list[str]]]
    """Directories, the names in each that are restored (None for everything), and those that are not."""
    made: list[str]
    mode: str
    confirm_within_s: float | None = None
    stand: str = PreviewState.RUNNING
    code: str = ""
    message: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    """The answer to `status` while it waits, and the facts of its restore for the history."""
    countdown: Countdown | None = None
    """The time that is left for a preview that waits."""

    @classmethod
    def of(cls, job: Job, target: "RestoreTarget", confirm_within_s: float | None) -> "PreviewNote":
        roots = [
            (str(root.directory), None if root.names is None else sorted(root.names), sorted(root.without))
            for root in target.roots.values()
        ]
        made = [str(path) for path in target.made]
        started = format_time(job.started)
        return cls(job.id, job.correlation_id, started, roots, made, target.options.mode, confirm_within_s)

    @property
    def job(self) -> Job:
        return Job(self.id, Kind.RESTORE, self.correlation_id, parse_time(self.started), State.PREVIEW)

    @property
    def left_s(self) -> float:
        """Return the seconds that were left when this was noted; 0 without a countdown."""
        return self.countdown.left_s if self.countdown else 0.0

    def roots_and_made(self) -> tuple[dict[int, Root], list[Path]]:
        """Return the roots by their numbers, and the directories made for them, outermost first."""
        roots = enumerate(self.roots)
        return {
            number: Root(
                "", Path(directory), None if names is None else frozenset(names), frozenset(*without)
            )
            for number, (directory, names, *without) in roots  # a note of an earlier agent ends before
        }, [Path(path) for path in self.made]

    def over(self, stand: PreviewState, code: str, message: str) -> "PreviewNote":
        return replace(self, stand=stand, code=code, message=message, facts={}, countdown=None)


class PreviewNotes:
    def __init__(self, journal: Journal, clock: BootClock) -> None:
        self._journal, self._clock = journal, clock
        self._unwritten: PreviewNote | None = None

    @property
    def current(self) -> PreviewNote | None:
        """Return the note of the last preview. Raises `JournalError`."""
        return self._unwritten or _read(self._journal.notes.read(_KEY))

    @property
    def waiting(self) -> PreviewNote | None:
        note = self.current
        return note if note and note.stand == PreviewState.WAITING else None

    def begin(self, job: Job, note: PreviewNote) -> None:
        """Keep `job` as a preview, with its note in place of an earlier one."""
        self._journal.jobs.started(job, Path(note.roots[0][0]), note.roots_and_made()[1])
        self.set(note)

    def set(self, note: PreviewNote | None) -> None:
        """Keep the note, None for no preview. Raises `JournalError`."""
        with self._journal.unit() as unit:
            self._journal.notes.keep(_KEY, json.dumps(note and asdict(note)))
            unit.after_commit(partial(setattr, self, "_unwritten", None))

    def set_anyway(self, note: PreviewNote) -> None:
        """Keep the note; in memory when the journal cannot be written."""
        try:
            self.set(note)
        except JournalError:
            log.exception("preview not recorded: journal not writable", job=note.id)
            self._unwritten = note

    def finalized(self, note: PreviewNote, job: Job) -> None:
        """Turn the preview into a restore that has begun; its checkpoints stay."""
        with self._journal.unit():
            self._journal.jobs.finalized(job, Path(note.roots[0][0]), note.roots_and_made()[1])
            self.set(None)

    def counted(self, note: PreviewNote) -> PreviewNote:
        """Return the note with the time that is left now."""
        assert note.countdown, "only one that waits is counted"
        return replace(note, countdown=note.countdown.noted(self._clock))

    def after_start(self, *, keep: bool) -> frozenset[str]:
        """Update the note after a start of the agent; return the ids of previews that go on waiting."""
        note = self.current
        if note is None:
            return frozenset()
        if note.stand == PreviewState.WAITING and keep:
            self.set_anyway(self.counted(note))
            return frozenset({note.id})
        if note.stand == PreviewState.WAITING:
            message = "the agent was stopped (restore.keepPreview)"
            self.set_anyway(note.over(PreviewState.DISCARDED, INTERRUPTED, message))
        elif note.stand == PreviewState.RUNNING:
            self.set_anyway(
                note.over(PreviewState.FAILED, INTERRUPTED, "the agent was stopped while it was made")
            )
        return frozenset()

    def value(self, room_bytes: int) -> Mapping[str, Any] | None:
        """Return the preview for `status`, in at most `room_bytes`; None when there is nothing to say."""
        note = self.current
        if note is None or note.stand == PreviewState.RUNNING:
            return None
        value: dict[str, Any] = {
            "id": note.id,
            "correlationId": note.correlation_id,
            "state": note.stand,
            "startTime": note.started,
        }
        if note.stand != PreviewState.WAITING:
            value |= {"code": note.code, "message": clipped(note.message)}
            return with_texts_cut(value, ("message", "correlationId"), room_bytes)
        value |= _numbers(note.facts["difference"])
        value["unexportable"] = note.facts["unexportable"]
        value["archive"] = note.facts["archive"]
        if text := note.facts.get("note"):
            value["message"] = clipped(text)
        value["secondsLeft"] = round(self.counted(note).left_s)
        for names in ("unexportable", "lost"):
            while encoded_bytes(value) > room_bytes and value[names]:
                value[names] = value[names][:-1]
        return with_texts_cut(value, ("correlationId",), room_bytes)


def _read(text: str | None) -> PreviewNote | None:
    note: Mapping[str, Any] | None = json.loads(text or "null")
    if note is None:
        return None
    countdown = note["countdown"]
    return PreviewNote(**{**note, "countdown": countdown and Countdown(*countdown)})


def _numbers(difference: Mapping[str, Any]) -> dict[str, Any]:
    names = ("added", "changed", "removed", "kept", "lost")
    return {name: difference[name] for name in names} | {"bytes": difference["size_bytes"]}
