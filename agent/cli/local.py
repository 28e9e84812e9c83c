"""The command line beside a running agent: which agent is asked, and the first of its commands, `status`.

There is one agent and one job: all commands here ask it, and do nothing themselves.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta

from agent.base.text import counted, printable
from agent.cli import leave_closed_pipe, settings_of
from agent.cli.api_client import Agent, AgentRefused, NotAnswered, Value, elsewhere, on_this_device
from agent.faces.unix_address import http_socket
from agent.send.options import UnusableOption
from agent.send.progress import ProgressLine, progress_text, size_text

EXIT_OK, EXIT_REFUSED, EXIT_USAGE, EXIT_NO_AGENT = 0, 1, 2, 3


def status(argv: list[str]) -> int:
    """Print what runs now; with `--follow` until nothing runs."""

    def tell(agent: Agent, options: argparse.Namespace, line: ProgressLine | None = None) -> Value:
        value = agent.get("/status")
        if line and line.is_terminal and value["job"] and not options.json:
            line.show(_status_line(value))
            return value
        if line:
            line.clear()
        write_value(value, _status_lines(value), as_json=options.json)
        return value

    def show(agent: Agent, options: argparse.Namespace) -> None:
        if not options.follow:
            tell(agent, options)
            return
        line = ProgressLine(sys.stdout)
        with agent.events("/events") as events:
            if tell(agent, options, line)["job"]:
                changes = (event for event in events if event.name in ("jobProgressed", "reset"))
                while next(changes) and tell(agent, options, line)["job"]:
                    pass

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
    except UnusableOption as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    except AgentRefused as error:
        sys.stderr.write(f"{printable(str(error))}\n")
        return EXIT_REFUSED
    except NotAnswered as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_NO_AGENT
    except BrokenPipeError:
        leave_closed_pipe()
    return EXIT_OK


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


def _status_lines(value: Value) -> str:
    lines = [_status_line(value), printable(value.get("problem", ""))]
    stays = value.get("retention", {}).items()
    lines += (printable(f"retention at {place}: {problem}") for place, problem in stays)
    for name, schedule in value.get("schedules", {}).items():
        lines += map(printable, _schedule_lines(name, schedule))
    return "\n".join(filter(None, [*lines, *waiting_lines(value)]))


def waiting_lines(value: Value) -> Iterator[str]:
    """Yield a line for the preview in an answer, and one for each pending upload."""
    if preview := value.get("preview"):
        yield printable(f"preview {preview['correlationId']}: {_preview_text(preview)}")
    for upload in value.get("uploads", ()):
        state = "is sent" if upload["state"] == "UPLOADING" else "waits for its upload"
        yield printable(f"upload {upload['id']}: {upload['archive']}, {size_text(upload['bytes'])}, {state}")
    if more := value.get("uploadsMore"):
        yield f"and {counted(more, 'more upload')}"


def _preview_text(preview: Value) -> str:
    if preview["state"] != "waiting":
        return f"{preview['state']} ({preview['code']}: {preview['message']})"
    left = timedelta(seconds=preview["secondsLeft"])
    return f"of '{preview['archive']}', waits for finalize or discard, {left} left"


def _schedule_lines(name: str, schedule: Value) -> Iterator[str]:
    """Yield a line for a schedule, and one for each of its stores when it has several."""
    due = f"next {shown_time(schedule['next'])}" if schedule["next"] else "none is due"
    yield f"schedule {name}: {due}{_standing(schedule)}"
    for store, state in schedule.get("stores", {}).items():
        yield f"  store {store}{_standing(state)}"


def _standing(state: Value) -> str:
    """Return how the last backup ended, and what is late and why."""
    last, why = state["last"], f" ({state['lastError']})" if state["lastError"] else ""
    ended = f", last {last['state'].lower()} {shown_time(last['endTime'])}" if last else ""
    missed = f", {state['missed']} missed" if state["missed"] else ""
    late = ", one is late" if state["late"] else ""
    return f"{ended}{missed}{late}{why}"


def _status_line(value: Value) -> str:
    job, last = value["job"], value["last"]
    if job:
        return printable(f"{job['kind']} {job['correlationId']}: {progress_text(job)}")
    if not last:
        return "idle"
    why = f" ({last['statusCode']}: {last['message']})" if last["statusCode"] else ""
    ended = f"{last['state'].lower()} {shown_time(last['endTime'])}{why}"
    return printable(f"idle; last: {last['kind']} {last['correlationId']} {ended}")


def shown_time(text: str) -> str:
    """Return a time of an answer to the second, marked as UTC."""
    return f"{text[:10]} {text[11:19]}Z"


def write_value(value: Value, text: str, *, as_json: bool) -> None:
    sys.stdout.write((json.dumps(value, ensure_ascii=False) if as_json else text) + "\n")
    sys.stdout.flush()
