"""Jobs at an agent: `edge-backup backup`, `verify` and `restore`, and the decisions about them."""

import argparse
import json
import os
import uuid
from collections.abc import Callable, Iterator

from agent.base.job import ON_TRIAL
from agent.cli import EXIT_INTERRUPTED
from agent.cli.api_client import Agent, AgentRefused, Value, in_path
from agent.cli.follow import (
    add_archive_options,
    add_options,
    archive_options_of,
    carried_out,
    end_of,
    followed,
    options_of,
)
from agent.cli.local import EXIT_OK, EXIT_REFUSED, local_parser, run_local, write_value
from agent.send.progress import size_text


def backup(argv: list[str]) -> int:
    parser = local_parser("backup", "Let the agent on this device make a backup now, and wait for its end.")
    add = parser.add_argument
    add("--dir", metavar="PATH", help="directory to save (default: the setting 'dir')")
    add("--data-type", metavar="NAME", action="append", help="data set to save instead; may be repeated")
    add("--path", metavar="PATH", action="append", help="save only this file or directory; may be repeated")
    add("--output", metavar="PATH", help="write the archive into this file, replacing an existing one")
    add("--store", metavar="NAME", help="store of the settings to send the archive to")
    add("--name", help="first part of the archive's name (default: backup)")
    add("--description", metavar="TEXT", help="description for people")
    add(
        "--retention-date",
        metavar="TIME",
        help="when the archive may be removed, such as 2027-01-31T12:00:00Z",
    )
    add("--exclude", metavar="PATTERN", action="append", help="pattern of files to exclude; may be repeated")
    add_options(parser)

    def act(agent: Agent, parsed: argparse.Namespace) -> int:
        named = {
            "backup.dir": parsed.dir and os.path.abspath(parsed.dir),
            "backup.dataTypes": parsed.data_type and json.dumps(parsed.data_type),
            "backup.paths": parsed.path and json.dumps(parsed.path),
            "backup.store": parsed.store,
            "backup.name": parsed.name,
            "backup.description": parsed.description,
            "backup.retentionDate": parsed.retention_date,
            "backup.exclude": parsed.exclude and json.dumps(parsed.exclude),
        }
        fields = {"output": os.path.abspath(parsed.output)} if parsed.output else {}
        return carried_out(agent, "backup", options_of(parsed, named), parsed, **fields)

    return run_local(parser, argv, act)


def verify(argv: list[str]) -> int:
    parser = local_parser(
        "verify", "Let the agent fetch an archive and check every byte, and wait for the end."
    )
    add_archive_options(parser)
    add_options(parser)

    def act(agent: Agent, parsed: argparse.Namespace) -> int:
        options = options_of(parsed, archive_options_of(parsed))
        return carried_out(agent, "verify", options, parsed)

    return run_local(parser, argv, act)


def restore(argv: list[str]) -> int:
    parser = local_parser("restore", "Let the agent on this device restore an archive, and wait for the end.")
    add = parser.add_argument
    add("--dir", metavar="PATH", help="directory of the device (default: the setting 'dir')")
    add("--data-type", metavar="NAME", action="append", help="data set to restore instead; may be repeated")
    add("--path", metavar="PATH", action="append", help="restore only this; may be repeated")
    add_archive_options(parser)
    add(
        "--mode",
        choices=["merge", "replace", "exact"],
        help="'replace' removes what the archive lacks; 'exact' also what its backup excluded by patterns",
    )
    add("--preview", action="store_true", help="show what would change, and keep it for finalize or discard")
    _add_trial(parser)
    add_options(parser)

    def act(agent: Agent, parsed: argparse.Namespace) -> int:
        options = options_of(
            parsed,
            {
                "backup.dir": parsed.dir and os.path.abspath(parsed.dir),
                "restore.dataTypes": parsed.data_type and json.dumps(parsed.data_type),
                "restore.paths": parsed.path and json.dumps(parsed.path),
                **archive_options_of(parsed),
                "restore.mode": parsed.mode,
                "restore.preview": "true" if parsed.preview else None,
                "restore.confirmWithin": parsed.confirm_within,
            },
        )
        if options.get("restore.preview") == "true":
            return _preview(agent, options, parsed)
        return carried_out(agent, "restore", options, parsed)

    return run_local(parser, argv, act)


