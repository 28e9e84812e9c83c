"""A command for the agent on this device: sent through its socket, followed to its end, told as it ended."""

import argparse
import sys
import time
import uuid
from collections.abc import Mapping
from typing import Any

from agent.base.text import printable
from agent.cli.local import (
    EXIT_OK,
    EXIT_REFUSED,
    Agent,
    NotAnswered,
    Value,
    progress,
    size_text,
    write_value,
)
from agent.send.options import SOURCES, gathered, option, read_secret, secret_source

EXIT_INTERRUPTED = 130
"""The exit status that shells give a program that Ctrl-C ended."""
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add arguments for every option of the wire, secret ones by their source, and for a correlation id."""
    parser.add_argument(
        "-o", "--option", metavar="KEY=VALUE", type=option, action="append", default=[],
        help="an option as in docs/wire.md, such as local.target=usb",
    )  # fmt: skip
    parser.add_argument(
        "--secret", metavar="KEY=SOURCE", type=secret_source, action="append", default=[],
        help=f"a secret option, such as backup.passcode; SOURCE is {SOURCES}",
    )  # fmt: skip
    parser.add_argument("--id", metavar="ID", default="", help="correlation id (default: a new one)")


def options_of(parsed: argparse.Namespace, named: Mapping[str, str | None]) -> dict[str, str]:
    """Return the options of `add_options`, and those of arguments with names of their own.

    Raises `UnusableOption` when a secret cannot be read, or an option is given twice.
    """
    secrets = [(secret.key, read_secret(secret)) for secret in parsed.secret]
    return gathered(parsed.option, [(key, text) for key, text in named.items() if text], secrets)


def carried_out(
    agent: Agent, operation: str, options: Mapping[str, str], parsed: argparse.Namespace, **fields: Any
) -> int:
    """Send a command, wait until its job has ended, and say how: the exit status.

    `fields` stand beside the options in its value. Raises `AgentRefused` and `NotAnswered`.
    """
    correlation_id = parsed.id or str(uuid.uuid4())
    try:
        agent.ask(operation, {"correlationId": correlation_id, "options": dict(options), **fields})
        entry = ended(agent, correlation_id)
    except KeyboardInterrupt:
        sys.stderr.write(f"the job continues: edge-backup show {printable(correlation_id)}\n")
        return EXIT_INTERRUPTED
    except NotAnswered as error:
        # Whether the command arrived is not known either.
        ask = f"edge-backup show {printable(correlation_id)}"
        raise NotAnswered(f"{error}: when it is back, ask it what became of the job: {ask}") from error
    return _told(entry, as_json=parsed.json)


def ended(agent: Agent, correlation_id: str) -> Value:
    """Wait for the end of the job, and return its entry. Raises `AgentRefused` when it never ran."""
    wait_for(agent, correlation_id)
    return agent.ask("describe", {"correlationId": correlation_id})


def wait_for(agent: Agent, correlation_id: str) -> None:
    """Wait until nothing runs with this id; on a terminal, print its progress."""
    phase, wait_s = "", _SHORTEST_WAIT_S
    while (job := agent.ask("status").get("job")) and job["correlationId"] == correlation_id:
        if job["phase"] != phase and sys.stderr.isatty():
            phase = job["phase"]
            sys.stderr.write(printable(", ".join(progress(job))) + "\n")
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def _told(entry: Value, *, as_json: bool) -> int:
    finished = entry["state"] == "FINISHED"
    if as_json or finished:
        write_value(entry, _good_end(entry), as_json=as_json)
    else:
        text = f"{entry['kind']} failed: {entry['message']} ({entry['statusCode']})"
        sys.stderr.write(f"{printable(text)}\n")
    return EXIT_OK if finished else EXIT_REFUSED


def _good_end(entry: Value) -> str:
    size = size_text(entry.get("archiveBytes", entry.get("addedBytes", entry.get("contentBytes", 0))))
    where = f" in {entry['place']}" if entry.get("place") else ""
    note = f"; {entry['message']}" if entry["message"] else ""
    return printable(f"{entry['kind']} finished: {entry.get('files', 0)} files, {size}{where}{note}")
