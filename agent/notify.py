"""Tells systemd how the agent is, over the datagram socket of sd_notify(3).

Outside systemd, where NOTIFY_SOCKET is not set, nothing happens.
"""

import os
import socket


def ready() -> None:
    """Tell that the agent takes commands."""
    _send("READY=1")


def stopping() -> None:
    """Tell that an orderly stop has begun."""
    _send("STOPPING=1")


def status(text: str) -> None:
    """Set the line that `systemctl status` shows."""
    _send("STATUS=" + " ".join(text.split()))


def watchdog() -> None:
    """Tell that the agent is healthy; due every `watchdog_interval_s`."""
    _send("WATCHDOG=1")


def watchdog_interval_s() -> float | None:
    """Return half of the time after which systemd kills a silent agent; None when it does not watch.

    See sd_watchdog_enabled(3): WATCHDOG_PID names the process that is meant, when it is set.
    """
    try:
        timeout_us = int(os.environ["WATCHDOG_USEC"])
        watched_pid = int(os.environ.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    return timeout_us / 2_000_000 if timeout_us > 0 and watched_pid == os.getpid() else None


def is_heard() -> bool:
    """Return True when a service manager listens."""
    return os.environ.get("NOTIFY_SOCKET", "").startswith(("/", "@"))


def _send(message: str) -> None:
    if not is_heard():
        return
    address = os.environ["NOTIFY_SOCKET"]
    if address.startswith("@"):  # the abstract namespace, unix(7)
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
        try:
            # A manager that does not read must not stop the agent.
            notifier.setblocking(False)
            notifier.sendto(message.encode("utf-8", "replace"), address)
        except OSError:
            return
