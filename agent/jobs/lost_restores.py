"""Restores that the journal does not know, as it was lost or is an older one. Working directories prove them.

They become unfinished jobs of the journal again; the recovery then ends and reports them.
"""

import os
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from agent.base.durable import closing_fd
from agent.base.errors import JobError
from agent.base.job import STOPPED, WORKING, Job, Kind, State
from agent.base.roots import data_set_roots
from agent.base.times import parse_time
from agent.formats.entry_names import PRIVATE_PREFIX
from agent.journal import Journal
from agent.restore.memory import RestoreMemory, read_working, work_id
from agent.settings import Settings
from providers.directory import open_resolved

if TYPE_CHECKING:
    from agent.restore.proof import Proof

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LostRestores:
    """A search for working directories of restores whose ids are not `known`."""

    settings: Settings
    known: Collection[str]

    def find(self) -> "list[Proof]":
        """Return the proofs in the working directories. Runs in a thread: file systems may not answer.

        A directory that proves nothing is only logged: anybody who may write in a target can make one.
        """
        memory = RestoreMemory(self.settings.storage)
        key = memory.key()
        found: dict[str, Proof] = {}
        for directory in self._directories(memory):
            for name in _working_in(directory):
                work = name.removeprefix(PRIVATE_PREFIX)
                if work not in self.known:
                    proof = _proven(directory, work, key)
                    if proof is None:
                        log.error("unknown working directory found", dir=str(directory), name=name)
                    else:
                        found[proof.job_id] = proof
        return [proof for proof in found.values() if _is_whole(proof, key)]

    def _directories(self, memory: RestoreMemory) -> Iterable[Path]:
        found = [self.settings.dir] if self.settings.dir else []
        for name, data_set in self.settings.data_sets.items():
            found += [root.directory for root in data_set_roots(name, data_set.paths)]
        return dict.fromkeys(Path(os.path.realpath(path)) for path in (*found, *memory.directories()))


def adopt(journal: Journal, proofs: "Iterable[Proof]") -> None:
    """Make them unfinished jobs of the journal, in its unit of work. Raises JournalError."""
    for proof in proofs:
        job = Job(proof.job_id, Kind.RESTORE, proof.correlation_id, parse_time(proof.started), State.STARTED)
        first = read_working(proof.working)[0]
        journal.jobs.started(job, first.directory, [Path(path) for path in proof.made])
        journal.checkpoints.keep(job.id, WORKING, proof.working)
        if proof.stops:
            journal.checkpoints.keep(job.id, STOPPED, "yes")
        log.warning("restore found that is not in the journal", job=job.id, dir=str(first.directory))


def _working_in(directory: Path) -> Iterator[str]:
    try:
        with closing_fd(open_resolved(directory)) as fd:
            for name in [name for name in os.listdir(fd) if name.startswith(PRIVATE_PREFIX)]:
                if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                    yield name
    except OSError:
        return  # it is not there, or not to be read


def _proven(directory: Path, work: str, key: bytes | None) -> "Proof | None":
    from agent.restore.proof import read_proof
    from agent.restore.workspace import Workspace

    try:
        workspace = Workspace.find(directory, work)
        if workspace is None or key is None:
            return None
        with closing(workspace):
            return read_proof(workspace, key)
    except (JobError, OSError, ValueError, LookupError, TypeError):
        log.exception("working directory not readable", dir=str(directory), work=work)
        return None


def _is_whole(proof: "Proof", key: bytes | None) -> bool:
    """Return True unless a working directory of the restore proves nothing, or another restore."""
    for each in read_working(proof.working):
        work = work_id(proof.job_id, each.number)
        if not (each.directory / f"{PRIVATE_PREFIX}{work}").exists():
            continue
        found = _proven(each.directory, work, key)
        if found is None or (found.job_id, found.working) != (proof.job_id, proof.working):
            log.error("restore not recovered: working directory not authentic", dir=str(each.directory))
            return False
    return True
