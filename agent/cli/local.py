"""The command line beside a running agent, over its local socket; and the first of its commands, `status`.

There is one agent and one job: all commands here ask it, and do nothing themselves.
"""

import argparse
import io
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from agent.base.text import printable
from agent.faces.control import ANSWER_TIMEOUT_S, SOCKET_NAME
from agent.faces.unix_address import address
from agent.send.options import UnusableOption

EXIT_OK, EXIT_REFUSED, EXIT_USAGE, EXIT_NO_AGENT = 0, 1, 2, 3
FOLLOW_INTERVAL_S = 1.0

Value = Mapping[str, Any]


class NotAnswered(Exception):
    """The agent does not run, or this user may not ask it."""


class AgentRefused(Exception):
    """The agent answered with an error."""


class Agent:
    """The other end of the socket."""

    def __init__(self, stream: io.BufferedRWPair) -> None:
        self._stream = stream

    def ask(self, operation: str, value: Value | None = None) -> Value:
        """Ask the agent, and return the answer's value. Raises `AgentRefused` and `NotAnswered`."""
        try:
            self._stream.write(json.dumps({"operation": operation, "value": value}).encode() + b"\n")
            self._stream.flush()
            line = self._stream.readline()
        except OSError as error:
            raise NotAnswered("the agent went away") from error
        if not line:
            raise NotAnswered("the agent went away")
        answer = json.loads(line)
        value = answer.get("value") or {}
        if answer["status"] >= 400:
            raise AgentRefused(str(value.get("message", answer["status"])))
        return value


@contextmanager
def connected(storage: Path) -> Iterator[Agent]:
    """Raises `NotAnswered` when no agent listens in this storage directory."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.settimeout(ANSWER_TIMEOUT_S)
        try:
            connection.connect(address(storage / SOCKET_NAME))
        except PermissionError as error:
            raise NotAnswered(f"no permission for '{storage}': try as the agent's user or root") from error
        except OSError as error:
            how = "start it with 'systemctl start edge-backup' or 'edge-backup run'"
            raise NotAnswered(f"no agent runs with storage '{storage}': {how}") from error
        stream = connection.makefile("rwb")
        try:
            yield Agent(stream)
        finally:
            with suppress(OSError):  # closing sends what an agent that went away did not take
                stream.close()


def status(argv: list[str]) -> int:
    """Print what runs now; with `--follow` until nothing runs."""

    def show(agent: Agent, options: argparse.Namespace) -> None:
        while True:
            value = agent.ask("status")
            write_value(value, _status_lines(value), as_json=options.json)
            if not options.follow or not value["job"]:
                return
            time.sleep(FOLLOW_INTERVAL_S)

    parser = local_parser("status", "Show what the agent on this device is doing.")
    parser.add_argument("--follow", action="store_true", help="follow the job until it has ended")
    return run_local(parser, argv, show)


def local_parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"edge-backup {name}",
        description=description,
        epilog="Also takes the options of 'edge-backup run': --config says which agent is meant.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    return parser


def run_local(
    parser: argparse.ArgumentParser, argv: list[str], act: Callable[[Agent, argparse.Namespace], int | None]
) -> int:
    """Ask the agent that the settings mean: the exit status, for which None is a good one."""
    from agent.cli import settings_from

    options, rest = parser.parse_known_args(argv)
    loaded = settings_from(parser.prog, rest)
    if loaded is None:
        return 2
    try:
        with connected(loaded.settings.storage) as agent:
            return act(agent, options) or EXIT_OK
    except UnusableOption as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    except AgentRefused as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_REFUSED
    except NotAnswered as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_NO_AGENT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # somebody has seen enough
    return EXIT_OK


def _status_lines(value: Value) -> str:
    problem = value.get("problem")
    return _status_line(value) + (f"\n{printable(problem)}" if problem else "")


def _status_line(value: Value) -> str:
    job, last = value["job"], value["last"]
    if job:
        return printable(f"{job['kind']} {job['correlationId']}: {', '.join(progress(job))}")
    if not last:
        return "idle"
    why = f" ({last['statusCode']}: {last['message']})" if last["statusCode"] else ""
    ended = f"{last['state'].lower()} {time_text(last['endTime'])}{why}"
    return printable(f"idle; last: {last['kind']} {last['correlationId']} {ended}")


def progress(job: Value) -> Iterator[str]:
    """Yield what is known of a running job, in pieces for a line."""
    done, total, left_s = size_text(job["bytes"]), job["totalBytes"], job["remainingSeconds"]
    yield job["phase"]
    if job["percent"] is not None:
        yield f"{job['percent']} %"
    if job["bytes"]:
        yield f"{done} of {size_text(total)}" if total else done
        yield f"{size_text(job['bytesPerSecond'])}/s"
    if left_s is not None:
        yield f"{timedelta(seconds=left_s)} left"


def time_text(text: str) -> str:
    """To the second, and said to be UTC."""
    return f"{text[:10]} {text[11:19]}Z"


def size_text(size_bytes: int) -> str:
    count = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def write_value(value: Value, text: str, *, as_json: bool) -> None:
    sys.stdout.write((json.dumps(value, ensure_ascii=False) if as_json else text) + "\n")
    sys.stdout.flush()
