"""The device's own door: commands and questions over a Unix socket in the storage directory.

One request is one line of JSON, `{"operation": "status", "value": {…}}`; its answer is one line with the
`status` of the Ditto answer and, where there is one, its `value`. Who may open the socket is decided by
the storage directory, which is private. Nobody listening means that no agent runs.
"""

import json
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import structlog

from agent.faces.unix_address import address
from agent.mailbox import Post

log = structlog.get_logger(__name__)

SOCKET_NAME = "control.sock"
MAX_REQUEST_BYTES = 256 << 10
MAX_CALLERS = 8
"""Further ones wait in the kernel's line."""
CALLER_TIMEOUT_S = 10.0
"""How long a caller may take to say what it wants, or to take its answer."""
ANSWER_TIMEOUT_S = 60.0

Reply = Callable[[int, Mapping[str, Any] | None], None]
"""Takes the status, as Ditto's answers have it, and the value."""
Receive = Callable[[str, Any, Reply], None]
"""Takes the operation, its value and whom to answer, in the main thread."""


class Control:
    """Listens from `open` to `close`; what callers want is posted to the main thread."""

    def __init__(self, storage: Path, post: Post, receive: Receive) -> None:
        self._path, self._post, self._receive = storage / SOCKET_NAME, post, receive
        self._listener: socket.socket | None = None
        self._places = threading.BoundedSemaphore(MAX_CALLERS)

    def open(self) -> None:
        """Begin to listen. Without the socket the agent still serves its backend: that is only logged."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with suppress(FileNotFoundError):
                self._path.unlink()  # of an agent that was killed: the lock says that none runs
            listener.bind(address(self._path))
            self._path.chmod(0o600)  # nobody gets here before: the directory is private
            listener.listen(MAX_CALLERS)
        except OSError as error:
            listener.close()
            log.warning("local commands unavailable: socket not created", errno=error.errno)
            return
        self._listener = listener
        threading.Thread(target=self._serve, args=(listener,), name="control", daemon=True).start()

    def close(self) -> None:
        if self._listener is None:
            return
        with suppress(OSError):
            self._path.unlink()
        # Only a shutdown wakes the thread that waits in accept.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._listener = None

    def _serve(self, listener: socket.socket) -> None:
        while True:
            self._places.acquire()
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(caller,), name="caller", daemon=True).start()

    def _talk(self, caller: socket.socket) -> None:
        try:
            with caller, closing(caller.makefile("rwb")) as stream:
                caller.settimeout(CALLER_TIMEOUT_S)
                while line := stream.readline(MAX_REQUEST_BYTES):
                    stream.write(_encoded(*self._asked(line)))
                    stream.flush()
        except OSError:
            log.debug("local caller disconnected")
        finally:
            self._places.release()

    def _asked(self, line: bytes) -> tuple[int, Mapping[str, Any] | None]:
        try:
            request = json.loads(line)
            operation, value = request["operation"], request.get("value")
            if not isinstance(operation, str):
                raise TypeError
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return 400, {"message": 'expected one line of JSON like {"operation": "status"}'}
        answers: SimpleQueue[tuple[int, Mapping[str, Any] | None]] = SimpleQueue()
        self._post(partial(self._receive, operation, value, lambda *answer: answers.put(answer)))
        try:
            return answers.get(timeout=ANSWER_TIMEOUT_S)
        except Empty:
            return 504, {"message": "the agent does not answer: see its log"}


def _encoded(status: int, value: Mapping[str, Any] | None) -> bytes:
    answer = {"status": status} if value is None else {"status": status, "value": value}
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
