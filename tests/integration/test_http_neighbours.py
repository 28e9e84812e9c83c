"""Several agents that a browser reaches under one host name, as on a device with containers."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.http_network import TOKEN, Network
from tests.support.network_agent import NetworkAgent

STATUS = "/api/v1/status"


@pytest.fixture
def neighbours(tmp_path: Path) -> Iterator[tuple[Network, Network]]:
    with ExitStack() as stack:
        first, second = (
            Network(stack.enter_context(NetworkAgent(tmp_path / name, TOKEN))) for name in ("first", "second")
        )
        yield first, second


def test_two_agents_on_one_host_do_not_sign_each_other_out(neighbours: tuple[Network, Network]) -> None:
    """A browser keeps one cookie of a name for a host, whatever the port, and sends it to all ports."""
    jar = dict(each.cookie()["Cookie"].split("=") for each in neighbours)
    assert statuses(neighbours, jar) == [200, 200]
    sent = {"Cookie": header(jar), "Sec-Fetch-Site": "same-origin"}
    signed_out = neighbours[1].ask("DELETE", "/session", sent)
    del jar[signed_out.headers["set-cookie"].partition("=")[0]]
    assert statuses(neighbours, jar) == [200, 401]


def statuses(neighbours: tuple[Network, Network], jar: dict[str, str]) -> list[int]:
    return [each.ask("GET", STATUS, {"Cookie": header(jar)}).status for each in neighbours]


def header(jar: dict[str, str]) -> str:
    return "; ".join(f"{name}={text}" for name, text in jar.items())
