"""`edge-backup status` and `info`: what the agent does now, and what a backup would save and skip."""

import argparse
import sys
from collections.abc import Iterator
from datetime import timedelta

from agent.base.text import counted
from agent.cli.api_client import Agent, Value
from agent.cli.local import local_parser, run_local, shown_time, write_value
from agent.send.progress import ProgressLine, progress_text, size_text


def status(argv: list[str]) -> int:
    """Print what runs now; with `--follow` until nothing runs."""
    parser = local_parser("status", "Show what the agent on this device is doing.")
    parser.add_argument("--follow", action="store_true", help="follow the job until it has ended")
    return run_local(parser, argv, _show_status)


def _show_status(agent: Agent, options: argparse.Namespace) -> None:
    if options.follow:
        _follow_status(agent, as_json=options.json)
    else:
        value = agent.get("/status")
        write_value(value, _status_lines(value), as_json=options.json)


def _follow_status(agent: Agent, *, as_json: bool) -> None:
    line = ProgressLine(sys.stdout)

    def show() -> bool:
        """Show what runs now, on a terminal in one line; return True while a job runs."""
        value = agent.get("/status")
        if line.is_terminal and value["job"] and not as_json:
            line.show(_status_line(value))
        else:
            line.clear()
            write_value(value, _status_lines(value), as_json=as_json)
        return value["job"] is not None

    with agent.events("/events") as events:
        if show():
            changes = (event for event in events if event.name in ("jobProgressed", "reset"))
            while next(changes) and show():
                pass


def _status_lines(value: Value) -> Iterator[str]:
    yield _status_line(value)
    if problem := value.get("problem"):
        yield problem
    for place, problem in value.get("retention", {}).items():
        yield f"retention at {place}: {problem}"
    for name, schedule in value.get("schedules", {}).items():
        yield from _schedule_lines(name, schedule)
    yield from _waiting_lines(value)


def _waiting_lines(value: Value) -> Iterator[str]:
    """Yield a line for the preview in an answer, and one for each pending upload."""
    if preview := value.get("preview"):
        yield f"preview {preview['correlationId']}: {_preview_text(preview)}"
    for upload in value.get("uploads", ()):
        state = "is being sent" if upload["state"] == "UPLOADING" else "waits for its upload"
        yield f"upload {upload['id']}: {upload['archive']}, {size_text(upload['bytes'])}, {state}"
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
        return _job_line(job)
    if not last:
        return "idle"
    why = f" ({last['statusCode']}: {last['message']})" if last["statusCode"] else ""
    ended = f"{last['state'].lower()} {shown_time(last['endTime'])}{why}"
    return f"idle; last: {last['kind']} {last['correlationId']} {ended}"


def _job_line(job: Value) -> str:
    return f"{job['kind']} {job['correlationId']}: {progress_text(job)}"


def info(argv: list[str]) -> int:
    def act(agent: Agent, options: argparse.Namespace) -> None:
        value = agent.get("/info")
        write_value(value, _info_lines(value), as_json=options.json)

    parser = local_parser("info", "Show what a backup would save and skip now, and where it could go.")
    return run_local(parser, argv, act)


def _info_lines(value: Value) -> Iterator[str]:
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
    if more := value.get("leftOutMore"):
        yield f"  and {more} more"
    for name, target in value["targets"].items():
        yield f"target {name}: {_target(target)}"
    for name in value["stores"]:
        yield f"store {name}"
    yield from _waiting_lines(value)
    if job := value["job"]:
        yield _job_line(job)


def _counts(counts: Value) -> str:
    if "problem" in counts:
        return str(counts["problem"])
    parts = [f"{counted(counts['files'], 'file')}, {size_text(counts['bytes'])}"]
    parts += [f"{counts[key]} {key}" for key in ("excluded", "unexportable") if counts[key]]
    return ", ".join(parts)


def _target(target: Value) -> str:
    return f"{size_text(target['freeBytes'])} free" if target["present"] else str(target["problem"])
