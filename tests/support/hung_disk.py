"""A file system that answers nobody, like that of a file server that is gone."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.backend import Listener
from tests.support.require import possible, require

LOCAL = {"storage.provider": "local"}
_LIBC = ctypes.CDLL(None, use_errno=True)
_NOSUID, _NODEV, _DETACH = 2, 4, 2


def far_in(data: Path) -> Path:
    """Make a directory of the device that is to be on the file server."""
    directory = data / "far"
    directory.mkdir()
    (directory / "file").write_text("old")
    return directory


def ask_for_backup(backend: Listener, directory: Path, **options: str) -> dict[str, Any]:
    """The answer to a command to back up this directory."""
    return backend.ask("backup", {"options": LOCAL | {"backup.dir": str(directory)} | options})


@contextmanager
def hung_disk(path: Path) -> Iterator[None]:
    """Whoever looks at the existing directory `path`, or below, waits until the end; then it is as before.

    A FUSE file system without anybody who serves it. Its descriptor goes with this process, and with that
    everybody who waits gets an error, whatever happens here.
    """
    require(os.geteuid() == 0 and os.access("/dev/fuse", os.W_OK), "root and /dev/fuse, to mount")
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    mounted = _LIBC.mount(b"hung", os.fsencode(path), b"fuse", _NOSUID | _NODEV, options)
    possible(mounted == 0, "mount a FUSE file system")
    try:
        yield
    finally:
        _LIBC.umount2(os.fsencode(path), _DETACH)
        os.close(device)
