"""The facts about restores outside their targets: in the journal, and in two files beside it."""

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from agent.base.durable import replace_file
from agent.base.errors import disk_errors
from agent.base.mounts import where_mounted
from agent.formats.entry_names import PRIVATE_PREFIX

_MOST_DIRECTORIES = 1000


@dataclass(frozen=True, slots=True)
class RestoreMemory:
    """Two files beside the journal: the key of proofs, and the directories that restores have worked in."""

    storage: Path

    def key(self) -> bytes | None:
        """Return the key; None when no restore has made one. Raises OSError."""
        with suppress(FileNotFoundError, ValueError):
            return bytes.fromhex(self._key_file.read_text("ascii"))
        return None

    def made_key(self) -> bytes:
        """Return the key, and make it when there is none. Raises OSError."""
        known = self.key()
        if not known:
            replace_file(self._key_file, secrets.token_hex(32), 0o600)
            known = self.key()
        assert known
        return known

    def directories(self) -> list[Path]:
        """Return the directories that restores have worked in, the latest last. Raises OSError."""
        with suppress(FileNotFoundError, ValueError):
            return [Path(name) for name in json.loads(self._directories_file.read_text("ascii"))]
        return []

    def remember(self, directories: Iterable[Path]) -> None:
        """Keep the directories that a restore is about to work in. Raises IoError and NoSpace."""
        with disk_errors("cannot note where the restore works"):
            known, new = self.directories(), list(directories)
            if known[-len(new) :] != new:
                names = [os.fspath(path) for path in (*(each for each in known if each not in new), *new)]
                replace_file(self._directories_file, json.dumps(names[-_MOST_DIRECTORIES:]), 0o600)

    @property
    def _key_file(self) -> Path:
        return self.storage / "restore.key"

    @property
    def _directories_file(self) -> Path:
        return self.storage / "restored-into.json"


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
    return target / work_name(job_id)


def work_name(job_id: str) -> str:
    if not job_id or "/" in job_id or "\0" in job_id or len(os.fsencode(job_id)) > 200:
        raise ValueError(f"not a job id that can be part of a file name: {job_id!r}")
    return PRIVATE_PREFIX + job_id
