"""Costs of HTTP: memory and wake-ups of an agent that listens, requests a second, a backup meanwhile."""

import http.client
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import trustme

from benchmarks import corpora
from benchmarks.agent_job import ARCHIVE, MeasuredAgent, agent, scratch
from benchmarks.liveness import IDLE_S, private_bytes, switches
from tests.support.agent_process import AgentProcess
from tests.support.backend import DEVICE, Backend

STATUS = "/api/v1/status"
PAGE = ("/", "/page.css", "/page.js", STATUS)
CONNECTIONS = 4
REQUESTS_S = 5.0
POLLS_PER_S = 20
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class HttpFace:
    idle_bytes: int
    """Private memory of an idle agent without HTTP over the network: pages of libraries do not count."""
    listening_bytes: int
    """With TCP and TLS, and nobody connected yet."""
    loaded_bytes: int
    """After a browser's requests for the page and the status, its connection closed."""
    wakeups: float
    """Times a second that any thread of the listening agent was switched to."""
    requests_per_s: float
    """Questions for the status over kept connections, without TLS."""
    polled: float
    """Time of a backup while somebody asks 20 times a second, to the time without."""


def measure(work: Path, port: int, scale: float) -> HttpFace:
    with scratch(work) as destination:
        settings = _settings(destination)
        plain = {key: settings[key] for key in ("http.listen", "http.tokenFile")}
        idle_bytes, _, _ = _memory(destination / "none", port, {})
        listening_bytes, loaded_bytes, wakeups = _memory(destination / "tls", port, settings)
        with agent(destination / "plain", port, plain) as measured:
            requests_per_s = _requests_per_s(measured.process)
            polled = _polled(measured, destination / "corpus", scale)
    return HttpFace(idle_bytes, listening_bytes, loaded_bytes, wakeups, requests_per_s, polled)


def _settings(work: Path) -> dict[str, str]:
    token, pem = work / "token", work / "server.pem"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
    listen = {"http.listen": "127.0.0.1:0", "http.tokenFile": str(token)}
    return {**listen, "http.cert": str(pem), "http.key": str(pem)}


def _memory(work: Path, port: int, settings: dict[str, str]) -> tuple[int, int, float]:
    """Memory before and after the page was loaded, and wake-ups in between."""
    process = AgentProcess(work, port, deviceId=DEVICE, tenantId="tenant", **settings)
    with Backend(port) as backend, process:
        backend.announced()
        before = switches(process.pid)
        time.sleep(IDLE_S)
        wakeups = (switches(process.pid) - before) / IDLE_S
        listening_bytes = private_bytes(process.pid)
        if settings:
            with _connection(process) as ask:
                for path in PAGE:
                    ask(path)
        loaded_bytes = private_bytes(process.pid)
        process.stop()
    return listening_bytes, loaded_bytes, wakeups


@contextmanager
def _connection(process: AgentProcess) -> Iterator[Callable[[str], None]]:
    """A kept connection; yields a function that asks for a path."""
    line = process.wait_for_log("http listening")
    headers = {"Authorization": f"Bearer {Path(process.settings['http.tokenFile']).read_text()}"}
    # The certificate is the benchmark's own, on loopback.
    context = ssl._create_unverified_context()  # noqa: SLF001
    plain, encrypted = http.client.HTTPConnection, http.client.HTTPSConnection
    address, tls = line["address"], line["tls"]
    connection = encrypted(address, context=context, timeout=60) if tls else plain(address, timeout=60)

    def ask(path: str) -> None:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.read()
        assert response.status == 200, (path, response.status)

    with closing(connection):
        yield ask


def _requests_per_s(process: AgentProcess) -> float:
    over, counts = threading.Event(), [0] * CONNECTIONS

    def run(number: int) -> None:
        with _connection(process) as ask:
            while not over.is_set():
                ask(STATUS)
                counts[number] += 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(CONNECTIONS)]
    started_s = time.monotonic()
    for thread in threads:
        thread.start()
    time.sleep(REQUESTS_S)
    over.set()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - started_s)


def _polled(measured: MeasuredAgent, corpus: Path, scale: float) -> float:
    """In turn with and without questions, so that both have the machine's good and bad moments."""
    corpora.large_log(corpus, scale)
    options = {"storage.provider": "local", "local.name": ARCHIVE}
    with_s, without_s = list[float](), list[float]()
    measured.backup(corpus, options)
    for _ in range(ROUNDS):
        without_s.append(measured.backup(corpus, options).wall_s)
        with _polling(measured.process):
            with_s.append(measured.backup(corpus, options).wall_s)
    return median(with_s) / median(without_s)


@contextmanager
def _polling(process: AgentProcess) -> Iterator[None]:
    over = threading.Event()

    def poll() -> None:
        with _connection(process) as ask:
            while not over.wait(1 / POLLS_PER_S):
                ask(STATUS)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
