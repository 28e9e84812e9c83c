"""The agent behind a web server of the device, set up as the documentation says."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.http_network import BEARER, TOKEN
from tests.support.http_raw import RawClient
from tests.support.network_agent import NetworkAgent
from tests.support.nginx import nginx

DOCUMENT = Path(__file__).parents[2] / "docs/operating.md"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Where nginx listens."""
    found = re.search(r"`(location /backup/ \{.*?\})`", DOCUMENT.read_text(), re.DOTALL)
    assert found, "the documentation has no example"
    agent = NetworkAgent(tmp_path / "agent", TOKEN)
    with agent:
        location = found[1].replace("127.0.0.1:8765", f"127.0.0.1:{agent.port}")
        (tmp_path / "nginx").mkdir()
        with nginx(tmp_path / "nginx", location) as server:
            yield "127.0.0.1", int(server.http_url.rpartition(":")[2])


def test_events_come_at_once_through_a_web_server(address: tuple[str, int]) -> None:
    """By itself, nginx gathers an answer until it has some KiB: of events that takes hours."""
    with RawClient(address) as client:
        sent = {"Host": f"127.0.0.1:{address[1]}", **BEARER}
        lines = ["GET /backup/api/v1/events HTTP/1.1", *(f"{name}: {text}" for name, text in sent.items())]
        client.send("\r\n".join([*lines, "", ""]).encode())
        received = b""
        while b"id: " not in received:
            piece = client.sock.recv(1000)
            assert piece, received
            received += piece
