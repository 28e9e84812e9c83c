"""Hostile clients on the network, all at once, at an agent that has other things to do.

No time decides anything here: what is counted are answers, threads and bytes of memory.
"""

import json
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agent.faces.http.connection import MAX_BODY_BYTES, MAX_HEAD_BYTES
from agent.faces.http.places import MAX_NETWORK_CONNECTIONS
from tests.integration.conftest import Started
from tests.support.agent_process import PROGRAM, AgentProcess
from tests.support.backend import Backend
from tests.support.http_network import BEARER, TOKEN, Network
from tests.support.http_raw import RawClient
from tests.support.settings_files import private_file
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

STATUS = "/api/v1/status"
MORE_BYTES = 2 << 20
HOST = b"Host: localhost\r\n"
SIGNED_IN = HOST + f"Authorization: Bearer {TOKEN}\r\n".encode()
POST = b"POST /api/v1/jobs HTTP/1.1\r\nContent-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

Attack = Callable[[RawClient, random.Random], None]


def half_a_request(client: RawClient, chance: random.Random) -> None:
    request = POST + HOST + b"Content-Length: 20\r\n\r\n" + b"x" * 19
    client.send(request[: chance.randrange(len(request))])


def many_requests_at_once_and_nobody_reads(client: RawClient, chance: random.Random) -> None:
    client.send((b"GET /page.js HTTP/1.1\r\n" + HOST + b"\r\n") * chance.randrange(50))


def the_largest_head(client: RawClient, _: random.Random) -> None:
    client.send(b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * (MAX_HEAD_BYTES - 100) + b"\r\n")


def a_head_without_end(client: RawClient, _: random.Random) -> None:
    client.send(b"GET / HTTP/1.1\r\n", *[b"X: y\r\n" * 1000] * 20)


def the_largest_body(client: RawClient, _: random.Random) -> None:
    client.send(
        POST + SIGNED_IN + b"Content-Length: %d\r\n\r\n" % MAX_BODY_BYTES, b"[" * (MAX_BODY_BYTES - 1)
    )


def tiny_chunks(client: RawClient, _: random.Random) -> None:
    client.send(POST + SIGNED_IN + CHUNKED, b"1\r\n[\r\n" * 20_000)


def a_chunk_that_is_never_sent(client: RawClient, _: random.Random) -> None:
    client.send(POST + SIGNED_IN + CHUNKED + b"FFFFFFFFFFFFFFFF\r\n")


def a_wait_for_100(client: RawClient, _: random.Random) -> None:
    client.send(POST + SIGNED_IN + b"Content-Length: 20\r\nExpect: 100-continue\r\n\r\n")


def noise(client: RawClient, chance: random.Random) -> None:
    client.send(chance.randbytes(chance.randrange(5000)))


def streams_that_nobody_reads(client: RawClient, _: random.Random) -> None:
    client.send(b"GET /api/v1/events HTTP/1.1\r\n" + SIGNED_IN + b"\r\n")


ATTACKS: list[Attack] = [
    half_a_request,
    many_requests_at_once_and_nobody_reads,
    the_largest_head,
    a_head_without_end,
    the_largest_body,
    tiny_chunks,
    a_chunk_that_is_never_sent,
    a_wait_for_100,
    noise,
    streams_that_nobody_reads,
]


@contextmanager
def attacked(address: tuple[str, int], attackers: int = 12) -> Iterator[Callable[[], int]]:
    """Attack from many sides until the block is left; yields a function that counts the attacks so far.

    Half of the attackers keep what they have opened for as long as the agent lets them.
    """
    over, done = threading.Event(), list[int]()

    def attack(seed: int) -> None:
        chance = random.Random(seed)
        while not over.is_set():
            with suppress(OSError), RawClient(address, timeout_s=1) as client:
                chance.choice(ATTACKS)(client, chance)
                done.append(seed)
                if seed % 2:
                    client.is_closed()

    threads = [threading.Thread(target=attack, args=(seed,)) for seed in range(attackers)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: len(done)
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
        assert not [thread for thread in threads if thread.is_alive()]


@pytest.fixture
def network(started: Started, tmp_path: Path) -> Network:
    token = tmp_path / "token"
    private_file(token, TOKEN)
    return Network(started(http_listen="127.0.0.1:0", http_tokenFile=str(token)))


def of_process(agent: AgentProcess, fact: str) -> int:
    status = Path(f"/proc/{agent.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{fact}:"))


def test_under_attack_the_agent_answers_its_backend_and_keeps_neither_threads_nor_memory(
    network: Network, device: AgentProcess, backend: Backend
) -> None:
    for attack in ATTACKS * 2:  # all code is loaded, and buffers have their size
        with suppress(OSError), RawClient(network.address) as client:
            attack(client, random.Random(1))
    assert network.ask("GET", STATUS, BEARER).status == 200
    wait_until(lambda: of_process(device, "Threads") < 8, what="the threads of clients that have gone")
    threads, before_bytes = of_process(device, "Threads"), of_process(device, "VmRSS") << 10
    with attacked(network.address) as attacks:
        answers = 0
        while attacks() < 300 or answers < 20:
            assert backend.ask("status")["status"] == 200
            answers += 1
            assert of_process(device, "Threads") <= threads + MAX_NETWORK_CONNECTIONS
    wait_until(lambda: of_process(device, "Threads") <= threads, what="the threads of the attackers")
    assert (of_process(device, "VmRSS") << 10) - before_bytes <= MORE_BYTES
    assert network.ask("GET", STATUS, BEARER).status == 200
    assert device.count_log("internal error") == 0


def test_slow_neighbours_on_every_place_do_not_stop_the_command_line(
    network: Network, device: AgentProcess, backend: Backend
) -> None:
    slow = [RawClient(network.address) for _ in range(MAX_NETWORK_CONNECTIONS + 8)]
    try:
        for client in slow:
            client.send(b"GET / HTTP/1.1\r\nHost: local")
        for _ in range(3):
            config = str(device.work / "config.json")
            command = [str(PROGRAM), "status", "--json", "--config", config]
            shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
            assert json.loads(shown.stdout.splitlines()[0])
        assert backend.ask("status")["status"] == 200
    finally:
        for client in slow:
            client.__exit__()


def test_a_flood_of_refused_requests_is_a_few_log_lines(network: Network, device: AgentProcess) -> None:
    with RawClient(network.address) as client:
        for _ in range(300):
            client.send(b"DELETE /session HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            assert client.answer().status == 421
    assert device.count_log("http change refused") <= 20
