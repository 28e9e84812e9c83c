"""An agent whose wall clock the test sets."""

import os
import signal
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from tests.support.agent_process import AgentProcess
from tests.support.require import require

_LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


class Clock:
    """The wall clock of one process, which the test sets. The monotonic one is the machine's."""

    def __init__(self, file: Path) -> None:
        require(bool(_LIBRARIES), "libfaketime (Debian package faketime)")
        self._file = file
        self.environment = {
            "LD_PRELOAD": str(_LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "TZ": "UTC",
        }

    def set(self, now: datetime) -> None:
        """Let it be `now`; from here on it goes at the usual speed."""
        new = self._file.with_suffix(".new")
        new.write_text(f"@{now:%Y-%m-%d %H:%M:%S}")
        # The library counts from the time of the file when that was set.
        new.rename(self._file)


class Clocked(AgentProcess):
    """An agent under the library, each run in a process group of its own.

    The library makes the guard of a run sleep for years when the clock is set meanwhile: it has to be killed.
    """

    groups: tuple[int, ...] = ()

    def start(self, *prefix: str) -> "Clocked":
        super().start("setsid", *prefix)
        self.groups += (self.pid,)
        return self

    def end(self) -> None:
        for group in self.groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        if self.process:
            self.process.wait(60)
