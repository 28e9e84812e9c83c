"""Commands that end the agent, because a provider blocks or crashes while such a command is admitted.

The journal does not have the command yet. So the broker delivers it again to the next run, and the agent
would never get further. The command that is being admitted is noted in a file. It is written without a sync:
it has to survive the process, not the machine.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

MOST_TIMES = 2
"""A process may be killed while it looks at a command that is innocent; hardly so twice."""
_RECORD_BYTES = 128


class PoisonCommands:
    """Belongs to the main thread."""

    def __init__(self, file: int) -> None:
        """`file` is the descriptor of a small file of ours, which may hold what an earlier run wrote."""
        self._file = file
        self._digest, self._times = "", 0
        record = os.pread(file, _RECORD_BYTES, 0).split()
        if len(record) == 2 and record[1].isdigit():
            self._digest, self._times = record[0].decode("ascii", "replace"), int(record[1])

    @contextmanager
    def looking_at(self, digest: bytes) -> Iterator[bool]:
        """Note the command during the block; yield True when it has ended the agent before."""
        name = digest.hex()
        times = self._times if name == self._digest else 0
        self._write(f"{name} {times + 1}\n")
        try:
            yield times >= MOST_TIMES
        finally:
            self._write("")
            if name == self._digest:
                self._digest = ""

    def _write(self, record: str) -> None:
        with suppress(OSError):  # a full disk: then it is not known, and that is all
            os.pwrite(self._file, record.ljust(_RECORD_BYTES).encode(), 0)
