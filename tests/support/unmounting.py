"""Taking a file system away that somebody may still hold for a moment."""

import gc
import subprocess
from pathlib import Path

from tests.support.waiting import wait_until


def unmount(path: Path) -> None:
    """Wait until it goes: what a process that was killed had open is closed a little later."""

    def gone() -> bool:
        done = subprocess.run(["umount", str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0 or "busy" in done.stderr, done.stderr
        return done.returncode == 0

    gc.collect()  # an error that was caught may hold a file of it
    wait_until(gone, what=f"{path} to be let go")
