"""`systemctl status` says what the agent is doing; a datagram socket stands for systemd (sd_notify(3))."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.agent_process import AgentProcess, with_constants
from tests.support.backend import Backend
from tests.support.mosquitto import Mosquitto
from tests.support.stalling import stalling


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, receiver: socket.socket) -> None:
        self._receiver = receiver

    def told(self, pattern: str) -> str:
        """Wait for a status that the whole pattern matches."""
        said = []
        while True:
            name, _, text = self._receiver.recv(4096).decode().partition("=")
            said.append(text)
            if name == "STATUS" and re.fullmatch(pattern, text):
                return text


@contextmanager
def manager(device: AgentProcess) -> Iterator[Manager]:
    path = str(device.work / "notify")
    device.environment["NOTIFY_SOCKET"] = path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        receiver.settimeout(60)
        yield Manager(receiver)


def test_the_status_says_what_runs_and_what_is_next(
    device: AgentProcess, backend: Backend, broker: Mosquitto
) -> None:
    """It said whether the agent was connected, and nothing else."""
    device.settings["schedules"] = {
        "nightly": {"cron": "0 2 1 1 *", "timezone": "UTC"},
        "yearly": {"cron": "0 3 1 1 *", "timezone": "UTC"},
    }
    with manager(device) as systemd, stalling() as destination:
        device.start(*with_constants("agent.faces.service_status.INTERVAL_S = 0.05"))
        systemd.told(rf"idle.*; waiting for the broker tcp://127.0.0.1:{broker.port}")
        backend.announced()
        idle = r"idle, next backup \d{4}-01-01 02:00 UTC \(nightly\); connected as edge:device"
        systemd.told(idle)
        backend.send("backup", {"correlationID": "X", "options": {"https.url": destination.url}})
        systemd.told(r"backup X: uploading.*; connected as edge:device")
        broker.stop()
        systemd.told(r"backup X: uploading.*; disconnected: tcp://.*")
        destination.release.set()
        systemd.told(r"idle, next backup .*; broker cannot be reached, trying again: tcp://.*")
        broker.start()
        systemd.told(idle)
