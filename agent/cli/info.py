"""`edge-backup info`: shows what a backup would save and skip now, and where archives may go."""

import argparse
from collections.abc import Iterator

from agent.base.text import counted, printable
from agent.cli.api_client import Agent, Value
from agent.cli.local import local_parser, run_local, waiting_lines, write_value
from agent.send.progress import progress_text, size_text


def info(argv: list[str]) -> int:
    """Print what a backup would save; nothing is made."""

    def act(agent: Agent, options: argparse.Namespace) -> None:
        value = agent.get("/info")
        write_value(value, "\n".join(map(printable, _lines(value))), as_json=options.json)

    parser = local_parser("info", "Show what a backup would save and skip now, and where it could go.")
    return run_local(parser, argv, act)


def _lines(value: Value) -> Iterator[str]:
    if not value["complete"]:
        yield "the time was too short to count everything: at least"
    yield f"all: {_counts(value)}"
    if "directory" in value:
        yield f"directory: {_counts(value['directory'])}"
    for name, counts in value["dataSets"].items():
        yield f"data set {name}: {_counts(counts)}"
    for name in value.get("mounts", ()):
        yield f"  saved with another file system, mounted at: {name}"
    for each in value["leftOut"]:
        yield f"  skipped: {each['name']} ({each['reason']})"
    if more := value["unexportable"] - len(value["leftOut"]):
        yield f"  and {more} more"
    for name, target in value["targets"].items():
        yield f"target {name}: {_target(target)}"
    for name in value["stores"]:
        yield f"store {name}"
    yield from waiting_lines(value)
    if job := value["job"]:
        yield f"{job['kind']} {job['correlationId']}: {progress_text(job)}"


def _counts(counts: Value) -> str:
    if "problem" in counts:
        return str(counts["problem"])
    parts = [f"{counted(counts['files'], 'file')}, {size_text(counts['bytes'])}"]
    parts += [f"{counts[key]} {key}" for key in ("excluded", "unexportable") if counts[key]]
    return ", ".join(parts)


def _target(target: Value) -> str:
    return f"{size_text(target['freeBytes'])} free" if target["present"] else str(target["problem"])
