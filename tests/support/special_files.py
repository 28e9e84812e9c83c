"""Names that are there and are no regular files."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.require import possible

SPECIAL = ["directory", "pipe", "socket", "link", "device"]


@contextmanager
def special(path: Path, kind: str) -> Iterator[os.stat_result]:
    """Make one and give its status."""
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "directory":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            listener.bind(os.path.relpath(path))
        elif kind == "link":
            path.symlink_to("/dev/null")
        else:
            possible(os.geteuid() == 0, "make a device node (root)")
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        yield os.lstat(path)
