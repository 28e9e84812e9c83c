"""The connections of a job to stores: checked, bounded, and shut when the job is cancelled."""

import socket
from contextlib import suppress

from agent.transfer.cancel import CancelToken
from providers.allow import CheckAddress, allow_all, connect_checked

_SO_MAX_PACING_RATE = 47
"""socket(7), asm-generic/socket.h; Python does not name it."""


class Connections:
    """The connections of one job: opened here, shut down when it is cancelled.

    Kept as duplicates, because TLS takes the descriptor out of the socket that was opened. Shutting down
    a duplicate ends a read or write that waits on the original.
    """

    def __init__(self, timeout_s: float, bytes_per_s: int = 0, token: CancelToken | None = None) -> None:
        """Let at most `bytes_per_s` leave through each connection; 0 for no limit. `token` is the job's."""
        self.token = token or CancelToken()
        self._timeout_s, self._bytes_per_s = timeout_s, bytes_per_s
        self._duplicates: list[socket.socket] = []

    def open(self, host: str, port: int, check: CheckAddress = allow_all) -> socket.socket:
        """Open a TCP connection to an address that `check` allows. Raises `NotAllowed` and OSError."""
        # A cancel does not forbid it: cleaning up at the far side needs connections.
        connection = connect_checked(host, port, self._timeout_s, check)
        if self._bytes_per_s:
            # A provider may hand over a whole part at once: the kernel spreads it over time.
            connection.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, self._bytes_per_s)
        self._duplicates.append(connection.dup())
        return connection

    def shut(self) -> None:
        for duplicate in self._duplicates:
            with suppress(OSError):
                duplicate.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for duplicate in self._duplicates:
            duplicate.close()
        self._duplicates.clear()
