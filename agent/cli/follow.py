"""A command for an agent: sent over its API, followed to its end by its events, told as it ended."""

import argparse
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from agent.base.text import printable
from agent.cli.api_client import Agent, AgentRefused, Event, NotAnswered, Value, in_path
from agent.cli.local import EXIT_OK, EXIT_REFUSED, progress, size_text, write_value
from agent.send.options import SOURCES, gathered, option, read_secret, secret_source

LOOK_AGAIN_S = 1.0
_SAME_LINE, _NEXT_LINE = "\r\x1b[K", "\n"
EXIT_INTERRUPTED = 130
"""The exit status that shells give a program that Ctrl-C ended."""


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
    """Begin a job, wait until it has ended, and say how: the exit status.

    `fields` stand beside the options in its request. Raises `AgentRefused` and `NotAnswered`.
    """
    shown = parsed.id or str(uuid.uuid4())
    value = {"operation": operation, "correlationId": shown, "options": dict(options), **fields}
    return end_of(agent, "/jobs", value, shown, as_json=parsed.json)


def end_of(agent: Agent, path: str, value: Value, shown: str, *, as_json: bool) -> int:
    """Send a command that begins a job, wait until it has ended, and say how: the exit status.

    `shown` is the id by which a person may ask for it. Raises `AgentRefused` and `NotAnswered`.
    """
    try:
        job = ended(agent, agent.post(path, value)["id"])
    except KeyboardInterrupt:
        sys.stderr.write(f"the job continues: edge-backup show {printable(shown)}\n")
        return EXIT_INTERRUPTED
    except NotAnswered as error:
        # Whether the command arrived is not known either.
        ask = f"edge-backup show {printable(shown)}"
        raise NotAnswered(f"{error}: when it is back, ask it what became of the job: {ask}") from error
    return _told(job, as_json=as_json)


def ended(agent: Agent, job_id: str) -> Value:
    """Wait until the job runs no more, and return it; on a terminal, print its progress.

    Raises `AgentRefused` and `NotAnswered`.
    """
    path = f"/jobs/{in_path(job_id)}"
    try:
        with agent.events(f"{path}/events") as events:
            _follow(events)
    except AgentRefused as refused:
        if refused.status != HTTPStatus.SERVICE_UNAVAILABLE:
            raise
        while "phase" in agent.get(path):  # too many others follow the events
            time.sleep(LOOK_AGAIN_S)
    return agent.get(path)


def _follow(events: Iterator[Event]) -> None:
    """Take the events of a job until its end; on a terminal, keep a line for each phase up to date."""
    phase, is_terminal = "", sys.stderr.isatty()
    try:
        for event in events:
            if event.name == "end":
                return
            job = event.value["job"]
            if is_terminal and "phase" in job:
                before = _SAME_LINE if job["phase"] == phase else _NEXT_LINE if phase else ""
                phase = job["phase"]
                sys.stderr.write(before + printable(", ".join(progress(job))))
                sys.stderr.flush()
    finally:
        if phase:
            sys.stderr.write(_NEXT_LINE)


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
