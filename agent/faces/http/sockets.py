"""Sockets to listen on: made here, or handed over by systemd."""

import errno
import grp
import os
import socket
import stat
from collections.abc import MutableMapping
from pathlib import Path

from agent.faces.unix_address import address
from agent.settings.http import ListenAddress

FIRST_PASSED = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""
BACKLOG = 16


def unix_socket(path: Path, group: str = "") -> socket.socket:
    """Return a socket that listens at this path, for its owner and a group only. Raises OSError."""
    _remove_unused(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux takes the mode of the file from the socket: nobody gets in before the group is set.
        os.fchmod(listening.fileno(), 0o600)
        listening.bind(address(path))
        if group:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
            path.chmod(0o660)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _remove_unused(path: Path) -> None:
    """Remove the socket of an agent that was killed. Raises OSError for one in use and for other files."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise FileExistsError(errno.EEXIST, "a file that is no socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        problem = probe.connect_ex(address(path))
    if problem != errno.ECONNREFUSED:
        raise OSError(errno.EADDRINUSE, "another program listens there")
    path.unlink()


def tcp_socket(at: ListenAddress) -> socket.socket:
    """Return a socket that listens at an address, also one that the device gets later. Raises OSError.

    `[::]` listens for IPv4, too.
    """
    listening = socket.socket(socket.AF_INET6 if at.is_ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if at.is_ipv6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind((at.host, at.port))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


_IP_FREEBIND = 15  # ip(7); Python has no name for it


def passed_sockets(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """Return the stream sockets that systemd listens on for this process (sd_listen_fds(3)), once.

    The commands around a job get neither the sockets nor the variables.
    """
    meant = environ.pop("LISTEN_PID", "") == str(os.getpid())
    count = environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if not meant or not count.isdecimal():
        return []
    sockets = []
    for number in range(FIRST_PASSED, FIRST_PASSED + int(count)):
        os.set_inheritable(number, False)
        sockets.append(socket.socket(fileno=number))
    return sockets


def is_loopback(listening: socket.socket) -> bool:
    """Return True when only this device reaches a TCP socket."""
    return ListenAddress(*listening.getsockname()[:2]).is_loopback
