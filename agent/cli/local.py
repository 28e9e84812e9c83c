"""The command line beside a running agent: which agent is asked, and how its answers are printed.

There is one agent and one job: all commands here ask it, and do nothing themselves.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable

from agent.base.text import printable
from agent.cli import settings_of
from agent.cli.api_client import Agent, AgentRefused, NotAnswered, Value, elsewhere, on_this_device
from agent.faces.unix_address import http_socket
from agent.send.options import UnusableOption

EXIT_OK, EXIT_REFUSED, EXIT_USAGE, EXIT_NO_AGENT = 0, 1, 2, 3
_STATUS = {UnusableOption: EXIT_USAGE, AgentRefused: EXIT_REFUSED, NotAnswered: EXIT_NO_AGENT}


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
    """Call `act` with the agent that the arguments mean; return its exit status, 0 for None."""
    parser.add_argument("--url", metavar="URL", help="ask the agent of another device, at this address")
    parser.add_argument("--token-file", metavar="FILE", help="file with the token of that device")
    parser.add_argument(
        "--ca-file", metavar="FILE", help="authorities of its certificate, if not the system's"
    )
    options = parsed_with_settings(parser, argv)
    try:
        agent = _agent(parser, options)
        return EXIT_USAGE if agent is None else act(agent, options) or EXIT_OK
    except (UnusableOption, AgentRefused, NotAnswered) as error:
        sys.stderr.write(f"{printable(str(error))}\n")
        return _STATUS[type(error)]


def parsed_with_settings(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Parse the arguments of a command, with settings among them in any order."""
    from agent.cli.settings import add_settings, two_dashes

    add_settings(parser)
    return parser.parse_intermixed_args(two_dashes(argv))


def _agent(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Agent | None:
    """Return the agent at the URL, else the one of the settings; None when those are wrong."""
    from agent.cli.settings import first_setting

    if options.url:
        if name := first_setting(options):
            parser.error(f"--{name} says which agent of this device is meant, --url another's: keep one")
        return elsewhere(options.url, options.token_file, options.ca_file)
    if options.token_file or options.ca_file:
        parser.error("--token-file and --ca-file go with --url")
    loaded = settings_of(options)
    if loaded is None:
        return None
    return on_this_device(http_socket(loaded.settings), loaded.settings.storage)


def shown_time(text: str) -> str:
    """Return a time of an answer to the second, marked as UTC."""
    return f"{text[:10]} {text[11:19]}Z"


def write_value(value: Value, lines: Iterable[str], *, as_json: bool) -> None:
    """Print a value as JSON, else the lines that say it to people: names in them may have any letters."""
    text = json.dumps(value, ensure_ascii=False) if as_json else "\n".join(map(printable, lines))
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
