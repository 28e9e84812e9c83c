"""Four clients follow the events for as long as a day has events: nothing grows, and nothing is missed."""

import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from agent.faces.http.places import MAX_STREAMS
from tests.integration.conftest import Started
from tests.support.agent_process import AgentProcess
from tests.support.http_network import TOKEN, Network
from tests.support.http_raw import RawClient
from tests.support.settings_files import private_file
from tests.support.waiting import wait_until

SIGNED_IN = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
FOLLOW = b"GET /api/v1/events HTTP/1.1\r\n" + SIGNED_IN + b"\r\n"
WARM = 2500
"""Until then the kept events and the cache of the journal take their place."""
DAY = 1000
"""A day with a backup every hour has fewer events."""
MORE_BYTES = 1 << 20


class Follower:
    """A browser that stays open, and counts the events of the schedule."""

    def __init__(self, client: RawClient) -> None:
        self.count, self.begun = 0, threading.Event()
        self._client = client
        self._client.send(FOLLOW)
        self.thread = threading.Thread(target=self._follow)
        self.thread.start()

    def _follow(self) -> None:
        rest = b""
        with suppress(OSError):  # the test has closed it
            while piece := self._client.sock.recv(65536):
                *lines, rest = (rest + piece).split(b"\n")
                self.count += lines.count(b"event: scheduleChanged")
                self.begun.set()


@pytest.fixture
def network(started: Started, tmp_path: Path) -> Network:
    token = tmp_path / "token"
    private_file(token, TOKEN)
    return Network(started(http_listen="127.0.0.1:0", http_tokenFile=str(token), logLevel="INFO"))


@pytest.mark.large
@pytest.mark.timeout(600)
def test_four_streams_through_a_day_of_events_grow_nothing_and_miss_nothing(
    network: Network, device: AgentProcess
) -> None:
    with ExitStack() as open_clients:
        clients = [open_clients.enter_context(RawClient(network.address)) for _ in range(MAX_STREAMS)]
        followers = [Follower(client) for client in clients]
        assert all(each.begun.wait(30) for each in followers)
        with RawClient(network.address) as asking:
            change(asking, WARM)
            before_bytes = private_bytes(device)
            change(asking, DAY)
        wait_until(lambda: {each.count for each in followers} == {WARM + DAY}, what="all events")
        assert private_bytes(device) - before_bytes <= MORE_BYTES
        device.stop()
        for follower in followers:
            follower.thread.join(30)
            assert not follower.thread.is_alive()


def change(client: RawClient, times: int) -> None:
    """Switch the schedule on or off so often; each time is an event."""
    for number in range(times):
        operation = b"deactivate" if number % 2 else b"activate"
        path = b"POST /api/v1/schedule/" + operation + b" HTTP/1.1\r\n"
        answer = client.ask(path + SIGNED_IN + b"Content-Length: 0\r\n\r\n")
        assert answer.status < 300, answer


def private_bytes(agent: AgentProcess) -> int:
    status = Path(f"/proc/{agent.pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon:"))
