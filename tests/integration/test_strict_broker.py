"""A broker with Hono's limit: it hangs up on a client that publishes 2,048 bytes or more."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.integration.conftest import SAMPLE
from tests.support.agent_process import AgentProcess
from tests.support.backend import Backend
from tests.support.mosquitto import Mosquitto
from tests.support.trees import make_tree

_PUBLISH = 3
_LIMIT_BYTES = 2048


class StrictBroker:
    """Passes everything on to a real broker, and counts the messages for which it hung up."""

    def __init__(self, port: int) -> None:
        self._far = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = self.refused = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            broker = socket.create_connection(("127.0.0.1", self._far))
            threading.Thread(target=_pass_on, args=(broker, client), daemon=True).start()
            threading.Thread(target=self._watch, args=(client, broker), daemon=True).start()

    def _watch(self, client: socket.socket, broker: socket.socket) -> None:
        """Pass packets on to the broker, one at a time (MQTT 3.1.1, section 2.2)."""
        with client, broker, client.makefile("rb") as stream, suppress(OSError):  # of an agent that ended
            while head := stream.read(1):
                sizes, body = _rest_of_packet(stream)
                if head[0] >> 4 == _PUBLISH and _payload_bytes(head[0], body) >= _LIMIT_BYTES:
                    self.refused += 1
                    return
                broker.sendall(head + sizes + body)


def _rest_of_packet(stream: BinaryIO) -> tuple[bytes, bytes]:
    """Return the field with the remaining length, and what it counts; less when the stream ends in it."""
    length, sizes = 0, bytearray()
    while byte := stream.read(1):
        sizes += byte
        length |= (byte[0] & 0x7F) << 7 * (len(sizes) - 1)
        if not byte[0] & 0x80:
            break
    return bytes(sizes), stream.read(length)


def _payload_bytes(head: int, body: bytes) -> int:
    number_bytes = 2 if head & 0b110 else 0
    return len(body) - 2 - int.from_bytes(body[:2]) - number_bytes


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
    except OSError:
        return


@pytest.fixture
def strict(broker: Mosquitto) -> Iterator[StrictBroker]:
    strict = StrictBroker(broker.port)
    yield strict
    strict.close()


def test_nothing_that_the_agent_says_is_over_the_limit(
    tmp_path: Path, strict: StrictBroker, backend: Backend
) -> None:
    """One answer that repeats an id of 100,000 letters would cost the connection, again and again."""
    device = AgentProcess(tmp_path / "device", strict.port)
    make_tree(device.data, SAMPLE)
    with device:
        backend.announced()
        long = "x" * 100_000
        backend.send("backup", {"correlationID": "A"}, correlation_id=long)
        backend.send("backup", {"correlationID": long})
        backend.send("x" * 30_000)
        backend.send("cancel", {"correlationID": "B", "message": long})
        for number in range(20):
            assert backend.run("backup", f"{number:0200}", {"storage.provider": "local"})["progress"] == 100
        assert backend.ask("history", request_id="h")["status"] == 200
        assert (strict.refused, strict.connections) == (0, 1)
