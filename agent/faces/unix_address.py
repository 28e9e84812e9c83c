"""Addresses of Unix sockets whose paths may be long."""

import os
from pathlib import Path

MAX_ADDRESS_BYTES = 107


def address(path: Path) -> str:
    """Return the path as a socket address. One of more than 107 bytes goes by its directory's descriptor.

    That descriptor stays open as long as the process: there is one storage directory.
    """
    if len(os.fsencode(path)) <= MAX_ADDRESS_BYTES:
        return str(path)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{directory}/{path.name}"
