"""`history` and `show`: what became of the jobs that ended, for people, with times in UTC."""

import argparse
from collections.abc import Iterator

from agent.cli.api_client import Agent, Value, in_path
from agent.cli.local import local_parser, run_local, shown_time, write_value
from agent.send.progress import size_text

MOST_IN_A_PAGE = 100

_ROW = "{:20}  {:8}  {:16}  {:>8}  {:16}  {}"


def history(argv: list[str]) -> int:
    def tell(agent: Agent, options: argparse.Namespace) -> None:
        if not options.json:
            heading = _ROW.format("ended", "kind", "result", "size", "id", "correlation id")
            write_value({}, [heading], as_json=False)
        for entry in _entries(agent, options.limit):
            write_value(entry, [_row(entry)], as_json=options.json)

    parser = local_parser("history", "List the jobs that ended, newest first.")
    parser.add_argument("--limit", type=int, default=20, help="largest number of jobs (default: 20)")
    return run_local(parser, argv, tell)


def show(argv: list[str]) -> int:
    def tell(agent: Agent, options: argparse.Namespace) -> None:
        entry = agent.get(f"/jobs/{in_path(options.id)}")
        lines = (line for key, value in entry.items() for line in _lines(key, value))
        write_value(entry, lines, as_json=options.json)

    parser = local_parser("show", "Show all that is known of one job.")
    parser.add_argument("id", help="id of the job, or correlation id of its command")
    return run_local(parser, argv, tell)


def _entries(agent: Agent, limit: int) -> Iterator[Value]:
    """Yield the jobs that have ended, newest first, a page at a time."""
    before: dict[str, str] = {}
    while limit > 0:
        page = agent.get("/jobs", limit=min(limit, MOST_IN_A_PAGE), **before)
        entries = [job for job in page["jobs"] if "endTime" in job]
        yield from entries
        limit -= len(entries)
        if "next" not in page:
            return
        before = {"before": page["next"]}


def _row(entry: Value) -> str:
    size_bytes = entry.get("archiveBytes", entry.get("addedBytes"))
    size = "" if size_bytes is None else size_text(size_bytes)
    result = entry.get("statusCode") or entry["state"].lower()
    title = f"{entry['correlationId']} ({entry['name']})" if "name" in entry else entry["correlationId"]
    return _ROW.format(shown_time(entry["endTime"]), entry["kind"], result, size, entry["id"], title)


def _lines(key: str, value: object) -> Iterator[str]:
    if isinstance(value, list):
        yield f"{key:16}{len(value)}"
        for item in value:
            parts = item.values() if isinstance(item, dict) else [item] if isinstance(item, str) else item
            yield f"  {': '.join(map(str, parts))}"
    elif value not in ("", None):
        yield f"{key:16}{_text(key, value)}"


def _text(key: str, value: object) -> str:
    if key.endswith("Bytes") and isinstance(value, int):
        return f"{size_text(value)} ({value} bytes)"
    return shown_time(value) if key.endswith("Time") and isinstance(value, str) else str(value)
