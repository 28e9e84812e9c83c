"""`edge-backup backup` and `verify`: jobs that somebody at the device asks the running agent for."""

import argparse
import json
import os

from agent.cli.api_client import Agent
from agent.cli.follow import add_archive_options, add_options, archive_options_of, carried_out, options_of
from agent.cli.local import local_parser, run_local


def backup(argv: list[str]) -> int:
    """Make a backup now."""
    parser = local_parser("backup", "Let the agent on this device make a backup now, and wait for its end.")
    parser.add_argument("--dir", metavar="PATH", help="directory to save (default: the setting 'dir')")
    parser.add_argument(
        "--data-type", metavar="NAME", action="append", help="data set to save instead; may be repeated"
    )
    parser.add_argument(
        "--path", metavar="PATH", action="append", help="save only this file or directory; may be repeated"
    )
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="write the archive into this file, replacing an existing one",
    )
    parser.add_argument("--store", metavar="NAME", help="store of the settings to send the archive to")
    parser.add_argument("--name", help="first part of the archive's name (default: backup)")
    parser.add_argument("--description", metavar="TEXT", help="description for people")
    parser.add_argument(
        "--retention-date",
        metavar="TIME",
        help="when the archive may be removed, such as 2027-01-31T12:00:00Z",
    )
    parser.add_argument(
        "--exclude", metavar="PATTERN", action="append", help="pattern of files to exclude; may be repeated"
    )
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
    """Check every byte of an archive."""
    parser = local_parser(
        "verify",
        "Let the agent fetch an archive and check every byte, and wait for the end.",
    )
    add_archive_options(parser)
    add_options(parser)

    def act(agent: Agent, parsed: argparse.Namespace) -> int:
        options = options_of(parsed, archive_options_of(parsed))
        return carried_out(agent, "verify", options, parsed)

    return run_local(parser, argv, act)
