"""The installed program with a socket that systemd's own tool hands over."""

import json
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent_process import PROGRAM, AgentProcess
from tests.support.http_raw import RawClient
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port
from tests.support.require import require
from tests.support.waiting import wait_until

GET = b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n"


_ACCEPTS = 1 << 16  # __SO_ACCEPTCON of the kernel


class Activated:
    """An agent that `systemd-socket-activate` starts with its first client."""

    def __init__(self, agent: AgentProcess, socket: Path, port: int) -> None:
        self.agent, self.socket, self.port = agent, socket, port


@pytest.fixture
def activated(tmp_path: Path, broker: Mosquitto) -> Iterator[Activated]:
    require(shutil.which("systemd-socket-activate") is not None, "systemd-socket-activate")
    agent, socket, port = AgentProcess(tmp_path / "work", broker.port), tmp_path / "http.sock", free_port()
    config = agent.work / "config.json"
    config.write_text(json.dumps(agent.settings))
    listen = [f"--listen={socket}", f"--listen=127.0.0.1:{port}"]
    with agent.stderr.open("ab") as errors:
        process = subprocess.Popen(
            ["systemd-socket-activate", *listen, str(PROGRAM), "run", "--config", str(config)],
            stdout=errors, stderr=errors, env=agent.environment, cwd=agent.work,
        )  # fmt: skip
    try:
        wait_until(lambda: is_listening(socket), what="systemd's socket")
        yield Activated(agent, socket, port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def is_listening(path: Path) -> bool:
    """Return True from listen() on; the name is there since bind(). A connection would start the agent."""
    sockets = (line.split() for line in Path("/proc/net/unix").read_text().splitlines())
    return any(each[-1] == str(path) and int(each[3], 16) & _ACCEPTS for each in sockets if len(each) > 7)


def test_a_client_starts_the_agent_and_is_answered_by_it(activated: Activated) -> None:
    with RawClient(str(activated.socket)) as client:
        assert client.ask(GET).status == 200
    own = activated.agent.storage / "http.sock"
    assert stat.S_ISSOCK(own.stat().st_mode)  # where the command line looks
    with RawClient(str(own)) as client:
        assert client.ask(GET).status == 200


def test_a_socket_for_the_network_without_a_token_is_closed(activated: Activated) -> None:
    """The settings cannot know of it, so nobody has checked them."""
    with RawClient(str(activated.socket)) as client:
        client.ask(GET)
    address = f"127.0.0.1:{activated.port}"
    line = activated.agent.wait_for_log("http not available to the network", address=address)
    assert "http.tokenFile" in line["reason"]
    with pytest.raises(ConnectionRefusedError):
        RawClient(("127.0.0.1", activated.port))
