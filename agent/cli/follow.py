"""A command for an agent: sent over its API, followed to its end by its events, told as it ended."""

import argparse
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from agent.base.text import counted, printable
from agent.cli import EXIT_INTERRUPTED
from agent.cli.api_client import Agent, AgentRefused, Event, NotAnswered, Value, in_path
from agent.cli.local import EXIT_OK, EXIT_REFUSED, write_value
from agent.send.options import SOURCES, gathered, option, read_secret, secret_source
from agent.send.progress import ProgressLine, progress_text, size_text

LOOK_AGAIN_S = 1.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add those of `add_wire_options`, and an argument for a correlation id."""
    add_wire_options(parser)
    parser.add_argument("--id", metavar="ID", default="", help="correlation id (default: a new one)")


def add_wire_options(parser: argparse.ArgumentParser) -> None:
    """Add arguments for every option of the wire, secret ones by their source."""
    parser.add_argument(
        "-o", "--option", metavar="KEY=VALUE", type=option, action="append", default=[],
        help="an option, such as local.target=usb; 'man edge-backup-options' lists them",
    )  # fmt: skip
    parser.add_argument(
        "--secret", metavar="KEY=SOURCE", type=secret_source, action="append", default=[],
        help=f"a secret option, such as backup.passcode; SOURCE is {SOURCES}",
    )  # fmt: skip


def add_archive_options(parser: argparse.ArgumentParser) -> None:
    """Add arguments that say which archive is meant; without any, it is the newest of this device."""
    add = parser.add_argument
    add("--store", metavar="NAME", help="store or target that has the archive")
    add("--archive", metavar="NAME", help="the archive, or the id of a snapshot, as 'archives' shows it")
    add("--before", metavar="TIME", help="the newest from before this time, such as 2027-01-31T12:00:00Z")
    add("--source", metavar="DIR", help="the newest of this directory (default: the one that is restored)")
    add("--from-device", metavar="ID", help="of another device: on new hardware, the id of the old one")


def archive_options_of(parsed: argparse.Namespace) -> dict[str, str | None]:
    """Return the options that the arguments of `add_archive_options` mean."""
    return {
        "restore.store": parsed.store,
        "restore.archive": parsed.archive,
        "restore.before": parsed.before and parsed.before.replace(" ", "T"),  # as lists show times
        "restore.source": parsed.source,
        "restore.fromDevice": parsed.from_device,
    }


def options_of(parsed: argparse.Namespace, named: Mapping[str, str | None]) -> dict[str, str]:
    """Return the options of `add_wire_options`, and those of arguments with names of their own.

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
    job = followed(agent, path, value, shown)
    return EXIT_INTERRUPTED if job is None else _write_end(job, as_json=as_json)


def followed(agent: Agent, path: str, value: Value, shown: str) -> Value | None:
    """Send a command that begins a job, and return the job when it has ended; None when Ctrl-C leaves it.

    Raises `AgentRefused` and `NotAnswered`.
    """
    job_id = shown  # until the agent says which it gave
    try:
        job_id = agent.post(path, value)["id"]
        return _ended(agent, job_id)
    except KeyboardInterrupt:
        if not _is_to_stop():
            ways = f"edge-backup show {printable(shown)}; stop it: edge-backup cancel --id {printable(shown)}"
            sys.stderr.write(f"the job continues: {ways}\n")
            return None
    except NotAnswered as error:
        # Whether the command arrived is not known either.
        ask = f"edge-backup show {printable(shown)}"
        raise NotAnswered(f"{error}: when it is back, ask it what became of the job: {ask}") from error
    with suppress(AgentRefused):  # it has ended meanwhile
        agent.post(f"/jobs/{in_path(job_id)}/cancel")
    return _ended(agent, job_id)


def _is_to_stop() -> bool:
    """Ask on a terminal whether the job is to be stopped; elsewhere nobody is there to be asked."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    try:
        sys.stderr.write("Stop the job? Otherwise it goes on without this command. [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return False


def _ended(agent: Agent, job_id: str) -> Value:
    """Wait until the job runs no more, and return it; meanwhile print its progress on stderr.

    Raises `AgentRefused` and `NotAnswered`.
    """
    path, line = f"/jobs/{in_path(job_id)}", ProgressLine(sys.stderr)
    try:
        with agent.events(f"{path}/events") as events:
            _follow(events, line)
    except AgentRefused as refused:
        if refused.status != HTTPStatus.SERVICE_UNAVAILABLE:
            raise
        while "phase" in (job := agent.get(path)):  # too many others follow the events
            line.show(progress_text(job))
            time.sleep(LOOK_AGAIN_S)
    finally:
        line.clear()
    return agent.get(path)


def _follow(events: Iterator[Event], line: ProgressLine) -> None:
    """Take the events of a job until its end."""
    for event in events:
        if event.name == "end":
            return
        if "phase" in (job := event.value["job"]):
            line.show(progress_text(job))


def _write_end(entry: Value, *, as_json: bool) -> int:
    finished = entry["state"] == "FINISHED"
    if as_json or finished:
        write_value(entry, [_end_line(entry)], as_json=as_json)
    else:
        text = f"{entry['kind']} failed: {entry['message']} ({entry['statusCode']})"
        sys.stderr.write(f"{printable(text)}\n")
    return EXIT_OK if finished else EXIT_REFUSED


def _end_line(entry: Value) -> str:
    size = size_text(entry.get("archiveBytes", entry.get("addedBytes", entry.get("contentBytes", 0))))
    where = f" in {entry['place']}" if entry.get("place") else ""
    if (archive := entry.get("archive", "")) not in where:
        where = f" from '{archive}'{where}"
    note = f"; {entry['message']}" if entry["message"] else ""
    files = f"{counted(entry['files'], 'file')}, " if "files" in entry else ""  # no key, no count
    return f"{entry['kind']} finished: {files}{size}{where}{note}"
