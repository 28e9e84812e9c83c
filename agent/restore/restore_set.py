"""Restores of one archive into several directories: all of them become new, or none does.

Each directory has a working directory and a plan of its own. What decides is the mark in the first one:
before it says that the commit is complete, a crash means that all go back to old; from then on all are new,
whatever the marks of the others say. So the first is marked last, taken back first, and removed last.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from agent.base.errors import IoError, JobError, disk_errors
from agent.base.text import readable
from agent.formats.base import SavedTree
from agent.restore.difference import Difference
from agent.restore.mounts import where_mounted
from agent.restore.recovering import Recovery, committed, recover
from agent.restore.restore import Restore
from agent.restore.workspace import Workspace


def work_id(job_id: str, number: int) -> str:
    """Two roots may be in one directory."""
    return f"{job_id}-{number}" if number else job_id


class Together:
    """Used as a `Restore` is; for a single directory it is one."""

    def __init__(self, parts: Sequence[Restore]) -> None:
        self._first, *self._others = parts

    @property
    def is_open(self) -> bool:
        """Whether all hold their working directories."""
        return all(part.is_open for part in self._all)

    @property
    def _all(self) -> list[Restore]:
        return [self._first, *self._others]

    def unpack(self, trees: Sequence[SavedTree]) -> tuple[int, int]:
        """Unpack each part of the archive where it belongs; how many files, and bytes of content."""
        surveys = [part.unpack(tree) for part, tree in zip(self._all, trees, strict=True)]
        return sum(survey.files for survey in surveys), sum(survey.size_bytes for survey in surveys)

    def difference(self) -> Difference:
        return sum((part.difference() for part in self._others), self._first.difference())

    def leave(self) -> None:
        for part in self._all:
            part.leave()

    def let_go(self) -> None:
        for part in self._all:
            part.let_go()

    def take_up(self) -> None:
        for part in self._all:
            part.take_up()

    def commit(self, confirm: Callable[[], None] = lambda: None, *, on_trial: bool = False) -> None:
        """Put everything in place; it counts when the first is marked, after `confirm`."""
        try:
            for part in self._others:
                part.apply()
            self._first.commit(confirm, on_trial=on_trial)
        except BaseException:
            # As long as the first may be marked, only a look at all of them can tell: `recover_together`.
            if not self._first.is_marked:
                for part in self._others:
                    part.take_back()
            raise

    def keep(self) -> None:
        self._first.keep()

    def take_back(self) -> None:
        """The first goes first: from its step on a crash means that all go back."""
        for part in self._all:
            part.take_back()

    def discard(self) -> None:
        for part in self._others:
            part.discard(committed=self._first.is_committed)
        self._first.discard()


class Left(NamedTuple):
    """Where a restore may have left something: the number of its root, the directory, and its mount point."""

    number: int
    directory: Path
    mount: str


def left_text(directories: Mapping[int, Path]) -> str:
    """What the journal keeps of a restore that has begun: roots by their numbers, the deciding one first."""
    left = [(number, os.fspath(path), where_mounted(path)) for number, path in directories.items()]
    return json.dumps(left)


def read_left(text: str | None) -> list[Left]:
    """What `left_text` wrote; nothing for None."""
    return [Left(number, Path(path), mount) for number, path, mount in json.loads(text or "[]")]


def recover_together(left: Sequence[Left], job_id: str, *, failed: bool = False) -> None:
    """Bring all of them to old or to new, as the first says; see `recover`.

    Raises IoError when one is not there or its disk fails; all that can be done without it is done then.
    """
    if not left:
        return
    first, *others = left
    new = not failed and _is_committed(first, job_id)
    if not new:
        _take_back(first, job_id)  # before the others: no crash may find it marked, and one of them old
    problems = [problem for each in others if (problem := _problem(_put_right, each, first, job_id, new))]
    if problems:
        raise problems[0]
    if new:
        recover(first.directory, work_id(job_id, first.number))


def is_committed(left: Sequence[Left], job_id: str) -> bool:
    """Whether the first says that all are new. Raises IoError when it is not there, or its disk fails."""
    return bool(left) and _is_committed(left[0], job_id)


def _is_committed(first: Left, job_id: str) -> bool:
    name = work_id(job_id, first.number)
    if committed(first.directory, name):
        return True
    _check_mounted(first)
    return False


def _problem(act: Callable[..., None], *arguments: object) -> JobError | None:
    try:
        act(*arguments)
    except JobError as error:
        return error
    return None


def _put_right(each: Left, first: Left, job_id: str, new: bool) -> None:
    if new:
        _forget(each, first, job_id)
    else:
        _take_back(each, job_id)


def _take_back(left: Left, job_id: str) -> None:
    if recover(left.directory, work_id(job_id, left.number), failed=True) is Recovery.NOTHING:
        _check_mounted(left)


def _check_mounted(left: Left) -> None:
    """Raise IoError where nothing was found because the file system is not there."""
    if left.mount != where_mounted(left.directory):
        shown = readable(str(left.directory))
        raise IoError(f"cannot recover '{shown}': nothing is mounted at '{left.mount}'")


def _forget(left: Left, first: Left, job_id: str) -> None:
    """Remove a working directory whose plan was carried out for good, as the mark in the first one says."""
    with disk_errors("cannot remove what a restore left"):
        decided = Workspace.find(first.directory, work_id(job_id, first.number))
        workspace = Workspace.find(left.directory, work_id(job_id, left.number))
        assert decided, "it was there a moment ago"
        with closing(decided):
            decided.sync()  # the mark has to last before anything goes that could be taken back
        if workspace is None:
            _check_mounted(left)
            return
        with closing(workspace):
            workspace.remove()
