"""The roots in which a restore works, as the journal keeps them, and the names of its working directories."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from agent.base.mounts import where_mounted
from agent.formats.names import PRIVATE_PREFIX


def work_id(job_id: str, number: int) -> str:
    """Return the id of the work in a root: two roots may be in one directory."""
    return f"{job_id}-{number}" if number else job_id


class WorkingRoot(NamedTuple):
    """A root in which a restore may have left its working directory."""

    number: int
    directory: Path
    mount: str
    inode: int | None = None
    """The working directory's; None before it was made, and where inode numbers do not last."""

    def path(self, job_id: str) -> Path:
        """Return the working directory of the job in this root."""
        return work_directory_of(self.directory, work_id(job_id, self.number))


def working_text(directories: Mapping[int, Path]) -> str:
    """Return the journal's text for a restore that begins: its roots by number, the deciding one first."""
    working = [(number, os.fspath(path), where_mounted(path)) for number, path in directories.items()]
    return json.dumps(working)


def with_inodes(text: str, inodes: Iterable[int | None]) -> str:
    """Return the text of `working_text` with the inode numbers of the working directories."""
    working = zip(json.loads(text), inodes, strict=True)
    return json.dumps([each if inode is None else [*each[:3], inode] for each, inode in working])


def without_inodes(text: str) -> str:
    """Return what `working_text` wrote, also from what `with_inodes` has made of it."""
    return json.dumps([each[:3] for each in json.loads(text)])


def read_working(text: str | None) -> list[WorkingRoot]:
    """Parse the text of `working_text` or `with_inodes`; return no roots for None."""
    return [WorkingRoot(number, Path(path), *known) for number, path, *known in json.loads(text or "[]")]


def work_directory_of(target: Path, job_id: str) -> Path:
    """Return the working directory of the restore `job_id` in a target."""
    return target / work_name(job_id)


def work_name(job_id: str) -> str:
    """Return the name of the working directory of the restore `job_id`."""
    if not job_id or "/" in job_id or "\0" in job_id or len(os.fsencode(job_id)) > 200:
        raise ValueError(f"not a job id that can be part of a file name: {job_id!r}")
    return PRIVATE_PREFIX + job_id
