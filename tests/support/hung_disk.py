"""A file system that answers nobody, like that of a file server that is gone."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.require import possible, require

_LIBC = ctypes.CDLL(None, use_errno=True)
_NOSUID, _NODEV, _DETACH = 2, 4, 2


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
