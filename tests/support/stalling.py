"""A place behind HTTP that lets a transfer begin and then waits until the test lets it go on."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Stalling:
    """`reached` is set when a request has arrived; it is answered once `release` is set."""

    port: int
    answer: bytes = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    reached: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/archive.zip"

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(60)
            connection.recv(1)
            self.reached.set()
            self.release.wait(60)
            connection.settimeout(0.2)
            with suppress(OSError):
                while connection.recv(1 << 16):
                    pass
            with suppress(OSError):
                connection.sendall(self.answer)


@contextmanager
def stalling() -> Iterator[Stalling]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        destination = Stalling(listener.getsockname()[1])
        threading.Thread(target=destination.serve, args=(listener,), daemon=True).start()
        try:
            yield destination
        finally:
            destination.release.set()