def finalize(argv: list[str]) -> int:
    parser = local_parser("finalize", "Carry out the restore that was previewed, and wait for the end.")
    _add_trial(parser)
    parser.add_argument("--id", metavar="ID", default="", help="correlation id of the preview")

    def act(agent: Agent, parsed: argparse.Namespace) -> int:
        preview = _waiting_preview(agent)
        shown = parsed.id or preview["correlationId"]
        path = f"/jobs/{in_path(parsed.id or preview['id'])}/finalize"
        return end_of(agent, path, {"confirmWithin": parsed.confirm_within or ""}, shown, as_json=parsed.json)

    return run_local(parser, argv, act)


def discard(argv: list[str]) -> int:
    return _decided("discard", "Remove the waiting preview.", argv, _waiting_preview)


def confirm(argv: list[str]) -> int:
    return _decided("confirm", "Keep the data of a commit-confirmed restore.", argv, _unconfirmed)


def cancel(argv: list[str]) -> int:
    return _decided("cancel", "Stop the job that runs; a restore puts the old data back.", argv, _running)


def _add_trial(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--confirm-within", metavar="DURATION",
        help="time in which 'edge-backup confirm' must be run, such as 10m; else the old data comes back",
    )  # fmt: skip


def _decided(operation: str, description: str, argv: list[str], find: Callable[[Agent], Value]) -> int:
    """Decide about the job with the id in the arguments, else about the one that `find` returns."""
    parser = local_parser(operation, description)
    parser.add_argument("--id", metavar="ID", default="", help="correlation id (default: the only one's)")

    def act(agent: Agent, parsed: argparse.Namespace) -> None:
        agent.post(f"/jobs/{in_path(parsed.id or find(agent)['id'])}/{operation}")

    return run_local(parser, argv, act)


def _waiting_preview(agent: Agent) -> Value:
    preview: Value = agent.get("/status").get("preview", {})
    if preview.get("state") != "waiting":
        raise AgentRefused("no preview is waiting")
    return preview


def _running(agent: Agent) -> Value:
    if (job := _job(agent)) is None:
        raise AgentRefused("no job runs")
    return job


def _unconfirmed(agent: Agent) -> Value:
    if (job := _job(agent)) is None or job["phase"] != ON_TRIAL:
        raise AgentRefused("no restore waits for a confirmation")
    return job


def _job(agent: Agent) -> Value | None:
    job: Value | None = agent.get("/status")["job"]
    return job


def _preview(agent: Agent, options: dict[str, str], parsed: argparse.Namespace) -> int:
    shown = parsed.id or str(uuid.uuid4())
    value = {"operation": "restore", "correlationId": shown, "options": options}
    job = followed(agent, "/jobs", value, shown)
    if job is None:
        return EXIT_INTERRUPTED
    value = job["preview"]
    write_value(value, _preview_lines(value), as_json=parsed.json)
    return EXIT_OK if value["state"] == "waiting" else EXIT_REFUSED


def _preview_lines(value: Value) -> Iterator[str]:
    if value["state"] != "waiting":
        yield f"no preview: {value['message']} ({value['code']})"
        return
    counts = ", ".join(f"{value[name]} {name}" for name in ("added", "changed", "removed", "kept"))
    yield f"{counts}; {size_text(value['bytes'])} to write from '{value['archive']}'"
    for name in value["lost"]:
        yield f"  lost: {name}"
    if note := value.get("message"):
        yield note
    yield "carry it out: edge-backup finalize; remove it: edge-backup discard"
