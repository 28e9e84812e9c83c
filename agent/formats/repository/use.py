"""Keeps this device's jobs and its own prune of one repository apart, whatever the locks at the store say.

So the locks that earlier jobs of this device left there stand for nobody, and do not stop it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from agent.base.errors import RepositoryBusy

_PRUNED = "this device removes old snapshots from the repository right now: try again when it has ended"
_WORKED = "a job of this device works with the repository right now"


def state_directory(states: Path, location: str) -> Path:
    return states / sha256(location.encode()).hexdigest()[:32]


@contextmanager
def in_use(directory: Path, *, alone: bool = False) -> Iterator[None]:
    """Use the repository whose state is in the directory; a prune uses it `alone`.

    Without a directory nobody else uses it. Raises `RepositoryBusy` instead of waiting, and OSError.
    """
    with ExitStack() as stack:
        with suppress(FileNotFoundError):
            held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, held)
            try:
                fcntl.flock(held, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RepositoryBusy(_WORKED if alone else _PRUNED) from None
        yield
