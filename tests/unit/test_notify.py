"""The notification protocol of systemd, against a real datagram socket."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import notify


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[socket.socket]:
    """The manager's side of the socket, whose address is in the environment."""
    name = f"@edge-backup-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0", 1))
        receiver.settimeout(5)
        yield receiver


def test_every_state_is_told(manager: socket.socket) -> None:
    notify.ready()
    notify.status("connected as\norg:device")
    notify.watchdog()
    notify.stopping()
    assert [manager.recv(256) for _ in range(4)] == [
        b"READY=1",
        b"STATUS=connected as org:device",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


def test_a_manager_that_does_not_read_does_not_block_the_agent(manager: socket.socket) -> None:
    def tell() -> None:
        for _ in range(2000):
            notify.watchdog()

    telling = threading.Thread(target=tell, daemon=True)
    telling.start()
    telling.join(30)
    assert not telling.is_alive()
    assert manager.recv(256) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", [None, "", "/nonexistent/notify", "vsock:2:1"])
def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    """An address that is no manager's is tried at most, and what comes of it harms nobody."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    tried: list[object] = []

    class Recording(socket.socket):
        def sendto(self, *arguments: Any) -> int:
            tried.append(arguments[-1])
            return int(super().sendto(*arguments))

    monkeypatch.setattr(socket, "socket", Recording)
    notify.ready()
    assert tried == ([address] if address == "/nonexistent/notify" else [])


@pytest.mark.parametrize(
    ("usec", "pid", "interval_s"),
    [
        ("60000000", None, 30.0),
        pytest.param("60000000", str(os.getpid()), 30.0, id="our own"),
        ("60000000", "1", None),
        (None, None, None),
        ("0", None, None),
        ("soon", None, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_demanded(
    monkeypatch: pytest.MonkeyPatch, usec: str | None, pid: str | None, interval_s: float | None
) -> None:
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert notify.watchdog_interval_s() == interval_s
