"""The output of a hook, read from its pipe: logged line by line, and its last lines kept for a message."""

import os
import select
from collections import deque
from collections.abc import Callable

import structlog

from agent.base.redaction import redact_text

log = structlog.get_logger(__name__)

Condition = Callable[[], bool]

LOGGED_LINES = 2000
"""Further lines of a hook are only counted: it must not displace everything else in the log."""
LINE_BYTES = 1000
TAIL_LINES = 5
TAIL_CHARACTERS = 240

# The end of a process is polled: many devices have kernels without pidfds.
_SHORTEST_POLL_S, _LONGEST_POLL_S = 0.001, 0.05
_PIPE_BYTES = 1 << 16


class HookOutput:
    """The reading end of a hook's pipe, which never blocks for longer than a poll."""

    def __init__(self, descriptor: int, lines: "HookLines") -> None:
        self.lines = lines
        self.at_end = False
        self._descriptor = descriptor
        self._poller = select.poll()
        self._poller.register(descriptor, select.POLLIN)
        self._wait_s = _SHORTEST_POLL_S

    def read_until(self, done: Condition, stop: Condition) -> bool:
        """Read until `done`, or until `stop`; return True when done."""
        while not done():
            if stop():
                return False
            self._read()
        return True

    def _read(self) -> None:
        """Read the output that has come, or wait a moment; after its end, only wait."""
        ready = self._poller.poll(self._wait_s * 1000)
        self._wait_s = min(self._wait_s * 2, _LONGEST_POLL_S)
        if not ready:
            return
        if chunk := os.read(self._descriptor, _PIPE_BYTES):
            self.lines.feed(chunk)
            return
        self.at_end = True
        self._poller.unregister(self._descriptor)
        self._wait_s = _SHORTEST_POLL_S  # most hooks end right after their output


class HookLines:
    """Splits the output into lines, logs them, and keeps the last few, in bounded memory."""

    def __init__(self, hook_name: str) -> None:
        self._hook_name = hook_name
        self._partial = b""
        self._last: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._count = 0

    def feed(self, chunk: bytes) -> None:
        # A progress bar ends its lines with a carriage return.
        first, *rest = chunk.replace(b"\r", b"\n").split(b"\n")
        self._partial = (self._partial + first)[: LINE_BYTES + 1]
        for piece in rest:
            self._take(self._partial)
            self._partial = piece[: LINE_BYTES + 1]

    def close(self) -> None:
        """Take the rest of the output as the last line."""
        self._take(self._partial)
        self._partial = b""
        if self._count > LOGGED_LINES:
            log.warning("hook output truncated", hook=self._hook_name, unlogged=self._count - LOGGED_LINES)

    def _take(self, line: bytes) -> None:
        if not line or line.isspace():
            return
        self._last.append(line)
        self._count += 1
        if self._count <= LOGGED_LINES:
            log.info("hook output", hook=self._hook_name, line=_printable(line))

    def tail(self) -> str:
        """Return the last lines as the end of a message; "" when there are none."""
        # A secret is found by its name before it, so redact before anything is cut off.
        text = " | ".join(redact_text(_printable(line)) for line in self._last)
        if len(text) > TAIL_CHARACTERS:
            text = f"…{text[1 - TAIL_CHARACTERS :]}"
        return f": {text}" if text else ""


def _printable(line: bytes) -> str:
    text = line[:LINE_BYTES].decode("utf-8", "replace")
    cut = "…" if len(line) > LINE_BYTES else ""
    return "".join(letter if letter.isprintable() else " " for letter in text).strip() + cut
