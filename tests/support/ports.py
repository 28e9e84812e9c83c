"""Ports for servers that must be told which one to take."""

import errno
import itertools
import os
import socket

_FIRST, _COUNT, _BLOCK = 11_000, 20_000, 200
"""All are below those that Linux gives to connections. A connection would take one while its server is
stopped, and who tries to connect to it might even be connected to itself."""
# Processes that test side by side begin at different places.
_numbers = itertools.count(os.getpid() * _BLOCK)


def free_port() -> int:
    """Return a port of the loopback address on which nobody listens; always another one."""
    for number in itertools.islice(_numbers, _COUNT):
        port = _FIRST + number % _COUNT
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"no port of {_FIRST} to {_FIRST + _COUNT - 1} is free")
