"""The agent's Unix socket: its path, and its address, for which a path may be too long."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.settings import Settings

MAX_ADDRESS_BYTES = 107


def http_socket(settings: "Settings") -> Path:
    """Return the path of the socket on which the agent serves HTTP to programs of the device."""
    return settings.http.socket or settings.storage / "http.sock"


def address(path: Path) -> str:
    """Return the path as a socket address. One of more than 107 bytes goes by its directory's descriptor.

    That descriptor stays open as long as the process: there is one storage directory.
    """
    if len(os.fsencode(path)) <= MAX_ADDRESS_BYTES:
        return str(path)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{directory}/{path.name}"
