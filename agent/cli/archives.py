"""`edge-backup archives` and `prune`: the archives of the device in every store, and those that go."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from http import HTTPStatus

from agent.base.text import printable
from agent.cli.api_client import Agent, AgentRefused, Value
from agent.cli.local import EXIT_OK, EXIT_REFUSED, local_parser, run_local, shown_time, write_value
from agent.send.progress import size_text

_ROW = "{:20}  {:>8}  {:>7}  {:9}  {}"
_NOT_THERE = frozenset({HTTPStatus.UNPROCESSABLE_ENTITY})
"""Statuses of a store that has no list, or is not plugged in."""


def archives(argv: list[str]) -> int:
    """Print the archives, newest first in each store; 1 when a store failed."""
    parser = local_parser("archives", "List the archives that can be restored, newest first.")
    parser.add_argument("--store", metavar="NAME", help="only this store or target (default: all)")
    parser.add_argument("--device", metavar="ID", default="", help="id of another device (default: this one)")
    parser.add_argument(
        "--details",
        action="store_true",
        help="read the manifests for what the device does not know",
    )

    def act(agent: Agent, parsed: argparse.Namespace) -> int:
        status = EXIT_OK
        for store in [parsed.store] if parsed.store else _stores(agent.get("/stores")):
            try:
                told = _tell(store, _archives(agent, store, parsed), as_json=parsed.json)
                if not told and not parsed.json:
                    nothing = f"{store}: no archives of {parsed.device or 'this device'}"
                    write_value({}, [nothing], as_json=False)
            except AgentRefused as refused:
                which = "" if parsed.store else f"store {store}: "
                sys.stderr.write(f"{printable(f'{which}{refused}')}\n")
                if parsed.store or refused.status not in _NOT_THERE:
                    status = EXIT_REFUSED
        return status

    return run_local(parser, argv, act)


def _stores(destinations: Value) -> list[str]:
    """Return the stores, and the targets that no store stands for."""
    stores, targets = destinations["stores"], destinations["targets"]
    known = {each["name"] for each in stores}
    known |= {each.get("target") for each in stores if not each.keys() & {"format", "directory"}}
    names = [each["name"] for each in stores]
    return names + [each["name"] for each in targets if each["name"] not in known]


def _archives(agent: Agent, store: str, parsed: argparse.Namespace) -> Iterator[Value]:
    query = {"store": store, "device": parsed.device, "details": str(parsed.details).lower()}
    while True:
        page = agent.get("/archives", **query)
        yield from page["archives"]
        if "next" not in page:
            return
        query["after"] = page["next"]


def _tell(store: str, found: Iterable[Value], *, as_json: bool) -> int:
    """Print the archives below a heading; return how many there are."""
    told = 0
    for told, archive in enumerate(found, 1):
        if told == 1 and not as_json:
            heading = _ROW.format("made", "size", "files", "verified", "source, name")
            write_value({}, [f"{store}:", heading], as_json=False)
        write_value({"store": store, **archive}, _lines(archive), as_json=as_json)
    return told


def _lines(archive: Value) -> Iterator[str]:
    size = "" if archive["bytes"] is None else size_text(archive["bytes"])
    files = "" if archive["files"] is None else str(archive["files"])
    verified = {True: "sound", False: "damaged", None: ""}[archive["verified"]]
    made = shown_time(archive["made"]) if archive["isDated"] else "unknown"
    source = archive["source"] or "unknown"
    marks = [source, *(["encrypted"] if archive["encrypted"] else [])]
    if archive["retentionDate"]:
        marks.append(f"kept until {shown_time(archive['retentionDate'])}")
    yield _ROW.format(made, size, files, verified, ", ".join(marks))
    yield f"{'':22}{archive['name']}"


def prune(argv: list[str]) -> int:
    """Print what was removed from each destination; 1 when one failed, 0 also when one is not there now."""

    def act(agent: Agent, options: argparse.Namespace) -> int:
        value = agent.post("/prune", {"dryRun": options.dry_run})
        write_value(value, _removal_lines(value, dry_run=options.dry_run), as_json=options.json)
        return EXIT_REFUSED if any(destination["failed"] for destination in value["places"]) else EXIT_OK

    parser = local_parser("prune", "Remove archives that no rule of retention.* and no retention date keeps.")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be removed")
    return run_local(parser, argv, act)


def _removal_lines(value: Value, *, dry_run: bool) -> Iterator[str]:
    if value["running"]:
        yield "still running: the agent's log names what it removes"
    did, would = ("would remove", "would be ") if dry_run else ("removed", "")
    for destination in value["places"]:
        freed = f", {size_text(destination['freed'])} {would}freed" if destination["freed"] else ""
        counts = f"{did} {len(destination['removed'])}, {destination['kept']} stay{freed}"
        yield f"{destination['place']}: {destination['problem'] or counts}"
        if destination["note"]:
            yield f"  {destination['note']}"
        for name in destination["removed"]:
            yield f"  {name}"
