"""Proofs in working directories, for a start of the agent whose journal does not know their restore.

Somebody else could put a plan into a target. So a proof has a MAC under a key in the agent's storage, over
the restore, the plan, and the device and inode numbers of the target and the working directory.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agent.restore.memory import RestoreMemory
from agent.restore.workspace import DONE, PLAN, PROOF, TRIAL, Workspace

_MOST_BYTES = 1 << 20
_PART = "proof.tmp"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Prover:
    """Makes the proofs of one job's restore."""

    memory: RestoreMemory
    correlation_id: str
    started: str
    stops: bool

    def of(self, job_id: str, working: str, made: Iterable[Path]) -> Callable[[Workspace, str], None]:
        """Return a function that writes the proof into a working directory. Raises OSError."""
        key = self.memory.made_key()
        names = [os.fspath(path) for path in made]
        proof = Proof(job_id, self.correlation_id, self.started, working, names, self.stops)
        return partial(proof.write, key)


@dataclass(frozen=True, slots=True)
class Proof:
    """The facts that the recovery of a restore needs."""

    job_id: str
    correlation_id: str
    started: str
    working: str
    """The roots, as the journal keeps them."""
    made: list[str]
    """The directories that were made for the restore."""
    stops: bool
    """True when beforeRestoreCmd may have stopped a program that afterRestoreCmd starts again."""

    def write(self, key: bytes, workspace: Workspace, plan: str = "") -> None:
        """Write the proof into the working directory; `plan` is the SHA-256 of the plan. Raises OSError."""
        facts = {"stops": self.stops and bool(plan), "plan": plan}
        text = json.dumps(asdict(self) | _identities(workspace) | facts)
        with open(os.open(_PART, _NEW_FILE, 0o600, dir_fd=workspace.work_fd), "w", encoding="ascii") as file:
            file.write(f"{_mac(key, text)}\n{text}")
            file.flush()
            os.fsync(file.fileno())
        workspace.rename(_PART, PROOF)


def read_proof(workspace: Workspace, key: bytes) -> Proof | None:
    """Return the proof in a working directory; None when there is no valid one. Raises OSError."""
    mac, _, text = _read(workspace).partition("\n")
    if not hmac.compare_digest(mac.encode(), _mac(key, text).encode()):
        return None
    value: dict[str, Any] = json.loads(text)
    plan = value.pop("plan")
    for name, found in _identities(workspace).items():
        if value.pop(name) != found:
            return None  # somebody moved or copied the working directory
    marked = next((mark for mark in (PLAN, TRIAL, DONE) if workspace.has(mark)), None)
    if marked and _digest(workspace, marked) != plan:
        return None
    return Proof(**value)


def _identities(workspace: Workspace) -> dict[str, list[int]]:
    """Return the device and inode numbers of the two directories, in lists as JSON has them."""
    target, work = os.fstat(workspace.root_fd), os.fstat(workspace.work_fd)
    return {"target": [target.st_dev, target.st_ino], "work": [work.st_dev, work.st_ino]}


def _read(workspace: Workspace) -> str:
    try:
        fd = os.open(PROOF, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=workspace.work_fd)
    except FileNotFoundError:
        return ""
    with open(fd, encoding="ascii", errors="replace") as file:
        return file.read(_MOST_BYTES)


def _digest(workspace: Workspace, name: str) -> str:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=workspace.work_fd)
    with open(fd, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mac(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), "sha256").hexdigest()
